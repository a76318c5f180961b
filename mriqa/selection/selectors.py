"""Find a selector by name. All share one contract, so that a recipe can exchange one for another.

`select(features, budget, *, seed=0, **inputs) -> indices`: features (N, D), a budget (see `budgets`), and the inputs
that `INPUTS` names for this selector; the chosen rows (M,) in selection order, int64, none twice, the same for the same
seed.
"""

from __future__ import annotations

from collections.abc import Callable

from mriqa.selection.arrays import IndexArray, check_choice
from mriqa.selection.contextual_diversity import select as contextual_diversity
from mriqa.selection.herding import select as herding
from mriqa.selection.k_center import select as k_center
from mriqa.selection.kmm import select as kmm
from mriqa.selection.moderate import select as moderate
from mriqa.selection.pgcs import select as pgcs
from mriqa.selection.presta.greedy import select as presta
from mriqa.selection.q_diverse import select as q_diverse
from mriqa.selection.uniform import select as uniform

Selector = Callable[..., IndexArray]

SELECTORS: dict[str, Selector] = {
    "random": uniform,
    "herding": herding,
    "k_center": k_center,
    "contextual_diversity": contextual_diversity,
    "moderate": moderate,
    "pgcs": pgcs,
    "kmm": kmm,
    "q_diverse": q_diverse,
    "presta": presta,
}

INPUTS: dict[str, tuple[str, ...]] = {
    "random": (),
    "herding": (),
    "k_center": (),
    "contextual_diversity": (),  # its features are the level logits
    "moderate": ("scores",),
    "pgcs": (),
    "kmm": ("target",),
    "q_diverse": ("quality",),
    "presta": ("scores", "target_ppr"),
}
"""Keyword arguments that a selector cannot do without."""


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
