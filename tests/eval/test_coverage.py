"""The coverage report: its numbers by definition, its files, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from mriqa.eval.coverage import coverage, coverage_report

GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.uniform(1, 5, 60)
CHOSEN = GENERATOR.choice(60, 15, replace=False)
DISTORTIONS = [("jpeg", "blur", None)[place % 3] for place in range(60)]


def test_numbers_by_definition():
    found = coverage(SCORES, CHOSEN, DISTORTIONS)
    score = found["score"]
    assert (found["rows"], found["selected"]) == (60, 15)
    for name, own in (("all", SCORES), ("selected", SCORES[CHOSEN])):
        low = np.array(score["edges"][:-1])
        expected = [int(((own >= left) & (own < left + 0.25)).sum()) for left in low]
        assert score[name]["counts"] == expected
        assert score[name]["mean"] == pytest.approx(own.mean()) and score[name]["std"] == pytest.approx(own.std())
    assert score["largest_difference"] == pytest.approx(ks_2samp(SCORES, SCORES[CHOSEN]).statistic)
    assert coverage(SCORES, np.arange(60))["score"]["largest_difference"] == 0
    for name in ("jpeg", "blur", "none"):
        own = [place for place in CHOSEN if (DISTORTIONS[place] or "none") == name]
        assert found["distortions"][name] == {"all": 20, "selected": len(own)}


def test_picture_and_numbers_lie_side_by_side(tmp_path):
    features = GENERATOR.normal(size=(60, 8))
    path = tmp_path / "report" / "mine.png"
    coverage_report(SCORES, CHOSEN, path, features, DISTORTIONS, "title", {"selector": "random"})
    wide = Image.open(path).size
    stored = json.loads(path.with_suffix(".json").read_text())
    assert stored["selector"] == "random" and stored["score"] == coverage(SCORES, CHOSEN)["score"]
    coverage_report(SCORES, CHOSEN, path)
    assert Image.open(path).size[0] < wide[0] / 2  # one panel instead of three
    coverage_report(SCORES, CHOSEN, path, np.zeros((60, 3)))  # constant features


@pytest.mark.parametrize(
    ("chosen", "distortions", "says"),
    [
        ([], None, "Nothing is selected"),
        ([1, 1], None, "must be different places"),
        ([60], None, "in 0..59"),
        ([1], ["jpeg"], "1 distortions for 60 scores"),
    ],
)
def test_what_it_refuses(chosen, distortions, says):
    with pytest.raises(ValueError, match=says):
        coverage(SCORES, chosen, distortions)
