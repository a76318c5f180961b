"""The probe backend: a pretrained encoder with a probe saved beside it scores pictures. No language model is loaded.

Scoring knows this module by its name alone (`mriqa.scoring.backend_table`), as it may not import pretraining.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mriqa.features.crop_features import CropEncoder, load_crop_encoder
from mriqa.features.encoder import FeatureError
from mriqa.manifest.scales import HIGHEST, LOWEST
from mriqa.models import ModelError
from mriqa.pretrain.graphs.layout import PretrainError
from mriqa.pretrain.probe import FloatArray
from mriqa.pretrain.saved_probe import SavedProbe, load_probe
from mriqa.scoring.reading import Reading, ReadoutError
from mriqa.views import ViewSettings

if TYPE_CHECKING:
    from mriqa.scoring.backend import ModelSource, Wanted


@dataclass(frozen=True)
class ProbeBackend:
    """Reads one score off each picture: the probe's mean over the crops, held to 1..5."""

    encoder: CropEncoder
    saved: SavedProbe

    @property
    def readout_name(self) -> str:
        return "probe"

    def read(self, pictures: Sequence[Image.Image], seed: int) -> list[Reading | str]:
        """One score per picture, without a spread; `seed` is not used."""
        return [self._reading(score) for score in self.predictions(pictures)]

    def predictions(self, pictures: Sequence[Image.Image]) -> FloatArray:
        """What the probe says of each picture (N,), also outside 1..5."""
        before = ViewSettings(size=self.saved.size, limit=self.saved.limit)
        return self.saved.probe.scores(self.encoder.rows(pictures, before))

    def _reading(self, score: float) -> Reading | str:
        if not np.isfinite(score):
            return f"The encoder {self.encoder.encoder.name} gives NaN or infinity for this picture."
        return Reading(np.array([min(max(score, LOWEST), HIGHEST)]), np.ones(1), exact=False)


def open_backend(source: ModelSource, wanted: Wanted) -> ProbeBackend:
    """The encoder of a folder with its probe.

    Raises ReadoutError where a readout of answers or a head is asked for, ModelError where encoder or probe are
    missing, broken or do not belong together.
    """
    if wanted.readout != "auto":
        raise ReadoutError(
            f"{source.model} is an encoder with a probe, which gives one score and no answers: leave out the readout "
            f"{wanted.readout}."
        )
    if source.head is not None:
        raise ReadoutError(
            f"{source.model} is an encoder with a probe, which has no head {source.head!r}: ask for none."
        )
    try:
        saved = load_probe(source.model)
        device = None if source.device is None else str(source.device)
        encoder = load_crop_encoder(f"shamisa:{source.model}", crop=saved.crop, device=device)
    except (PretrainError, FeatureError) as error:
        raise ModelError(str(error)) from error
    if encoder.key != saved.encoder_key:
        raise ModelError(
            f"The probe in {source.model} was fitted to another encoder: fit it again, recipes/shamisa_probe.py "
            "--save true."
        )
    return ProbeBackend(encoder, saved)
