"""How sure a mean over repeated random splits is: the corrected resampled t-test.

Splits of one data set share most of their training items, so ten of them are not ten experiments, and a plain t
interval of their mean is far too narrow. Nadeau and Bengio ("Inference for the generalization error", Machine Learning
52, 2003, section 4) add the share that test and training bear to each other to the variance: s² (1 / J + n_test /
n_train), with J − 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from .intervals import Measure


def over_splits(values: Sequence[float], test_share: float, confidence: float = 0.95) -> Measure:
    """The mean of a measure, or of the difference of two, over J random splits, with its interval.

    Arguments:
        values: one a split (J,).
        test_share: of the items, or contents, that are drawn to test on, in (0, 1).
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: no values, or a share or confidence out of range.
    """
    if not values:
        raise ValueError("There is no split to take the mean of.")
    if not (0 < test_share < 1 and 0 < confidence < 1):
        raise ValueError(f"test_share and confidence must lie in (0, 1), not {test_share} and {confidence}.")
    values_J = np.asarray(values, dtype=np.float64)
    mean, count = float(values_J.mean()), len(values_J)
    if not math.isfinite(mean):
        return Measure(None, reason="The measure is undefined in a split.")
    if count < 2:
        return Measure(mean, reason="No interval: there is only one split.")
    deviation = math.sqrt(float(values_J.var(ddof=1)) * (1 / count + test_share / (1 - test_share)))
    half = float(t.ppf((1 + confidence) / 2, count - 1)) * deviation
    return Measure(mean, mean - half, mean + half)
