"""`mriqa select`, run as users run it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from moments_encoder import ENCODER
from PIL import Image
from typer.testing import CliRunner

from mriqa.cli import app
from mriqa.manifest import read_manifest
from mriqa.selection import SELECTORS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty pictures of noise, the noisier the lower rated on 0..100, and a target of six."""
    folder = tmp_path_factory.mktemp("select")
    generator = np.random.default_rng(0)
    rows = []
    for index in range(26):
        pixels = generator.normal(100 + 3 * index, 4 + 3 * index, (24, 24, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
        rows.append({"image": f"{index}.png", "mos": 100 - 3.5 * index, "distortion": "noise" if index % 3 else "blur"})
    for name, own in (("source", rows[:20]), ("target", rows[20:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    return folder


def run(folder, out, *arguments: object):
    options = ["select", "--manifest", folder / "source.jsonl", "--scale", "0:100", "--out", out, "--encoder", ENCODER]
    options += ["--quality-encoder", ENCODER, "--cache", folder / "cache", *arguments]
    return CliRunner().invoke(app, [str(option) for option in options])


def test_a_subset_for_a_target_with_a_report(folder):
    out, report = folder / "subset.jsonl", folder / "report.png"
    target = ["--target", folder / "target.jsonl", "--target-scale", "0:100"]
    done = run(folder, out, "--selector", "presta", *target, "--budget", "0.3", "--report", report)
    assert done.exit_code == 0 and "Wrote 6 of 20 rows" in done.output and "PPC after" in done.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["selection_order"] for row in rows] == list(range(6))
    assert all(row["selected_by"] == "presta" and "PPC with the target" in row["selection_reason"] for row in rows)
    assert all(row["mos"] == 100 - 3.5 * int(row["image"].removesuffix(".png")) for row in rows)  # as it stood there
    assert len(read_manifest(out, scale="0:100")) == 6
    assert Image.open(report).size[0] > 100
    numbers = json.loads(report.with_suffix(".json").read_text())
    assert sum(one["selected"] for one in numbers["distortions"].values()) == numbers["selected"] == 6

    before = out.read_bytes()
    refused = run(folder, out, "--selector", "random")
    assert refused.exit_code == 2 and "exists already" in refused.output and out.read_bytes() == before
    assert run(folder, folder / "other.jsonl", "--report", report).exit_code == 2
    assert not (folder / "other.jsonl").exists()
    assert run(folder, out, "--selector", "random", "--budget", "4", "--overwrite").exit_code == 0
    assert len(out.read_text().splitlines()) == 4


def test_options_reach_the_selector(folder):
    outputs = []
    for name, gamma in (("a", "0.0"), ("b", "1.0")):
        done = run(folder, folder / f"{name}.csv", "-s", "q_diverse", "-b", "5", "--option", f"gamma={gamma}")
        assert done.exit_code == 0, done.output
        outputs.append((folder / f"{name}.csv").read_text().splitlines())
    assert len(outputs[0]) == len(outputs[1]) == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-s", "prestta"], "did you mean 'presta'"),
        (["-s", "presta"], "chooses for a target"),
        (["-b", "0"], "budget is 0"),
        (["-b", "21"], "budget is 21, but there are 20"),
        (["-b", "many"], "count such as 500 or a fraction"),
        (["--option", "gamma"], "NAME=VALUE"),
        (["--option", "gamma=["], "put it in quotes"),
        (["--option", "gama=1"], "can't take options"),
        (["--encoder", "resnet"], "Unknown encoder"),
        (["--scale", "0:10"], "outside the declared scale"),
        (["--manifest", "nowhere.jsonl"], "does not exist"),
    ],
)
def test_what_cannot_be_selected_is_one_sentence(folder, arguments, says):
    out = folder / "refused.jsonl"
    done = run(folder, out, *arguments)
    assert done.exit_code == 2 and says in done.output and done.output.startswith("Error: ")
    assert len(done.output.strip().splitlines()) == 1 and not out.exists()


def test_help_names_every_selector_and_has_examples():
    shown = CliRunner().invoke(app, ["select", "--help"], terminal_width=200)
    assert shown.exit_code == 0 and "Examples" in shown.output
    assert [name for name in SELECTORS if name not in shown.output] == []
