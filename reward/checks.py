"""Checks of a reward's options, each failing with one sentence that says what would be right."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches


def check_choice(what: str, given: object, choices: Iterable[str]) -> None:
    """ValueError unless `given` is one of `choices`; the message lists them and suggests the nearest."""
    choices = list(choices)
    if given not in choices:
        nearest = get_close_matches(str(given), choices, n=1)
        hint = f" did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"Unknown {what} {given!r};{hint} choose one of: {', '.join(choices) or 'none'}.")


def check_positive(what: str, given: float) -> None:
    """ValueError unless `given` is a finite number above 0."""
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not (math.isfinite(given) and given > 0):
        raise ValueError(f"Option {what!r} must be a finite number above 0, not {given!r}.")
