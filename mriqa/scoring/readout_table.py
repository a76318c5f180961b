"""Every readout by name. A new one is a function `make(processor, wanted) -> Readout` in a module, and a line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import ProcessorMixin

    from mriqa.scoring.backend import Readout, Wanted

READOUTS: dict[str, str] = {
    "expected": "mriqa.scoring.digit_tree:expected",
    "greedy": "mriqa.scoring.generation:greedy",
    "sample": "mriqa.scoring.generation:sample",
}
"""Name -> module and function; the module is imported only when it is used."""

AUTO = "auto"
BEST_FIRST = ("expected", "greedy")  # "auto" takes the first that the model can give
READOUT_NAMES = (AUTO, *READOUTS)


def check_readout(name: str) -> None:
    """Raises ValueError where there is no readout of that name."""
    if name not in READOUT_NAMES:
        raise ValueError(f"There is no readout {name!r}; choose one of {', '.join(READOUT_NAMES)}.")


def make_readout(processor: ProcessorMixin, wanted: Wanted) -> Readout:
    """The readout that `wanted` names. Raises ValueError where there is none, ReadoutError where it can't be given."""
    from mriqa.scoring.reading import ReadoutError  # numpy takes its time, and the command line asks for names only

    check_readout(wanted.readout)
    *attempts, last = BEST_FIRST if wanted.readout == AUTO else (wanted.readout,)
    for name in attempts:
        try:
            return _make(name, processor, wanted)
        except ReadoutError:
            continue
    return _make(last, processor, wanted)


def _make(name: str, processor: ProcessorMixin, wanted: Wanted) -> Readout:
    module, _, function = READOUTS[name].partition(":")
    return getattr(import_module(module), function)(processor, wanted)
