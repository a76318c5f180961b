"""How sure a measured agreement is: bootstrap intervals, paired comparisons, break-downs, predicted distributions."""

from .breakdown import break_down, quality_ranges
from .intervals import Measure, agreement
from .paired import Difference, compare_models, holm, paired_difference, steiger, williams
from .predicted_distributions import calibration, distribution_distances, pair_probabilities

__all__ = [
    "Difference",
    "Measure",
    "agreement",
    "break_down",
    "calibration",
    "compare_models",
    "distribution_distances",
    "holm",
    "pair_probabilities",
    "paired_difference",
    "quality_ranges",
    "steiger",
    "williams",
]
