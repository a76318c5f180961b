"""PreSTA: keep the part of a source whose correlations between features and scores are most like the target's."""

from mriqa.selection.presta.greedy import Presta, presta, presta_joint

__all__ = ["Presta", "presta", "presta_joint"]
