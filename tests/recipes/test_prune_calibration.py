"""Pruning on selected calibration images: small runs report every selector, and an interrupted one goes on."""

from __future__ import annotations

import json

import prune_calibration as recipe
import pytest


def test_a_small_run(tiny_model, manifest, tmp_path):
    options = ["--model", str(tiny_model), "--manifest", str(manifest), "--test_manifest", str(manifest)]
    options += ["--budget", "3", "--seeds", "1"]
    assert recipe.main([*options, "--output", str(tmp_path / "half"), "--target", str(manifest)]) == 0
    results = json.loads((tmp_path / "half" / "results.json").read_text())
    assert set(results["after"]) == set(recipe.DEFAULT_SELECTORS)
    assert all(0.45 < own["flops"] < 0.55 for (own,) in results["after"].values())  # half of every linear layer
    lines = (tmp_path / "half" / "results.md").read_text().splitlines()
    assert lines[0] == "| calibrated on | FLOPs | SRCC | PLCC |" and len(lines) == 3 + len(results["after"])

    nothing = [*options, "--share", "0", "--selectors", "random", "--output", str(tmp_path / "none")]
    assert recipe.main(nothing) == 0
    untouched = json.loads((tmp_path / "none" / "results.json").read_text())
    (after,) = untouched["after"]["random"]
    assert after["flops"] == pytest.approx(1, abs=0.01)
    assert {key: after[key] for key in ("srcc", "plcc")} == untouched["before"] == results["before"]
    assert recipe.main([*nothing[:-3], "herding", *nothing[-2:]]) == 0
    assert set(json.loads((tmp_path / "none" / "prunings.json").read_text())["results"]) == {
        "before", "random / 0", "herding / 0"
    }  # fmt: skip


def test_a_network_is_trained_and_pruned_by_rate_and_distortion(manifest, tmp_path):
    options = ["--network", "timm:test_resnet", "--random_weights", "--crop", "32", "--epochs", "1", "--budget", "0.5"]
    options += [
        "--manifest",
        str(manifest),
        "--test_manifest",
        str(manifest),
        "--seeds",
        "1",
        "--output",
        str(tmp_path),
    ]
    assert recipe.main([*options, "--selectors", "random", "q_diverse"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    for (own,) in results["after"].values():
        assert 0 < own["flops"] < 1 and own["gflops"] > 0
    assert recipe.parse_arguments(options).share == 0.2


def test_it_says_what_is_missing(tiny_model, manifest, tmp_path, capsys):
    options = ["--model", str(tiny_model), "--manifest", str(manifest), "--test_manifest", str(manifest)]
    assert recipe.main([*options, "--budget", "7", "--output", str(tmp_path)]) == 2
    assert "budget is 7, but there are 6" in capsys.readouterr().err
    assert "presta" not in recipe.parse_arguments(options).selectors
    for wrong in (["--network", "embedded"], ["--share", "0.95"]):
        with pytest.raises(SystemExit):
            recipe.parse_arguments([*options, *wrong])
