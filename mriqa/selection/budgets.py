"""How many samples a budget means: a fraction or a count.

A Python or numpy **integer is a count, a float is a fraction**: 1 keeps one sample, 1.0 keeps all of them. A fraction
is rounded down, as Table 1 of the Q-Diverse supplement does (10 % of 7,086 are 708).
"""

from __future__ import annotations

import math
import numbers

from mriqa.selection.arrays import SelectionError

Budget = int | float
"""A count (int) in 1..N, or a fraction (float) in (0, 1]."""


def count_of(budget: Budget, available: int) -> int:
    """The number of samples, 1..`available`, that `budget` asks for.

    Raises:
        SelectionError: 0, negative, above what is there, NaN, neither int nor float, or a fraction of less than one
            sample.

    Example:
        >>> count_of(1, 50), count_of(1.0, 50), count_of(0.25, 50)
        (1, 50, 12)
    """
    if isinstance(budget, bool) or not isinstance(budget, numbers.Real):
        raise SelectionError(f"A budget is a count (20) or a fraction (0.2), not {budget!r}.")
    if isinstance(budget, numbers.Integral):
        if not 1 <= budget <= available:
            raise SelectionError(f"The budget is {budget}, but there are {available} samples; choose 1 to {available}.")
        return int(budget)
    fraction = float(budget)
    if not 0 < fraction <= 1:
        raise SelectionError(
            f"The budget {fraction:g} is a float, so a fraction, which must be above 0 and at most 1; "
            "write a count as an integer."
        )
    count = math.floor(fraction * available * (1 + 1e-12))  # 0.29 · 100 is 28.999999999999996
    if count == 0:
        raise SelectionError(f"The fraction {fraction:g} of {available} samples is none; choose a larger one.")
    return min(count, available)
