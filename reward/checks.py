"""Checks of a reward's options, each failing with one sentence that says what would be right."""

from __future__ import annotations

import math

from mriqa.errors import UserError


class RewardError(UserError, ValueError):
    """A reward that cannot be had or used so, as one sentence with the cure."""


def check_positive(what: str, given: float) -> None:
    """RewardError unless `given` is a finite number above 0."""
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not (math.isfinite(given) and given > 0):
        raise RewardError(f"Option {what!r} must be a finite number above 0, not {given!r}.")
