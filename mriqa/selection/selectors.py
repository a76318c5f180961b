"""The selectors by name. All share one contract (see `contract`), so that a recipe can exchange one for another.

A new selector is a file with its `SELECTOR`, and a line in the table.
"""

from __future__ import annotations

from importlib import import_module

from mriqa.selection.arrays import SelectionError, check_choice
from mriqa.selection.contract import Selector

FILES = {
    "random": "uniform",
    "herding": "herding",
    "k_center": "k_center",
    "contextual_diversity": "contextual_diversity",
    "moderate": "moderate",
    "pgcs": "pgcs",
    "kmm": "kmm",
    "q_diverse": "q_diverse",
    "presta": "presta.selector",
}
"""A selector's name and the module of `mriqa.selection` whose `SELECTOR` it is."""

SELECTORS: dict[str, Selector] = {
    name: import_module(f"mriqa.selection.{module}").SELECTOR for name, module in FILES.items()
}

INPUTS: dict[str, tuple[str, ...]] = {name: selector.needs for name, selector in SELECTORS.items()}
"""Keyword arguments that a selector cannot do without."""


def register(name: str, selector: Selector) -> None:
    """Let a selector from outside the package be chosen by that name, in recipes and mixtures, in this process.

    Raises:
        SelectionError: the name is taken.
    """
    if name in SELECTORS:
        raise SelectionError(f"There is a selector {name!r} already; give yours another name.")
    SELECTORS[name], INPUTS[name] = selector, selector.needs


def load(name: str) -> Selector:
    """The selector of that name.

    Raises:
        SelectionError: unknown name.

    Example:
        >>> load("random")(np.zeros((10, 4), dtype=np.float32), 3, seed=1).shape
        (3,)
    """
    check_choice("selector", name, SELECTORS)
    return SELECTORS[name]
