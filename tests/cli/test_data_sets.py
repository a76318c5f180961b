"""`mriqa data` and `mriqa audit`, run as users run them."""

from __future__ import annotations

import json

import pytest
from official_trees import agiqa3k, csiq, flive, kadid10k, koniq10k, picture, waterloo
from typer.testing import CliRunner

from mriqa.cli import app
from mriqa.datasets.catalogue import DATA_SETS
from mriqa.manifest import read_manifest


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def prepare(name, root, out, *more):
    return run("data", "prepare", name, "--root", root, "--out", out, "--allow-partial", *more)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_list_names_every_set_with_home_and_licence():
    shown = run("data", "list")
    assert shown.exit_code == 0
    for name, known in DATA_SETS.items():
        assert name in shown.output and known.home in shown.output and known.licence in shown.output
    assert "10,125" in shown.output and "lower" in shown.output


def test_prepare_then_read_without_options(tmp_path):
    csiq(tmp_path / "csiq")
    done = prepare("csiq", tmp_path / "csiq", tmp_path / "csiq.jsonl")
    assert done.exit_code == 0 and "Wrote 3 rows of CSIQ" in done.output and "0..1 (lower is better)" in done.output
    assert "Partial: csiq.DMOS.xlsx lists 3 of 866 pictures" in done.output
    assert [row["mos"] for row in rows_of(tmp_path / "csiq.jsonl")] == pytest.approx([0.2, 0.4, 0.6])
    assert [row.mos for row in read_manifest(tmp_path / "csiq.jsonl")] == pytest.approx([4.2, 3.4, 2.6])


def test_a_file_for_each_part_and_no_leak_between_them(tmp_path):
    """Distorted pictures of one reference go to one part, so the parts share no content."""
    kadid10k(tmp_path / "kadid", references=4)
    out = tmp_path / "kadid_{part}.jsonl"
    assert prepare("kadid10k", tmp_path / "kadid", out, "--split", "random").exit_code == 0
    files = [tmp_path / f"kadid_{part}.jsonl" for part in ("training", "validation", "test")]
    assert sum(len(rows_of(path)) for path in files) == 24
    clean = run("audit", *files)
    assert clean.exit_code == 0 and clean.output.startswith("No leak between"), clean.output

    before = files[0].read_bytes()
    refused = prepare("kadid10k", tmp_path / "kadid", out, "--split", "random", "--split-index", "1")
    assert refused.exit_code == 2 and "exists already" in refused.output and files[0].read_bytes() == before

    other = tmp_path / "other_{part}.jsonl"
    assert prepare("kadid10k", tmp_path / "kadid", other, "--split", "random", "--split-index", "1").exit_code == 0
    leaky = run("audit", tmp_path / "other_training.jsonl", files[2])
    assert leaky.exit_code == 1 and "share" in leaky.output


def test_the_official_split_and_one_part_of_it(tmp_path):
    koniq10k(tmp_path / "koniq")
    out = tmp_path / "test.csv"
    done = prepare("koniq10k", tmp_path / "koniq", out, "--part", "test", "--normalise", "minmax")
    assert done.exit_code == 0 and "1..5, from the observed range" in done.output
    (row,) = read_manifest(out)
    assert row.mos == pytest.approx(1 + 4 * (3.0 - 1.096) / (4.31 - 1.096)) and row.std == 0.0
    flive(tmp_path / "flive")
    assert prepare("flive", tmp_path / "flive", tmp_path / "flive.jsonl", "--split", "official").exit_code == 0
    assert {row["split"] for row in rows_of(tmp_path / "flive.jsonl")} == {"training", "validation", "test"}


def test_images_elsewhere_are_said(tmp_path):
    agiqa3k(tmp_path / "data")
    out = tmp_path / "manifests" / "agiqa.jsonl"
    done = prepare("agiqa3k", tmp_path / "data", out)
    assert done.exit_code == 0 and "as the image root" in done.output
    assert len(read_manifest(out, image_root=tmp_path)) == 4


def test_an_unlabelled_set_has_one_sentence_where_scores_are_needed(tmp_path):
    waterloo(tmp_path / "waterloo")
    assert prepare("waterloo", tmp_path / "waterloo", tmp_path / "pool.jsonl").exit_code == 0
    refused = run("eval", "--manifest", tmp_path / "pool.jsonl")
    assert refused.exit_code == 2 and refused.output.startswith("Error: No row of manifest")
    assert len(refused.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["koniq"], "did you mean 'koniq10k'"),
        (["koniq10k"], "is not complete"),
        (["koniq10k", "--root", "nowhere"], "does not exist"),
        (["koniq10k", "--allow-partial", "--labels", "std"], "choose one of: mos, zscore"),
        (["koniq10k", "--allow-partial", "--split-file", "none.txt"], "does not exist"),
        (["koniq10k", "--out", "x.txt"], "must end in one of"),
        (["spaq", "--out", "spaq_{part}.jsonl"], "has no label file"),
    ],
)
def test_what_cannot_be_prepared_is_one_sentence(tmp_path, arguments, says):
    koniq10k(tmp_path / "koniq")
    defaults = ["--root", tmp_path / "koniq", "--out", tmp_path / "out.jsonl"]
    done = run("data", "prepare", *defaults, *arguments)
    assert done.exit_code == 2 and says in done.output and done.output.startswith("Error: ")
    assert len(done.output.strip().splitlines()) == 1 and not (tmp_path / "out.jsonl").exists()


def test_audit_of_name_lists_without_pictures(tmp_path):
    (tmp_path / "val.txt").write_text("".join(f"koniq/{place}.jpg\n" for place in range(0, 20, 2)))
    (tmp_path / "test.txt").write_text("".join(f"koniq/{place}.jpg\n" for place in range(20)))
    (tmp_path / "train.txt").write_text("".join(f"koniq/{place}.jpg\n" for place in range(20, 40)))
    leaky = run("audit", tmp_path / "val.txt", tmp_path / "test.txt")
    assert leaky.exit_code == 1 and "share 10 by name:" in leaky.output and "and 5 more" in leaky.output
    assert "10 of 10 pictures" in leaky.output and "compared by names and contents only" in leaky.output
    assert run("audit", tmp_path / "train.txt", tmp_path / "test.txt").exit_code == 0


def test_audit_of_one_manifest_by_its_parts(tmp_path):
    for place in range(3):
        picture(tmp_path / f"{place}.png", place)
    rows = [
        {"image": f"{place}.png", "content": "a dog", "split": part} for place, part in enumerate(["train", "test"])
    ]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    leaky = run("audit", tmp_path / "all.jsonl")
    assert leaky.exit_code == 1 and "share 1 by content" in leaky.output and "'a dog': 1 and 1 rows" in leaky.output


@pytest.mark.parametrize("case", ["one without parts", "twice", "half of its pictures", "unreadable", "missing"])
def test_what_cannot_be_audited_is_not_called_clean(tmp_path, case):
    picture(tmp_path / "1.png", 1)
    picture(tmp_path / "2.png", 2)
    (tmp_path / "a.txt").write_text("1.png\n")
    (tmp_path / "b.txt").write_text("2.png\n" + ("3.png\n" if case == "half of its pictures" else ""))
    if case == "unreadable":
        (tmp_path / "2.png").write_bytes(b"no picture")
    names = {"one without parts": ["a"], "twice": ["a", "a"], "missing": ["a", "c"]}.get(case, ["a", "b"])
    done = run("audit", *(tmp_path / f"{name}.txt" for name in names))
    assert done.exit_code == 2 and "Error: " in done.output and "No leak" not in done.output
