"""The sheets of examples: which pictures are on them, where, and with which numbers; runs that won't do."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import mriqa.files

GREY = (128, 128, 128)


def run(*options):
    import conord_examples

    return conord_examples.main([str(option) for option in options])


def write_run(folder, rows, tests, **options):
    """A run without its training: options, manifest and one split's predictions; a plain picture for each row."""
    folder.mkdir()
    for row in rows:
        if row["image"].endswith(".png"):
            Image.new("RGB", (60, 40), tuple(row.pop("colour", GREY))).save(folder / row["image"])
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    written = {"manifest": str(folder / "rows.jsonl"), "data": "0", "an_option_of_before": 1, **options}
    (folder / "resolved_config.yaml").write_text(yaml.safe_dump(written))
    (folder / "split-00").mkdir()
    results = {name: {"predictions": predictions} for name, predictions in tests.items()}
    (folder / "split-00" / "result.json").write_text(json.dumps({"tests": results}))
    return folder


@pytest.fixture
def ages(tmp_path):
    """Twenty ages of 0..95; those of place 4 and 13 are far off, and of four neighbours the third is the nearest."""
    rows, predictions = [], []
    for place in range(20):
        rank = 5.0 * place
        off = {4: 40.0, 13: -50.0}.get(place, 0.5 if place % 4 == 2 else 3.0)
        rows.append({"image": f"{place}.png", "age": rank, "colour": (10 * place, 0, 255 - 10 * place)})
        predictions.append({"id": f"{place}.png", "rank": rank, "predicted": rank + off})
    return write_run(tmp_path / "ages", rows, {"test": predictions}, score_key="age", scale="0:116")


def listed(folder, test="test"):
    """What examples.json of the first split says of a test."""
    return json.loads((folder / "split-00" / "examples.json").read_text())[test]


