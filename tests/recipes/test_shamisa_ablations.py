"""The comparison of ablations: runs each by its name, resumes, refuses other settings, and says mean ± deviation."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest
from PIL import Image

from recipes.shamisa_ablations import main

QUICK = {
    "architecture": "test_resnet", "weights": "random", "crop": 32, "tiny_batches": 1, "groups": 2, "levels": 2,
    "neighbours": 4, "prototypes": 8, "embedding": 16, "workers": 0, "log_every": 1, "diagnose_every": 2, "cpu": "true",
    "steps": 2,
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("unshared_accelerator")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for place in range(12):
        pixels = generator.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((400, 400), Image.Resampling.BICUBIC).save(folder / f"{place}.png")
    return folder


def test_ablations_are_compared_and_a_second_run_goes_on(photos, tmp_path, capsys):
    out = tmp_path / "out"
    common = ["--photos", str(photos), "--output", str(out), "--images", "40", "--crop", "32"]
    behind = ["--", *(text for name, value in QUICK.items() for text in (f"--{name}", str(value)))]
    assert main([*common, "--ablations", "A0", "--seeds", "0", *behind]) == 0
    before = json.loads((out / "results.json").read_text())["encoders"]
    assert set(before) == {"before", "A0-0"} and 0 < before["A0-0"]["largest weight"] < 1

    assert main([*common, "--ablations", "A0", "B7", "--seeds", "0", "1", *behind]) == 0
    found = json.loads((out / "results.json").read_text())["encoders"]
    assert set(found) == {"before", "A0-0", "A0-1", "B7-0", "B7-1"} and found["A0-0"] == before["A0-0"]
    srcc = [found[f"B7-{seed}"]["distorted"] for seed in (0, 1)]
    row = next(line for line in (out / "results.md").read_text().splitlines() if line.startswith("| B7"))
    assert f"| {statistics.mean(srcc):.3f} ± {statistics.stdev(srcc):.3f} |" in row
    log = (out / "runs" / "B7-0" / "progress.jsonl").read_text().splitlines()
    assert set(json.loads(log[-1])["omega"]) == {"rd", "dd", "rr"}

    capsys.readouterr()
    assert main([*common, "--ablations", "A0", "--seeds", "0", *behind, "--learning_rate", "0.02"]) == 2
    assert "of other settings" in capsys.readouterr().err
