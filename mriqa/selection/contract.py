"""What a selector is: how it selects, what it needs beside features, and how it explains what it kept.

Each selector's file ends with its `SELECTOR`, and `mriqa.selection.selectors` lists those by name. So a new selector is
one file and one line; whoever selects by name asks the selector instead of knowing it.

Legend: N samples, M selected ones, T target samples, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

import numpy as np

from mriqa.selection.arrays import FloatArray, IndexArray, SelectionError, check_choice
from mriqa.selection.budgets import Budget

NEEDS = ("scores", "quality", "target", "target_ppr")
"""What a selector may need: scores (N,), quality features (N, Dq), the target's features (T, D), its PPR (D,)."""
OF_A_TARGET = ("target", "target_ppr")
NOT_OPTIONS = ("seed", "progress")


@dataclass(frozen=True)
class Explanation:
    """Why the selected rows were kept.

    Attributes:
        scores_M: a number of the selector's own for each row, NaN where it has none; `reasons` say what it is.
        reasons: a few words for each row (M,).
        summary: numbers of the selection as a whole, by name.
    """

    scores_M: FloatArray
    reasons: Sequence[str]
    summary: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Selector:
    """A way to select, called like its `select`.

    Attributes:
        select: `select(features, budget, *, seed=0, **inputs) -> rows`: features (N, D) and a count or fraction to the
            chosen rows (M,) int64 in selection order, none twice, the same for the same seed. Its other keyword-only
            arguments are what it `needs`, and its options.
        explain: `explain(features, rows_M, *, seed, **inputs) -> Explanation` of what `select` chose, called with the
            same inputs and options. `always` makes one that says the same of every row.
        needs: the arguments that it cannot do without, out of `NEEDS`.

    Raises:
        SelectionError: a need that is none of `NEEDS`.
    """

    select: Callable[..., IndexArray]
    explain: Callable[..., Explanation]
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for need in self.needs:
            check_choice("need of a selector", need, NEEDS)

    def __call__(self, features: Any, budget: Budget, *, seed: int = 0, **inputs: Any) -> IndexArray:
        return self.select(features, budget, seed=seed, **inputs)

    @property
    def needs_target(self) -> bool:
        """Whether it chooses for a target."""
        return any(need in OF_A_TARGET for need in self.needs)

    @property
    def options(self) -> list[str]:
        """Names of the arguments of `select` that are a matter of choice."""
        named = [name for name, one in signature(self.select).parameters.items() if one.kind is Parameter.KEYWORD_ONLY]
        return [name for name in named if name not in (*self.needs, *NOT_OPTIONS)]

    def check_options(self, name: str, options: Mapping[str, Any]) -> None:
        """SelectionError, naming the selector by `name`, unless `select` has all these options."""
        if not set(options) <= set(self.options):
            cure = f"choose among {', '.join(self.options)}" if self.options else "it has none"
            raise SelectionError(f"Selector {name!r} can't take options {dict(options)}; {cure}.")


def always(reason: str) -> Callable[..., Explanation]:
    """The `explain` of a selector that has no number of its own and one reason for every row."""

    def explain(features: Any, rows_M: IndexArray, **_: Any) -> Explanation:
        return Explanation(np.full(len(rows_M), np.nan), [reason] * len(rows_M))

    return explain
