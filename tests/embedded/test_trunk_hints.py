"""Targets beside the score: places of damages, and measures brought to a normal distribution by their ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mriqa.embedded.trunk_hints import FURTHEST, Hints, by_rank


def test_ranks_become_normal_scores_column_by_column():
    values_NM = np.array([[10.0, 1.0], [1e6, 3.0], [-2.0, 2.0], [11.0, 1.0]])
    expected = norm.ppf([[0.375, 0.25], [0.875, 0.875], [0.125, 0.625], [0.625, 0.25]])  # 1.0 twice: ranks 1 and 2
    np.testing.assert_allclose(by_rank(values_NM), expected, rtol=1e-6)


def test_the_furthest_are_no_further_than_the_limit():
    found_N1 = by_rank(np.arange(5000.0)[:, None])
    assert -found_N1[0] == found_N1[-1] == FURTHEST


def test_pictures_are_found_by_their_ids_in_any_order():
    hints = Hints({"a": "noise", "b": "blur", "c": "noise"}, {"b": (0.5,), "a": (0.1,), "c": (0.9,)})
    damages_B, measures_BM = hints.of(["c", "b"])
    assert hints.damages == ["blur", "noise"] and damages_B.tolist() == [1, 0]
    assert hints.measures == 1 and measures_BM.dtype == torch.float32
    assert measures_BM[0] > 0 == measures_BM[1]
    with pytest.raises(KeyError):
        hints.of(["d"])
