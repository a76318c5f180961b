"""What a network in training is told of a picture beside its score: what was done to it, and what was measured on it.

A score says that a picture is bad, not why. Which damage it has, how severe, and what full-reference measures found
beside the original say more, and all of it is known where the damage was made by us.

Legend: N pictures that are known, B pictures of a batch, M measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.stats import norm, rankdata
from torch import Tensor

FURTHEST = 2.5  # standard deviations: the few beyond say no more


class Hints:
    """Damages and measures of pictures, as targets of training.

    Measures have all sorts of distributions; each is brought to a normal one by its ranks over the pictures given.

    Arguments:
        damages: name of the damage of each picture, by the picture's id.
        measures: numbers of each picture, as many of each, by the same ids.

    Attributes:
        damages: the different names, sorted; targets are places in this list.
        measures: M.
    """

    def __init__(self, damages: Mapping[str, str], measures: Mapping[str, Sequence[float]]):
        self.damages = sorted(set(damages.values()))
        places = {name: place for place, name in enumerate(self.damages)}
        self._row = {identifier: row for row, identifier in enumerate(damages)}
        self._damages_N = torch.tensor([places[name] for name in damages.values()])
        self._measures_NM = torch.from_numpy(by_rank(np.array([measures[each] for each in damages])))
        self.measures = self._measures_NM.shape[1]

    def of(self, identifiers: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Places of the damages (B,), and measures (B, M), of pictures. Raises KeyError for one that isn't known."""
        rows = [self._row[each] for each in identifiers]
        return self._damages_N[rows], self._measures_NM[rows]


def by_rank(values_NM: np.ndarray) -> np.ndarray:
    """Each column's normal scores: the standard normal quantile of (rank - 1/2) / N, float32, ties alike."""
    quantiles_NM = (rankdata(values_NM, axis=0) - 0.5) / len(values_NM)
    return norm.ppf(quantiles_NM).clip(-FURTHEST, FURTHEST).astype(np.float32)
