"""gMAD against SHAMISA's published small case, and a page of it."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mriqa.cli import app
from mriqa.eval.gmad import gmad_pairs

# `shamisa_vectors.json`, "gmad": scores of both sides for 40 pictures, and the pairs that the paper's procedure picks.
DEFENDER = [3.153, 2.373, 2.476, 2.498, 4.95, 3.531, 3.697, 2.32, 3.72, 1.492, 1.207, 4.401, 1.036, 4.915, 4.308, 4.141,
            1.192, 1.83, 4.399, 2.73, 3.51, 1.489, 1.745, 2.989, 4.038, 3.159, 1.428, 4.465, 1.559, 2.759, 3.347, 2.277,
            2.672, 4.548, 2.817, 3.157, 4.882, 2.104, 4.579, 2.447]  # fmt: skip
ATTACKER = [2.489, 1.46, 0.623, 3.501, 2.606, 2.002, 2.612, 3.14, 2.084, 1.598, 0.823, 1.177, 1.414, 3.97, 2.345, 2.469,
            -0.786, -0.425, 2.248, 2.264, 1.636, 1.185, 2.015, 1.889, 2.997, 3.343, -0.389, 3.423, -0.949, 2.087, 2.211,
            0.823, 0.526, 2.667, 1.28, 1.992, 2.021, 1.808, 1.712, 1.164]  # fmt: skip


def test_the_published_case():
    found = gmad_pairs(DEFENDER, ATTACKER, pairs=2)
    low, high = found["low"][0], found["high"][0]
    assert (low.best, low.worst, low.gap) == (12, 16, pytest.approx(2.2))
    assert (high.best, high.worst, high.gap) == (13, 38, pytest.approx(2.258))
    assert (found["low"][1].best, found["low"][1].worst) == (10, 26)  # the two that are left of 10, 12, 16, 26


def test_no_picture_is_paired_twice():
    found = gmad_pairs(DEFENDER, ATTACKER, pairs=50)
    for pairs in found.values():
        assert len(pairs) == 2 and len({place for pair in pairs for place in (pair.best, pair.worst)}) == 4


@pytest.mark.parametrize(
    "defender,attacker,words",
    [([1.0] * 3, [1.0] * 2, "scored 3 pictures"), ([1.0] * 19, [1.0] * 19, "20 pictures, not 19"),
     ([np.nan] * 20, [1.0] * 20, "finite scores")],
)  # fmt: skip
def test_impossible_pools_are_refused(defender, attacker, words):
    with pytest.raises(ValueError, match=words):
        gmad_pairs(defender, attacker)


def test_a_page_from_the_command_line(tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    for place in range(40):
        Image.new("RGB", (32, 24), (6 * place,) * 3).save(pool / f"{place:02d}.png")
    for name, scores in (("calm", DEFENDER), ("wild", ATTACKER)):
        rows = ({"image": f"{place:02d}.png", "score": score} for place, score in enumerate(scores))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = ["-m", f"csv:{tmp_path / 'calm.jsonl'}", "-m", f"csv:{tmp_path / 'wild.jsonl'}"]
    result = CliRunner().invoke(app, ["gmad", str(pool), *models, "--out", str(tmp_path / "gmad.html")])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "gmad.html").read_text()
    assert "calm defends, wild attacks" in page and "2.258" in page and page.count("<img") == 8
    assert "wild calls it better: 12.png; calm 1.04, wild 1.41" in page
    refused = CliRunner().invoke(app, ["gmad", str(pool), *models[:2], "--out", str(tmp_path / "b.html")])
    assert refused.exit_code == 2 and "give --model twice" in " ".join(refused.output.replace("│", " ").split())
