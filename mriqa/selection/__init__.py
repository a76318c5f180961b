"""Selection: which samples of a source to train on.

    from mriqa.selection import load, ppr, presta
    subset = presta(features, scores, target_ppr=ppr(target_features, target_scores)).kept
    subset = load("q_diverse")(content_features, 0.2, quality=quality_features, seed=0)

| name                   | features (N, D)   | needs besides          | what it selects                                |
|------------------------|-------------------|------------------------|------------------------------------------------|
| `random`               | any               |                        | a uniform draw                                 |
| `herding`              | any               |                        | a running sum that follows the mean of all     |
| `k_center`             | any               |                        | the sample farthest from those selected        |
| `contextual_diversity` | level logits      | `scores`               | level confusions most unlike those selected    |
| `moderate`             | any               | `scores`               | middling distances to the centre of a score bin|
| `pgcs`                 | any               |                        | middling distances in partitions that cover all|
| `kmm`                  | any               | `target`               | large kernel-mean-matching weights             |
| `q_diverse`            | content           | `quality`              | diverse in content × quality, spectrally       |
| `presta`               | any               | `scores`, `target_ppr` | correlations with the score like the target's |

`load(name)(features, budget, *, seed=0, **inputs)` gives the selected rows (M,) int64 in selection order. An integer
budget is a count and a float a fraction: 1 is one sample, 1.0 all of them. Bad input raises `SelectionError`.
"""

from mriqa.selection.arrays import SelectionError
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.contract import Explanation, Selector, always
from mriqa.selection.ppr import ppc, ppc_matrix, ppr, ppr_stability
from mriqa.selection.presta.greedy import Presta, presta, presta_joint
from mriqa.selection.q_diverse import q_diverse
from mriqa.selection.selectors import INPUTS, SELECTORS, load, register

__all__ = [
    "INPUTS",
    "SELECTORS",
    "Budget",
    "Explanation",
    "Presta",
    "SelectionError",
    "Selector",
    "always",
    "count_of",
    "load",
    "ppc",
    "ppc_matrix",
    "ppr",
    "ppr_stability",
    "presta",
    "presta_joint",
    "q_diverse",
    "register",
]
