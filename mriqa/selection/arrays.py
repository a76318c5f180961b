"""The arrays that selectors take, and what is asked of them; each refusal one sentence that names thing and cure.

Legend: N samples, D feature width.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mriqa import choices
from mriqa.errors import UserError

FloatArray = npt.NDArray[np.floating[Any]]
IndexArray = npt.NDArray[np.int64]


class SelectionError(UserError, ValueError):
    """A selector was given something it cannot select from."""


check_choice = partial(choices.check_choice, error=SelectionError)
"""SelectionError unless `given` is one of `choices`; see `mriqa.choices`."""


def check_between(what: str, given: float, low: float, high: float) -> None:
    """SelectionError unless `given` is a number in [low, high]."""
    if not (isinstance(given, (int, float, np.number)) and low <= given <= high):
        bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise SelectionError(f"{what} must be a number {bounds}, not {given!r}.")


def as_features(features: Any, what: str = "Features", at_least: int = 1) -> FloatArray:
    """Features (N, D) of numpy, torch or lists, as float32 (float64 stays), without copying where that is possible.

    Raises:
        SelectionError: another shape, fewer than `at_least` samples, no column, or a value that is not finite.
    """
    features_ND = as_floats(features, what)
    if features_ND.ndim != 2 or features_ND.shape[1] == 0:
        raise SelectionError(f"{what} must have the shape (N, D), one row a sample, not {features_ND.shape}.")
    if len(features_ND) < at_least:
        samples = "one sample" if at_least == 1 else f"{at_least} samples"
        raise SelectionError(f"{what} hold {len(features_ND)} rows, but at least {samples} are needed.")
    broken = int((~np.isfinite(features_ND)).any(axis=1).sum())
    if broken:
        raise SelectionError(
            f"{broken} of {len(features_ND)} rows of {_in_a_sentence(what)} hold NaN or infinity; look at the encoder, "
            "or leave those samples out."
        )
    return features_ND


def as_scores(scores: Any, count: int, what: str = "Scores") -> FloatArray:
    """Scores (N,) as float64.

    Raises:
        SelectionError: none given, another number than `count`, or a score that is not finite.
    """
    if scores is None:
        raise SelectionError(f"{what} are needed here; give one to each of the {count} samples.")
    scores_N = as_floats(scores, what).astype(np.float64)
    if scores_N.shape != (count,):
        raise SelectionError(f"There are {count} samples but {_in_a_sentence(what)} of shape {scores_N.shape}; "
                             "give one to each.")  # fmt: skip
    broken = int((~np.isfinite(scores_N)).sum())
    if broken:
        raise SelectionError(
            f"{broken} of {count} {_in_a_sentence(what)} are NaN or infinite; leave those samples out."
        )
    return scores_N


def as_varied_scores(scores: Any, count: int, what: str = "Scores") -> FloatArray:
    """As `as_scores`, refusing scores that are all the same: nothing correlates with those."""
    scores_N = as_scores(scores, count, what)
    if scores_N.min() == scores_N.max():
        raise SelectionError(
            f"{what} are all {scores_N[0]:g}, so nothing correlates with them; give scores that differ."
        )
    return scores_N


def check_same_width(a: FloatArray, b: FloatArray, what_a: str, what_b: str) -> None:
    """SelectionError unless both have as many columns (or entries)."""
    if a.shape[-1] != b.shape[-1]:
        raise SelectionError(
            f"{what_a} have width {a.shape[-1]} but {_in_a_sentence(what_b)} {b.shape[-1]}; take both from one encoder."
        )


def as_floats(values: Any, what: str) -> FloatArray:
    """`values` of any shape as float32 or, where that would lose something, float64. SelectionError unless real."""
    if hasattr(values, "detach"):  # a torch tensor, bfloat16 and on an accelerator perhaps
        values = values.detach().cpu()
        values = values.numpy() if str(values.dtype) != "torch.bfloat16" else values.float().numpy()
    try:
        array = np.asarray(values)
        return array if array.dtype in (np.float32, np.float64) else array.astype(_wide_enough(array))
    except (TypeError, ValueError) as error:
        raise SelectionError(f"{what} must be an array of real numbers ({error}).") from error


def _wide_enough(array: npt.NDArray[Any]) -> type[np.floating[Any]]:
    """float32 holds halves exactly; integers and objects need float64."""
    if np.iscomplexobj(array):
        raise ValueError("these are complex")
    return np.float32 if array.dtype == np.float16 else np.float64


def _in_a_sentence(what: str) -> str:
    return what if what.isupper() else what[0].lower() + what[1:]
