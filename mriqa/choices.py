"""Refuse a name that is none of those on offer, and suggest the nearest."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from mriqa.errors import UserError


class ChoiceError(UserError, ValueError):
    """A name that is none of those on offer, as one sentence that lists them."""


def check_choice(what: str, given: object, choices: Iterable[str], error: type[UserError] = ChoiceError) -> None:
    """`error` unless `given` is one of `choices`; the message lists them and suggests the nearest."""
    choices = list(choices)
    if given not in choices:
        nearest = get_close_matches(str(given), choices, n=1)
        hint = f" did you mean {nearest[0]!r}?" if nearest else ""
        raise error(f"Unknown {what} {given!r};{hint} choose one of: {', '.join(choices) or 'none'}.")
