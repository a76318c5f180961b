"""Refuse a name that is none of those on offer, and suggest the nearest; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def check_choice(what: str, given: object, choices: Iterable[str], error: type[Exception] = ValueError) -> None:
    """`error` unless `given` is one of `choices`; the message lists them and suggests the nearest."""
    choices = list(choices)
    if given not in choices:
        nearest = get_close_matches(str(given), choices, n=1)
        hint = f" did you mean {nearest[0]!r}?" if nearest else ""
        raise error(f"Unknown {what} {given!r};{hint} choose one of: {', '.join(choices) or 'none'}.")
