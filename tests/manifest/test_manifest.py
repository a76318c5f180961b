"""Manifests of every kind and layout: good rows come out on 1..5, bad rows are named with file and line."""

import csv
import json
import math
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from mriqa.manifest import (
    NAMED_SCALES,
    ManifestError,
    RatedImage,
    Scale,
    read_manifest,
    resolve_scale,
    write_manifest,
)

LAB = Path(__file__).parents[3] / "shared" / "data" / "hevc_lab_mos" / "manifest.jsonl"


@pytest.fixture
def folder(tmp_path):
    """A folder `data` with images a.png to d.png, and one image beside the folder."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    for name in ("data/a.png", "data/b.png", "data/c.png", "data/sub/d.png", "outside.png"):
        Image.new("RGB", (8, 6), (ord(name[-5]), 0, 0)).save(tmp_path / name)
    return tmp_path / "data"


def write(folder, rows, name="m.jsonl"):
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=2))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


ROWS = [
    {"image": "a.png", "mos": 1.0, "std": 0.5, "dataset": "x", "content": "p", "id": "1"},
    {"image": "sub/d.png", "mos": 4.123456789012345, "std": None, "dataset": "y", "content": "q", "id": "2"},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_container(folder, suffix):
    expected = [
        RatedImage((folder / "a.png").resolve(), 1.0, 0.5, "x", "p", "1"),
        RatedImage((folder / "sub/d.png").resolve(), 4.123456789012345, None, "y", "q", "2"),
    ]
    rows = read_manifest(write(folder, ROWS, f"m{suffix}"))
    assert rows == expected
    write_manifest(rows, folder / "new" / f"again{suffix}")
    assert read_manifest(folder / "new" / f"again{suffix}", image_root=folder) == expected
    write_manifest(rows, folder / f"here{suffix}")
    assert read_manifest(folder / f"here{suffix}") == expected
    assert not list(folder.rglob(".*"))


def test_defaults(folder):
    (row,) = read_manifest(write(folder, [{"image": "./sub/../a.png", "score": "3.5"}], "mine.csv"))
    assert row == RatedImage((folder / "a.png").resolve(), 3.5, None, "mine", "a.png", "a.png")
    assert read_manifest(folder / "mine.csv", dataset="lab")[0].dataset == "lab"


def test_json_object_that_holds_the_list(folder):
    text = '{"info": {"list": [1, {"a": "]"}]},\n "tags": ["x"],\n "rows": [\n{"image": "a.png", "mos": 2},\n'
    (folder / "m.json").write_text(text + '{"image": "gone.png", "mos": 2}\n], "n": 2}')
    with pytest.raises(ManifestError, match=r"m\.json:5: image 'gone\.png' does not exist"):
        read_manifest(folder / "m.json")
    assert [row.mos for row in read_manifest(folder / "m.json", on_bad_row="skip")] == [2.0]


@pytest.mark.parametrize(
    "key", ["score", "mos", "rating", "human_score", "normalized_score", "gt_score_norm", "gt_score"]
)
@pytest.mark.parametrize("std_key", ["std", "score_std", "mos_std", "std_norm"])
@pytest.mark.parametrize("image_key", ["image", "image_path", "img_path"])
def test_every_key(folder, key, std_key, image_key):
    path = write(folder, [{image_key: "a.png", key: 2.5, std_key: 0.25}])
    assert [(row.mos, row.std) for row in read_manifest(path, check_images=False)] == [(2.5, 0.25)]


def test_several_scores_in_a_row(folder):
    """The layout of DeQA-Score: raw on 0..100, normalised on 1..5."""
    row = {"image": "a.png", "gt_score": 60.0, "gt_score_norm": 3.1, "std": 10.0, "std_norm": 0.4}
    path = write(folder, [row])
    assert [(r.mos, r.std) for r in read_manifest(path)] == [(3.1, 0.4)]
    assert [(r.mos, r.std) for r in read_manifest(path, scale="0:100")] == [(pytest.approx(3.4), pytest.approx(0.4))]
    assert [(r.mos, r.std) for r in read_manifest(path, score_key="gt_score_norm", std_key="std_norm")] == [(3.1, 0.4)]
    del row["std_norm"]  # what is left is on the scale of the other score
    assert read_manifest(write(folder, [row]))[0].std is None


@pytest.mark.parametrize("answer", [3.25, "3.25", "<answer>3.25</answer>"])
def test_conversations(folder, answer):
    turns = [{"from": "human", "value": "<image>How good?"}, {"from": "gpt", "value": answer}]
    path = write(folder, [{"id": 7, "dataset_name": "koniq", "image": ["a.png"], "conversations": turns}])
    assert read_manifest(path) == [RatedImage((folder / "a.png").resolve(), 3.25, None, "koniq", "7", "7")]


def test_conversations_without_a_score(folder):
    turns = [{"from": "human", "value": "Rate 3.5"}, {"from": "gpt", "value": "The quality is good."}]
    with pytest.raises(ManifestError, match="no score"):
        read_manifest(write(folder, [{"image": "a.png", "conversations": turns}]))


@pytest.mark.parametrize(
    "scale, score, mos",
    [
        (Scale(0, 100), 0, 1.0),
        (Scale(0, 100), 25, 2.0),
        (Scale(0, 100, "lower"), 25, 4.0),
        ("csiq", 0.0, 5.0),
        ("agiqa3k", 2.5, 3.0),
        ("-1:1", 0, 3.0),
        ("0:1:lower", 1, 1.0),
        (None, 3.3, 3.3),
    ],
)
def test_scales(folder, scale, score, mos):
    path = write(folder, [{"image": "a.png", "mos": score, "std": 0.125}])
    (row,) = read_manifest(path, scale=scale)
    assert row.mos == pytest.approx(mos, abs=1e-12)
    resolved = resolve_scale(scale)
    assert row.std == pytest.approx(0.125 * 4 / (resolved.high - resolved.low))


def test_scale_per_dataset(folder):
    rows = [{"image": "a.png", "mos": 50, "dataset": "spaq"}, {"image": "b.png", "mos": 0.25, "dataset": "csiq"}]
    path = write(folder, rows)
    assert [r.mos for r in read_manifest(path, scale={"spaq": "spaq", "csiq": Scale(0, 1, "lower")})] == [3.0, 4.0]
    with pytest.raises(ManifestError, match=r"m\.jsonl:2: .*'csiq', for which no scale is declared"):
        read_manifest(path, scale={"spaq": "spaq"})


def test_scale_is_never_guessed(folder):
    with pytest.raises(ManifestError, match=r"2: score 60 is outside the declared scale 1\.\.5"):
        read_manifest(write(folder, [{"image": "a.png", "mos": 3}, {"image": "b.png", "mos": 60}]))
    assert all(scale.to_mos(scale.low) in (1.0, 5.0) for scale in NAMED_SCALES.values())


@pytest.mark.parametrize("make", [lambda: Scale(5, 1), lambda: Scale(0, math.inf), lambda: Scale(0, 1, "up")])
def test_impossible_scales(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize("text", ["", "koniq11k", "1", "a:b", "5:1", "0:1:up"])
def test_unknown_scales(text):
    with pytest.raises(ValueError):
        resolve_scale(text)


BAD = {
    '{"image": "gone.png", "mos": 3}': "does not exist",
    '{"image": "broken.png", "mos": 3}': "truncated|corrupt",
    '{"image": "empty.png", "mos": 3}': "empty",
    '{"image": "sub", "mos": 3}': "does not exist",
    '{"image": "../outside.png", "mos": 3}': "outside the image root",
    '{"image": "/etc/hostname", "mos": 3}': "outside the image root",
    '{"image": "link.png", "mos": 3}': "outside the image root",
    '{"image": "a\\u0000.png", "mos": 3}': "usable path|does not exist",
    '{"image": ["a.png", "b.png"], "mos": 3}': "path of one image",
    '{"image": 5, "mos": 3}': "path of one image",
    '{"mos": 3}': "no image",
    '{"image": "b.png"}': "no score",
    '{"image": "b.png", "mos": null}': "no score",
    '{"image": "b.png", "mos": NaN}': "outside the declared scale",
    '{"image": "b.png", "mos": "nan"}': "outside the declared scale",
    '{"image": "b.png", "mos": Infinity}': "outside the declared scale",
    '{"image": "b.png", "mos": 5.01}': "outside the declared scale",
    '{"image": "b.png", "mos": 0.99}': "outside the declared scale",
    '{"image": "b.png", "mos": true}': "must hold a number",
    '{"image": "b.png", "mos": "good"}': "must hold a number",
    '{"image": "b.png", "mos": {"overall": 3}}': "must hold a number",
    '{"image": "b.png", "mos": 1' + "0" * 400 + "}": "must hold a number",
    '{"image": "b.png", "mos": 3, "std": -1}': "standard deviation",
    '{"image": "b.png", "mos": 3, "std": NaN}': "standard deviation",
    '{"image": "b.png", "mos": 3, "content": ["x"]}': "must hold text",
    '{"image": "a.png", "mos": 4}': "id 'a.png' of line 1",
    '{"image": "b.png", "mos": 3, "id": "a.png"}': "id 'a.png' of line 1",
    '{"image": "b.png", "mos": 3': "not JSON",
    "[1, 2]": "not an object",
    "[" * 100_000: "not JSON",
}


@pytest.fixture
def hostile(folder):
    data = (folder / "a.png").read_bytes()
    (folder / "broken.png").write_bytes(data[: len(data) // 2])
    (folder / "empty.png").touch()
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    return folder


@pytest.mark.parametrize("line", BAD, ids=[reason + str(number) for number, reason in enumerate(BAD.values())])
def test_bad_row_is_reported_with_file_and_line(hostile, line):
    path = write(hostile, [{"image": "a.png", "mos": 3}, "", line])
    with pytest.raises(ManifestError, match=r"1 of 2 rows is bad") as caught:
        read_manifest(path)
    (bad,) = caught.value.bad_rows
    assert (bad.file, bad.line) == (path, 3) and f"{path}:3: " in str(caught.value)
    with pytest.raises(ManifestError, match=BAD[line]):
        read_manifest(path)


def test_skip_writes_rejects_and_keeps_the_rest(hostile, caplog):
    path = write(hostile, [{"image": "a.png", "mos": 3}, *BAD, {"image": "b.png", "mos": 4}])
    rows = read_manifest(path, on_bad_row="skip")
    assert [(row.id, row.mos) for row in rows] == [("a.png", 3.0), ("b.png", 4.0)]
    assert f"Skipped {len(BAD)} of {len(BAD) + 2}" in caplog.text

    def refuse(constant):
        raise AssertionError(f"rejects hold {constant}")

    lines = (hostile / "m.jsonl.rejects.jsonl").read_text().splitlines()
    rejects = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [reject["line"] for reject in rejects] == list(range(2, len(BAD) + 2))
    assert all(reject.keys() == {"file", "line", "reason", "row"} for reject in rejects)
    assert rejects[0] == {
        "file": str(path),
        "line": 2,
        "reason": rejects[0]["reason"],
        "row": {"image": "gone.png", "mos": 3},
    }

    write(hostile, [{"image": "a.png", "mos": 3}])
    read_manifest(path, on_bad_row="skip")
    assert not (hostile / "m.jsonl.rejects.jsonl").exists()


def test_skip_never_overwrites_a_file_of_the_users(folder):
    path = write(folder, [{"image": "a.png", "mos": 3}, {"image": "gone.png", "mos": 3}])
    before = path.read_text()
    for target in (path, folder / "a.png"):
        with pytest.raises(ManifestError, match="not a rejects file"):
            read_manifest(path, on_bad_row="skip", rejects_path=target)
    assert path.read_text() == before
    assert len(read_manifest(path, on_bad_row="skip", rejects_path=folder / "new" / "r.jsonl")) == 1
    assert len((folder / "new" / "r.jsonl").read_text().splitlines()) == 1


def test_all_rows_bad(folder):
    path = write(folder, [{"image": "gone.png", "mos": 3}])
    with pytest.raises(ManifestError, match="All 1 rows"):
        read_manifest(path, on_bad_row="skip")
    assert (folder / "m.jsonl.rejects.jsonl").exists()


def test_unreadable_image_passes_only_unchecked(hostile):
    path = write(hostile, [{"image": "broken.png", "mos": 3}])
    assert len(read_manifest(path, check_images=False)) == 1


def test_paths_inside_the_root(folder):
    (folder / "inner.png").symlink_to("a.png")
    path = write(folder.parent, [{"image": str(folder / "b.png"), "mos": 3}, {"image": "inner.png", "mos": 3}])
    assert [row.id for row in read_manifest(path, image_root=folder)] == ["b.png", "inner.png"]


def test_csv_lines(folder):
    path = folder / "m.csv"
    path.write_text(
        '\ufeffimage, mos ,note\na.png,3,"two\nlines"\n\nb.png,9,\nc.png,3\nc.png,4,\u2028\n', encoding="utf-8"
    )
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert [bad.line for bad in caught.value.bad_rows] == [5, 6]
    assert len(read_manifest(path, on_bad_row="skip")) == 2


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("m.jsonl", "", "is empty"),
        ("m.jsonl", "\n \n", "is empty"),
        ("m.json", "", "is empty"),
        ("m.json", "[]", "is empty"),
        ("m.json", '{"rows": []}', "is empty"),
        ("m.csv", "image,mos\n", "is empty"),
        ("m.parquet", "", "is empty"),
        ("m.json", '{"image": "a.png", "mos": 3}', "it holds none"),
        ("m.json", '{"a": [{}], "b": [{}]}', "it holds 2: a, b"),
        ("m.json", '{"image": "a.png"}\n{"image": "b.png"}', "name it .jsonl"),
        ("m.json", '[{"image": "a.png", "mos": 3}', "not JSON"),
        ("m.json", '[{"image": "a.png", "mos": 3} {"image": "b.png"}]', "not JSON"),
        ("m.json", '[{"image": "a.png", "mos": 3}] x', "not JSON"),
        ("m.json", "3", "it holds none"),
        ("m.csv", "image,image\na.png,3\n", "column twice"),
        ("m.csv", 'image,mos\n"a.png,3\n', "not CSV"),
        ("m.parquet", "nonsense", "not a readable Parquet"),
        ("m.txt", "a.png 3", "must end in one of"),
    ],
)
def test_whole_file_is_bad(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(folder / name)
    assert name in str(caught.value)


def test_missing_manifest_and_root(folder):
    with pytest.raises(ManifestError, match="does not exist"):
        read_manifest(folder / "none.jsonl")
    with pytest.raises(ManifestError, match="not a folder"):
        read_manifest(write(folder, ROWS), image_root=folder / "nowhere")
    with pytest.raises(ValueError, match="on_bad_row"):
        read_manifest(write(folder, ROWS), on_bad_row="ignore")


def test_failed_write_leaves_the_old_file(folder, monkeypatch):
    rows = read_manifest(write(folder, ROWS))
    write_manifest(rows, folder / "kept.jsonl")
    before = (folder / "kept.jsonl").read_text()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_manifest(rows[:1], folder / "kept.jsonl")
    assert (folder / "kept.jsonl").read_text() == before and not list(folder.glob(".*"))


def test_a_manifest_that_may_not_be_read_is_one_sentence(folder, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = write(folder, ROWS)
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(ManifestError, match=r"cannot be read \(Permission denied\)"):
        read_manifest(path)


def test_nothing_to_write(folder):
    with pytest.raises(ManifestError, match="no rated images"):
        write_manifest([], folder / "m.jsonl")
    with pytest.raises(ManifestError, match="written to one of"):
        write_manifest(read_manifest(write(folder, ROWS)), folder / "m.xlsx")


@pytest.mark.skipif(not LAB.is_file(), reason="../shared/data/hevc_lab_mos is not here")
def test_laboratory_manifest():
    rows = read_manifest(LAB, check_images=False)
    assert len(rows) == 219 and len({row.content for row in rows}) == 26
    assert all(1 <= row.mos <= 5 and row.std is not None for row in rows)


def test_relative_image_paths_survive_a_relative_manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("out/data")
    (folder / "images").mkdir(parents=True)
    image = folder / "images" / "a.png"
    Image.new("RGB", (4, 4)).save(image)
    write_manifest([RatedImage(image, 3.0, None, "d", "c", "a")], folder / "rows.jsonl")
    assert json.loads((folder / "rows.jsonl").read_text())["image"] == "images/a.png"
    assert read_manifest(folder / "rows.jsonl")[0].image.is_file()


def test_columns_of_other_names_are_named(folder):
    """Whoever brings a table with names of their own sees which to rename, and what skipping would not cure."""
    with pytest.raises(ManifestError, match=r"image, image_path, img_path; it has filename, quality\)") as raised:
        read_manifest(write(folder, [{"filename": "a.png", "quality": 3}], "mine.csv"))
    assert "skip" not in str(raised.value)
    with pytest.raises(ManifestError, match=r"it has image, quality"):
        read_manifest(write(folder, [{"image": "a.png", "quality": 3}], "mine.csv"))
    with pytest.raises(ManifestError, match=r"on-bad-row skip"):
        read_manifest(write(folder, [{"image": "a.png", "mos": 3}, {"image": "gone.png", "mos": 3}], "mine.csv"))


def test_pictures_elsewhere_name_the_option(folder):
    path = write(folder, [{"image": str(folder.parent / "outside.png"), "mos": 3}], "mine.csv")
    with pytest.raises(ManifestError, match="--image-root names a folder above"):
        read_manifest(path)
    assert len(read_manifest(path, image_root=folder.parent)) == 1
