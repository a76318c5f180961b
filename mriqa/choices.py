"""Names that people give: refuse one that is not on offer, and read values and files that are given by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from mriqa.errors import SettingsError, UserError

Value = TypeVar("Value")


class ChoiceError(UserError, ValueError):
    """A name that is none of those on offer, as one sentence that lists them."""


def check_choice(what: str, given: object, choices: Iterable[str], error: type[UserError] = ChoiceError) -> None:
    """`error` unless `given` is one of `choices`; the message lists them and suggests the nearest."""
    choices = list(choices)
    if given not in choices:
        nearest = get_close_matches(str(given), choices, n=1)
        hint = f" did you mean {nearest[0]!r}?" if nearest else ""
        raise error(f"Unknown {what} {given!r};{hint} choose one of: {', '.join(choices) or 'none'}.")


def by_name(option: str, pairs: Sequence[str], kind: Callable[[str], Value]) -> dict[str, Value]:
    """Values of an option that are given as NAME=VALUE. Raises SettingsError for others."""
    found: dict[str, Value] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        try:
            if not (name and equals and value):
                raise ValueError
            found[name] = kind(value)
        except ValueError:
            raise SettingsError(f"--{option} takes values such as NAME=VALUE, not {pair!r}.") from None
    return found


def named_files(files: Sequence[str]) -> dict[str, str]:
    """Files that are given as FILE or NAME=FILE, by name; a file's own name without its ending where none is given.

    Raises SettingsError where two have one name.
    """
    found: dict[str, str] = {}
    for given in files:
        name, _, file = given.rpartition("=")
        name = name or Path(file).stem
        if name in found:
            raise SettingsError(f"Two files are called {name}: name them, as NAME={file}.")
        found[name] = file
    return found
