"""Parts of a data set, each measured alone."""

import numpy as np
import pytest
from scipy import stats

from mriqa.eval.statistics import break_down, quality_ranges


def test_each_part_is_measured_on_its_own_images():
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, 30)
    pred = mos + rng.normal(0.5, 0.5, 30)
    pred[3] = np.nan
    parts = ["jpeg", "blur", None] * 10
    found = break_down(pred, mos, parts, resamples=0)
    assert list(found) == ["jpeg", "blur"] and found["jpeg"]["n"] == 10
    here = [k for k in range(30) if parts[k] == "jpeg" and not np.isnan(pred[k])]
    assert found["jpeg"]["srcc"].value == pytest.approx(stats.spearmanr(pred[here], mos[here]).statistic)
    assert found["jpeg"]["bias"] == pytest.approx(np.mean(pred[here] - mos[here]))
    assert found["jpeg"]["parse_rate"].value == 0.9


def test_quality_ranges_close_at_the_top():
    assert quality_ranges([1.0, 1.999, 2.0, 4.0, 5.0, 5.1, 0.9]) == ["1–2", "1–2", "2–3", "4–5", "4–5", None, None]


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="1 parts but 2"):
        break_down([1.0, 2.0], [1.0, 2.0], ["a"])
