"""Metrics of a validation pass: only parsed images count, and too few of them give NaN."""

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from mriqa.policy.validation import correlations

METRICS = {"srcc": lambda a, b: spearmanr(a, b).statistic, "plcc": lambda a, b: pearsonr(a, b).statistic}


def test_unparsed_images_are_left_out_and_counted() -> None:
    predicted, mos = np.array([1.0, np.nan, 3.0, 2.5]), np.array([1.5, 5.0, 4.0, 4.5])
    values = correlations(predicted, mos, METRICS)
    assert values["parse_rate"] == 0.75
    assert values["srcc"] == pytest.approx(0.5)  # ranks 1 3 2 against 1 2 3
    assert values["plcc"] == pytest.approx(np.corrcoef([1.0, 3.0, 2.5], [1.5, 4.0, 4.5])[0, 1])


@pytest.mark.parametrize("predicted", [[np.nan, np.nan, 3.0], [2.0, 2.0, 2.0]])
def test_no_correlation_without_two_different_scores(predicted: list[float]) -> None:
    values = correlations(np.array(predicted), np.array([1.0, 2.0, 3.0]), METRICS)
    assert math.isnan(values["srcc"]) and math.isnan(values["plcc"])
