"""Score images with a vision-language model: `Scorer.from_pretrained(model).score(images)`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from PIL import Image

from mriqa.answers import AnswerFormat, load_format
from mriqa.images import ImageError, load_image
from mriqa.models import SETTINGS_FILE, ModelError, ScoringSettings, load_scoring_settings, load_vlm, model_folder
from mriqa.scoring.digit_tree import DigitTree
from mriqa.scoring.generation import GenerationReadout
from mriqa.scoring.prompts import prompt_batch
from mriqa.scoring.reading import Reading, ReadoutError, summarise
from mriqa.scoring.views import ViewSettings, views

if TYPE_CHECKING:
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

Source = str | Path | bytes | Image.Image

READOUTS = ("auto", "expected", "greedy", "sample")
ANSWER_TOKENS, THINKING_TOKENS = 32, 1024


@dataclass(frozen=True)
class Score:
    """One image's score.

    Attributes:
        image: the path as given, or "image 3" for the fourth image where there is no path.
        score: 1..5, higher is better; NaN where the image could not be read or no answer parsed.
        std: standard deviation of the score's distribution ("expected") or of the parsed answers ("sample"); NaN where
            one answer is all there is.
        error: None, or one sentence that says why there is no score.
        text: the first generated answer, that of a parsed one if there is any; None for "expected".
    """

    image: str
    score: float
    std: float
    error: str | None = None
    text: str | None = None


class Readout(Protocol):
    """How scores are got out of a model: one reading per prompt."""

    @property
    def name(self) -> str: ...

    def read(
        self, model: PreTrainedModel, processor: ProcessorMixin, inputs_BT: BatchFeature, seed: int
    ) -> list[Reading]: ...


class Scorer:
    """Scores images in batches with a model that is already loaded; see `from_pretrained` for one that is not.

    Args:
        model, processor: an image-text-to-text model in eval mode and its processor.
        answer_format: the prompt and the grammar of its answers; non-thinking by default.
        readout: "expected", the exact mean over all well-formed scores (non-thinking answers whose digits are tokens
            of their own); "greedy", the parsed greedy answer; "sample", the mean over `samples` answers; "auto",
            expected where possible and greedy otherwise.
        batch_size: views that go through the model together.
        samples, temperature: of the sample readout.
        max_new_tokens: of a generated answer; 32 by default, 1024 for formats that think.
        views: crops to average, as `mriqa.scoring.views.ViewSettings` or its dict; the whole image by default.
        seed: of the sample readout. The same images in the same batches get the same scores.

    Raises ValueError for an option out of range, ReadoutError where the model cannot give the readout asked for.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        answer_format: AnswerFormat | None = None,
        *,
        readout: str = "auto",
        batch_size: int = 8,
        samples: int = 16,
        temperature: float = 1.0,
        max_new_tokens: int | None = None,
        views: ViewSettings | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("samples", samples), ("max_new_tokens", max_new_tokens or 1)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature}; for the most likely answer use greedy.")
        self.model, self.processor = model, processor
        self.answer_format = answer_format or load_format("non_thinking")
        self.views = views if isinstance(views, ViewSettings) else ViewSettings.from_dict(views)
        self.batch_size, self.seed = batch_size, seed
        if max_new_tokens is None:
            max_new_tokens = THINKING_TOKENS if "{thinking}" in self.answer_format.template else ANSWER_TOKENS
        self.readout = self._make_readout(readout, samples, temperature, max_new_tokens)

    @property
    def readout_name(self) -> str:
        """The readout in use: "expected", "greedy" or "sample"."""
        return self.readout.name

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        readout: str = "auto",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        answer_format: AnswerFormat | str | Path | None = None,
        views: ViewSettings | Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> Scorer:
        """Load the model in a folder or hub repository and score with the prompt and the views saved beside it.

        `answer_format` (an AnswerFormat, a bundled name or a YAML file) and `views` replace the saved ones. `options`
        are those of `Scorer`: batch_size, samples, temperature, max_new_tokens, seed. Raises ModelError.
        """
        if readout not in READOUTS:
            raise ValueError(f"There is no readout {readout!r}; choose one of {', '.join(READOUTS)}.")
        if answer_format is not None and not isinstance(answer_format, AnswerFormat):
            answer_format = load_format(answer_format)
        folder = model_folder(path)
        saved = load_scoring_settings(folder)
        if saved is not None:
            answer_format = answer_format or saved.answer_format
            views = _saved_views(folder, saved) if views is None else views
        model, processor = load_vlm(folder, dtype, device, trust_remote_code)
        return cls(model, processor, answer_format, readout=readout, views=views, **options)

    def score(self, images: Sequence[Source], progress: bool = False) -> list[Score]:
        """One Score per image, in order; an image that cannot be read or scored gets an error and stops nothing.

        `images` are paths, encoded bytes or PIL images. `progress` draws a bar on stderr.
        """
        if isinstance(images, (str, bytes, Path, Image.Image)):
            raise TypeError("score() takes a list of images; put a single one in a list.")
        scores = self.stream(images)
        if progress:
            from mriqa.scoring.progress import with_progress

            scores = with_progress(scores, total=len(images))
        return list(scores)

    def stream(self, images: Iterable[Source]) -> Iterator[Score]:
        """The scores of `score`, batch by batch, for more images than fit in memory."""
        numbered = enumerate(images)
        per_batch = max(1, self.batch_size // self.views.count)
        while batch := list(islice(numbered, per_batch)):
            yield from self._score_batch(batch)

    def _score_batch(self, batch: list[tuple[int, Source]]) -> list[Score]:
        scores: dict[int, Score] = {}
        looked_at: dict[int, list[Image.Image]] = {}
        names = {number: _name(source, number) for number, source in batch}
        for number, source in batch:
            try:
                looked_at[number] = views(load_image(source), self.views)
            except ImageError as error:
                scores[number] = Score(names[number], math.nan, math.nan, str(error))
        readings = self._read(list(looked_at.values()), seed=self.seed + batch[0][0])
        for number, reading in zip(looked_at, readings, strict=True):
            scores[number] = self._to_score(names[number], reading)
        return [scores[number] for number, _ in batch]

    def _read(self, looked_at: list[list[Image.Image]], seed: int) -> list[list[Reading] | str]:
        """For each image the readings of its views, or a sentence where the model's processor refuses the image."""
        if not looked_at:
            return []
        pictures = [picture for pictures in looked_at for picture in pictures]
        try:
            inputs = prompt_batch(self.processor, self.answer_format, pictures)
        except ValueError as error:
            if len(looked_at) == 1:
                return [f"The model's processor refuses this image: {_first_line(error)}"]
            # One image spoils the batch (too thin a strip, say): find it by taking them one at a time.
            return [self._read([one], seed)[0] for one in looked_at]
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)
        readings = iter(self.readout.read(self.model, self.processor, inputs, seed))
        return [list(islice(readings, len(pictures))) for pictures in looked_at]

    def _to_score(self, name: str, readings: list[Reading] | str) -> Score:
        if isinstance(readings, str):
            return Score(name, math.nan, math.nan, readings)
        score, std = summarise(readings)
        texts = [text for reading in readings for text in reading.texts]
        text = next(filter(self.answer_format.is_well_formed, texts), texts[0] if texts else None)
        error = None
        if math.isnan(score):
            error = f"No answer of the model is a well-formed score; the first begins {texts[0][:60]!r}."
        return Score(name, score, std, error, text)

    def _make_readout(self, name: str, samples: int, temperature: float, max_new_tokens: int) -> Readout:
        greedy = GenerationReadout(self.answer_format, 1, 0.0, max_new_tokens)
        if name == "greedy":
            return greedy
        if name == "sample":
            return GenerationReadout(self.answer_format, samples, temperature, max_new_tokens)
        if name == "expected":
            return DigitTree.build(self.processor, self.answer_format)
        if name == "auto":
            try:
                return DigitTree.build(self.processor, self.answer_format)
            except ReadoutError:
                return greedy
        raise ValueError(f"There is no readout {name!r}; choose one of {', '.join(READOUTS)}.")


def _saved_views(folder: Path, saved: ScoringSettings) -> ViewSettings:
    try:
        return ViewSettings.from_dict(saved.views)
    except (ValueError, TypeError) as error:
        raise ModelError(f"In {folder / SETTINGS_FILE}: {error}") from error


def _name(source: Source, number: int) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    return getattr(source, "filename", "") or f"image {number}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
