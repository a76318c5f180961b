"""The transformers backend: a model in this process, read by any readout, with a head beside it or none.

A model that `mriqa.plain_vlm` knows, the packaged one above all, is read without transformers where nothing but its
distribution over scores is asked for: its first score comes seconds earlier, and every score is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mriqa.answers import AnswerFormat
from mriqa.models import load_vlm, usable_device
from mriqa.plain_vlm import load_plain
from mriqa.scoring.backend import ModelSource, Readout, Wanted
from mriqa.scoring.prompts import prompt_batch
from mriqa.scoring.reading import Reading, ReadoutError, first_line
from mriqa.scoring.readout_table import make_readout
from mriqa.scoring.second_opinion import Head, load_head
from mriqa.shared_prefix import prompt_features

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedModel, ProcessorMixin

IN_FLOAT32 = ("auto", "float32", torch.float32)  # on a CPU


@dataclass(frozen=True)
class TransformersBackend:
    """A model in this process, which reads the pictures as one batch; a head judges them by the same passes.

    For the readout "expected" model and processor may be those of `mriqa.plain_vlm`.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    answer_format: AnswerFormat
    readout: Readout
    head: Head | None = None

    @property
    def readout_name(self) -> str:
        return self.readout.name

    def read(self, pictures: Sequence[Image.Image], seed: int) -> list[Reading | str]:
        """One reading per picture; see `mriqa.scoring.backend.Backend`."""
        try:
            inputs = prompt_batch(self.processor, self.answer_format, pictures)
        except ValueError as error:
            if len(pictures) == 1:
                return [f"The model's processor refuses this image: {first_line(error)}"]
            # One picture spoils the batch (too thin a strip, say): find it by taking them one at a time.
            return [self.read([picture], seed + number)[0] for number, picture in enumerate(pictures)]
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)
        if self.head is None:
            return list(self.readout.read(self.model, self.processor, inputs, seed))
        with prompt_features(self.model, self.head.pooling, inputs["input_ids"].shape[1]) as seen:
            readings = self.readout.read(self.model, self.processor, inputs, seed)
        # Where a prompt is sampled from several times, its rows stand side by side.
        features = seen.rows_RD[:: len(seen.rows_RD) // len(pictures)]
        opinions = self.head.scores(features.detach()).tolist()
        return [replace(reading, head_score=score) for reading, score in zip(readings, opinions, strict=True)]


def open_backend(source: ModelSource, wanted: Wanted) -> TransformersBackend:
    """The model loaded. Raises ModelError, and ReadoutError where it cannot give the readout."""
    if plain := _plain_backend(source, wanted):
        return plain
    head = None if source.head is None else load_head(source.model, source.head)
    model, processor = load_vlm(source.model, source.dtype, source.device, source.trust_remote_code)
    return TransformersBackend(model, processor, wanted.answer_format, make_readout(processor, wanted), head)


def _plain_backend(source: ModelSource, wanted: Wanted) -> TransformersBackend | None:
    """The model in plain torch, on a CPU in float32; None where that can't read it or can't do what is wanted."""
    if source.head is not None or wanted.readout not in ("auto", "expected") or source.dtype not in IN_FLOAT32:
        return None
    loaded: Any = load_plain(Path(source.model)) if usable_device(source.device).type == "cpu" else None
    if loaded is None:
        return None
    model, processor = loaded
    try:
        readout = make_readout(processor, replace(wanted, readout="expected"))
    except ReadoutError:
        return None
    return TransformersBackend(model, processor, wanted.answer_format, readout)
