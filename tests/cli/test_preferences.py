"""`mriqa ppr`, run as users run it, against the definition of PPR and PPC."""

from __future__ import annotations

import json

import numpy as np
import pytest
from moments_encoder import ENCODER, moments
from PIL import Image
from typer.testing import CliRunner

from mriqa.cli import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sets of noise, one rated by darkness on 0..100 and one by brightness."""
    folder = tmp_path_factory.mktemp("ppr")
    generator = np.random.default_rng(0)
    for name, sign in (("dark", -1), ("light", 1)):
        lines = []
        for index in range(20):
            level, spread = generator.uniform(60, 200), generator.uniform(2, 40)
            pixels = generator.normal(level, spread, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}{index}.png")
            lines.append({"image": f"{name}{index}.png", "mos": 50 + sign * (level - 130) / 4 - spread / 4})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def run(folder, out, *arguments: object):
    options = ["ppr", folder / "dark.jsonl", f"l={folder / 'light.jsonl'}", "--scale", "dark=0:100"]
    options += ["--encoder", ENCODER, "--cache", folder / "cache", "--out", out, *arguments]
    return CliRunner().invoke(app, [str(option) for option in options])


def test_the_tables_are_those_of_the_definition(folder, tmp_path):
    out = tmp_path / "ppr"
    done = run(folder, out, "--scale", "l=0:100", "--draws", "5", "--fraction", "0.5", "--fraction", "1")
    assert done.exit_code == 0, done.output
    found = json.loads((out / "ppr.json").read_text())
    pprs = {}
    for name, file in (("dark", "dark"), ("l", "light")):
        rows = [json.loads(line) for line in (folder / f"{file}.jsonl").read_text().splitlines()]
        features = moments([Image.open(folder / row["image"]) for row in rows])
        pprs[name] = [np.corrcoef(column, [row["mos"] for row in rows])[0, 1] for column in features.T]
        np.testing.assert_allclose(found["ppr"][name], pprs[name], atol=1e-4)
    a, b = np.array(pprs["dark"]), np.array(pprs["l"])
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert found["ppc"]["dark"][1] == pytest.approx(expected, abs=1e-4)
    assert f"{expected:.3f}" in (out / "ppc.md").read_text() and f"{expected:.3f}" in done.output
    half, whole = found["stability"]["l"]
    assert (whole["mean"], whole["std"]) == (pytest.approx(1), pytest.approx(0, abs=1e-9)) and half["mean"] < 1
    assert "| labels used | 50 % | 100 % |" in (out / "stability.md").read_text()
    for name in ("ppc.png", "stability.png"):
        assert min(Image.open(out / name).size) > 300
    refused = run(folder, out, "--scale", "l=0:100")
    assert refused.exit_code == 2 and "exists already" in refused.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scale", "x=0:100"], "no set 'x' among dark, l"),
        (["--scale", "0:100"], "NAME=VALUE"),
        (["--scale", "l=0:100", "--fraction", "0"], "fraction 0.0"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(folder, tmp_path, arguments, says):
    done = run(folder, tmp_path / "out", *arguments)
    assert done.exit_code == 2 and says in done.output and not (tmp_path / "out").exists()