def test_the_best_of_each_part_and_the_worst_are_drawn(ages):
    assert run("--run", ages, "--success", 5, "--failure", 2) == 0
    found = listed(ages)
    assert [one["id"] for one in found["failure"]] == ["13.png", "4.png"]
    assert [one["error"] for one in found["failure"]] == [50, 40]
    # without 4 and 13, eighteen pictures in parts of 4, 4, 4, 3, 3; in the fourth, 14, 15, 16, the first is as near
    assert [one["id"] for one in found["success"]] == ["2.png", "6.png", "10.png", "14.png", "18.png"]
    with Image.open(ages / "split-00" / "examples_test.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    places = {place: int((pixels == (10 * place, 0, 255 - 10 * place)).all(axis=1).sum()) for place in range(20)}
    assert {place for place, count in places.items() if count > 10_000} == {2, 4, 6, 10, 13, 14, 18}


def test_below_each_stand_estimate_and_truth(ages, monkeypatch):
    import conord_examples

    drawn = []
    monkeypatch.setattr(conord_examples, "example_sheet", lambda *given: drawn.append(given))
    assert run("--run", ages, "--success", 1, "--failure", 1) == 0
    ((success, failure), path, title, words) = drawn[0]
    assert path == ages / "split-00" / "examples_test.png" and title == "ages, split-00, test"
    assert words == "estimated [true], age on 0..116"
    assert success.heading.startswith("(a)") and success.examples[0].numbers == [("10.5", "[10.0]")]
    assert failure.heading.startswith("(b)") and failure.examples[0].numbers == [("15.0", "[65.0]")]
    assert failure.examples[0].picture.getpixel((0, 0)) == (130, 0, 125)


@pytest.mark.parametrize(
    ("success", "failure", "counts"), [(8, 8, (4, 3)), (8, 0, (7, 0)), (2, 9, (2, 5)), (0, 3, (0, 3))]
)
def test_a_small_test_is_shared_out(success, failure, counts):
    import conord_examples

    errors_N, ranks_N = torch.arange(7.0), torch.arange(7.0)
    best, worst = conord_examples.best_and_worst(errors_N, ranks_N, success, failure)
    assert (len(best), len(worst)) == counts
    assert worst == list(range(7))[::-1][: len(worst)] and not set(best) & set(worst) and best == sorted(best)


def test_a_gaze_has_both_angles_and_its_error_is_an_angle(tmp_path, monkeypatch):
    import conord_examples

    drawn = []
    monkeypatch.setattr(conord_examples, "example_sheet", lambda *given: drawn.append(given))
    rows = [{"image": f"{place}.png", "pitch": -20.0, "yaw": 30.0 * place} for place in range(2)]
    predictions = [{"id": "0.png", "rank": [-20.0, 0.0], "predicted": [-20.04, 10.0]},
                   {"id": "1.png", "rank": [-20.0, 30.0], "predicted": [-9.0, 30.0]}]  # fmt: skip
    options = {"vector": ["pitch=-40:10", "yaw=-45:45"], "distance": "angular"}
    folder = write_run(tmp_path / "gaze", rows, {"test": predictions}, **options)
    assert run("--run", folder, "--success", 1, "--failure", 1) == 0
    success, failure = drawn[0][0]
    assert success.examples[0].numbers == [("pitch −20.0", "[−20.0]"), ("yaw 10.0", "[0.0]")]
    assert failure.examples[0].numbers == [("pitch −9.0", "[−20.0]"), ("yaw 30.0", "[30.0]")]
    assert listed(folder)["failure"][0]["error"] == pytest.approx(11)
    assert listed(folder)["success"][0]["error"] < 9.5  # 10 degrees of yaw at a pitch of 20
    assert drawn[0][3] == "estimated [true], pitch on -40..10, yaw on -45..45"


def test_each_test_manifest_has_its_sheet_on_its_own_scale(tmp_path):
    rows = [{"image": f"{place}.png", "mos": 25.0 * place} for place in range(4)]
    other = [{"image": f"{place}.png", "mos": 5.0 - place} for place in range(4)]
    tests = {
        "a": [{"id": row["image"], "rank": row["mos"], "predicted": 50.0} for row in rows],
        "b": [{"id": row["image"], "rank": row["mos"], "predicted": 50.0} for row in other],
    }
    folder = tmp_path / "both"
    manifests = [str(folder / "a.jsonl"), str(folder / "b.jsonl")]
    write_run(folder, rows, tests, scale="0:100", test_manifest=manifests, test_scale=["0:100", "1:5"])
    for path, own in zip(manifests, (rows, other), strict=True):
        (folder / path).write_text("\n".join(map(json.dumps, own)))
    assert run("--run", folder, "--success", 1, "--failure", 1) == 0
    assert [(one["id"], one["predicted"]) for one in listed(folder, "a")["success"]] == [("2.png", [50.0])]
    assert [(one["id"], one["predicted"]) for one in listed(folder, "b")["success"]] == [("2.png", [3.0])]
    assert listed(folder, "b")["failure"][0]["id"] == "0.png" and listed(folder, "b")["failure"][0]["error"] == 2
    assert {path.name for path in (folder / "split-00").glob("*.png")} == {"examples_a.png", "examples_b.png"}


def test_of_a_video_its_middle_frame_is_shown(tmp_path, monkeypatch):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    import conord_examples

    drawn = []
    monkeypatch.setattr(conord_examples, "example_sheet", lambda *given: drawn.append(given))
    folder = write_run(tmp_path / "videos", [{"image": "a.mkv", "mos": 3.0}], {
        "test": [{"id": "a.mkv", "rank": 3.0, "predicted": 2.0}]
    })  # fmt: skip
    with av.open(str(folder / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for level in (20, 60, 100, 140, 180):
            pixels = np.full((32, 48, 3), level, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert run("--run", folder, "--failure", 0) == 0
    (example,) = drawn[0][0][0].examples
    assert example.picture.size == (48, 32) and abs(example.picture.getpixel((20, 20))[0] - 100) <= 3


@pytest.mark.parametrize(("break_it", "options", "sentence"), [
    (lambda folder: (folder / "resolved_config.yaml").unlink(), [], "holds no run of recipes/conord.py"),
    (lambda folder: (folder / "resolved_config.yaml").write_text("- 1"), [], "is not what recipes/conord.py writes"),
    (lambda folder: (folder / "split-00" / "result.json").unlink(), [], "has no split that is done"),
    (lambda folder: (folder / "split-00" / "result.json").write_text("{}"), [], "result.json cannot be read"),
    (lambda folder: (folder / "13.png").unlink(), [], "13.png' does not exist"),
    (lambda folder: (folder / "rows.jsonl").unlink(), [], "rows.jsonl does not exist"),
    (lambda folder: (folder / "rows.jsonl").write_text('{"image": "1.png", "age": 3}'), [], "restore the row"),
    (lambda folder: None, ["--split", 3], "has no split 3 that is done"),
    (lambda folder: None, ["--failure", -1], "must be at least 0"),
    (lambda folder: None, ["--success", 0, "--failure", 0], "one of them more"),
])  # fmt: skip
def test_refusals_are_one_sentence_and_leave_no_sheet(ages, capsys, break_it, options, sentence):
    break_it(ages)
    assert run("--run", ages, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert not list(ages.rglob("examples*"))


def test_a_sheet_is_written_whole_or_not_at_all(ages, monkeypatch):
    from matplotlib.figure import Figure

    assert run("--run", ages) == 0
    before = (ages / "split-00" / "examples_test.png").read_bytes()

    def half(self, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(KeyboardInterrupt):
        run("--run", ages, "--success", 3)
    assert (ages / "split-00" / "examples_test.png").read_bytes() == before
    assert not [path for path in ages.rglob(".*") if mriqa.files.HALF_WRITTEN.fullmatch(path.name)]
