"""The conord backend: a saved `ConOrdModel` scores pictures. No language model is loaded.

Scoring knows this module by its name alone (`mriqa.scoring.backend_table`), as it may not import conord.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mriqa.conord import ConOrdModel
from mriqa.heads import HeadError
from mriqa.manifest.scales import Scale
from mriqa.models import ModelError, usable_device
from mriqa.scoring.reading import Reading, ReadoutError

if TYPE_CHECKING:
    from mriqa.scoring.backend import ModelSource, Wanted


@dataclass(frozen=True)
class ConOrdBackend:
    """Reads one score off each picture: its rank, from the scale of the training ranks to 1..5, and held to that."""

    model: ConOrdModel
    scale: Scale

    @property
    def readout_name(self) -> str:
        return "linear" if self.model.reading else "neighbours"

    def read(self, pictures: Sequence[Image.Image], seed: int) -> list[Reading | str]:
        """One score per picture, without a spread; `seed` is not used."""
        ranks_N = self.model.predict(pictures).double().numpy()
        return [self._reading(rank) for rank in np.clip(ranks_N, self.scale.low, self.scale.high)]

    def _reading(self, rank: float) -> Reading | str:
        if not np.isfinite(rank):
            return "The encoder gives NaN or infinity for this picture."
        return Reading(np.array([self.scale.to_mos(float(rank))]), np.ones(1), exact=False)


def open_backend(source: ModelSource, wanted: Wanted) -> ConOrdBackend:
    """The model in a folder.

    Raises ReadoutError where a readout of answers or a head is asked for, ModelError where the model is missing or
    broken, or gives no single score of a picture.
    """
    if wanted.readout != "auto":
        raise ReadoutError(
            f"{source.model} is a ConOrd model, which gives one score and no answers: leave out the readout "
            f"{wanted.readout}."
        )
    if source.head is not None:
        raise ReadoutError(f"{source.model} is a ConOrd model, which has no head {source.head!r}: ask for none.")
    try:
        model = ConOrdModel.load(source.model, usable_device(source.device))
    except HeadError as error:
        raise ModelError(str(error)) from error
    if model.motion is not None:
        raise ModelError(f"{source.model} judges videos, and scoring opens pictures: use ConOrdModel.predict.")
    if not model.scales:
        raise ModelError(f"{source.model} does not say what scale its ranks are on: train it again, or use predict.")
    if len(model.scales) > 1:
        raise ModelError(
            f"{source.model} predicts {' and '.join(model.rank_names)}, which is no score: use ConOrdModel.predict."
        )
    return ConOrdBackend(model, model.scales[0])
