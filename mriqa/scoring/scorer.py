"""Score images with a vision-language model: `Scorer.from_pretrained(model).score(images)`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image

from mriqa.answers import AnswerFormat, load_format
from mriqa.embedded.packaged import DEFAULT_MODEL
from mriqa.images import ImageError, load_image
from mriqa.models import SETTINGS_FILE, ModelError, ScoringSettings, load_scoring_settings, model_folder
from mriqa.scoring.backend import Backend, ModelSource, Wanted
from mriqa.scoring.backend_table import DEFAULT_BACKEND, backend_entry, backend_for, open_backend
from mriqa.scoring.certainty import Calibration
from mriqa.scoring.reading import Distribution, Reading, ReadoutError, distribution, summarise
from mriqa.scoring.readout_table import check_readout, make_readout
from mriqa.scoring.second_opinion import Head
from mriqa.scoring.transformers_backend import TransformersBackend
from mriqa.views import ViewSettings, views

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

Source = str | Path | bytes | Image.Image

ANSWER_OPTIONS = ("samples", "temperature", "max_new_tokens", "structured")  # of `Wanted`
OPENERS = 2  # threads that decode pictures; each may hold a whole one, of up to 89 million pixels


@dataclass(frozen=True)
class Score:
    """One image's score.

    Attributes:
        image: the path as given, or "image 3" for the fourth image where there is no path.
        score: 1..5, higher is better; NaN where the image could not be read or no answer parsed.
        std: standard deviation of the score's distribution ("expected") or of the parsed answers ("sample"); NaN where
            one answer is all there is. With a calibration, the error to expect, in points.
        error: None, or one sentence that says why there is no score.
        text: the first generated answer, that of a parsed one if there is any; None for "expected".
        n_parsed: how many answers parsed, over all views; None for "expected", which generates none.
        texts: every generated answer.
        head_score: the second opinion of a head that was trained beside the model, 1..5; None without one.
        distribution: the scores behind the mean and how likely each is; None unless the Scorer keeps distributions.
        interval: where people's score is with a probability of 80 %, within 1..5; None without a calibration.
        strangeness: from 0, a picture like those of the calibration, to 1, unlike all of them; None likewise.
    """

    image: str
    score: float
    std: float
    error: str | None = None
    text: str | None = None
    n_parsed: int | None = None
    texts: tuple[str, ...] = ()
    head_score: float | None = None
    distribution: Distribution | None = field(default=None, compare=False, repr=False)
    interval: tuple[float, float] | None = None
    strangeness: float | None = None


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
        views: crops to average, as `mriqa.views.ViewSettings` or its dict; the whole image by default.
        seed: of the sample readout. The same images in the same batches get the same scores.
        structured: hold generated answers to the grammar, so that all of them parse, where there are few enough to
            list: not where they think first.
        backend: what asks the model, where that isn't transformers in this process; model and processor are None then,
            and readout, samples, temperature, max_new_tokens, structured and head are the backend's own affair.
        head: gives a second opinion on every image, from the passes that the readout makes.
        distributions: keep the distribution behind every score (6 kB each).
        calibration: how far off the scores are (`mriqa.scoring.certainty`); None where that wasn't measured, or with
            another readout.

    Raises ValueError for an option out of range, ReadoutError where the model cannot give the readout asked for.
    """

    def __init__(
        self,
        model: PreTrainedModel | None,
        processor: ProcessorMixin | None,
        answer_format: AnswerFormat | None = None,
        *,
        readout: str = "auto",
        batch_size: int = 8,
        samples: int = 16,
        temperature: float = 1.0,
        max_new_tokens: int | None = None,
        views: ViewSettings | Mapping[str, Any] | None = None,
        seed: int = 0,
        structured: bool = False,
        backend: Backend | None = None,
        head: Head | None = None,
        distributions: bool = False,
        calibration: Calibration | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
        self.answer_format = answer_format or load_format("non_thinking")
        wanted = Wanted(self.answer_format, readout, samples, temperature, max_new_tokens, structured)
        self.views = views if isinstance(views, ViewSettings) else ViewSettings.from_dict(views)
        self.batch_size, self.seed, self.distributions = batch_size, seed, distributions
        if backend is None:
            if model is None or processor is None:
                raise ValueError("A Scorer needs a model and its processor, or a backend.")
            backend = TransformersBackend(model, processor, self.answer_format, make_readout(processor, wanted), head)
        self.backend = backend
        fits = calibration is not None and calibration.readout == backend.readout_name
        self.calibration = calibration if fits else None

    @property
    def readout_name(self) -> str:
        """The readout in use: "expected", "greedy" or "sample"."""
        return self.backend.readout_name

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path = DEFAULT_MODEL,
        readout: str = "auto",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        answer_format: AnswerFormat | str | Path | None = None,
        views: ViewSettings | Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        backend: str = DEFAULT_BACKEND,
        backend_options: Mapping[str, Any] | None = None,
        head: str | None = None,
        **options: Any,
    ) -> Scorer:
        """Load the model in a folder or hub repository and score with the prompt and the views saved beside it.

        A calibration that lies beside the model is used, too, if it was made with this readout.

        The default is the small model that comes with the package. The folder of a pretrained encoder with a probe
        beside it (recipes/shamisa_probe.py) scores likewise, by the backend "probe", without answers, and that of a
        ConOrd model (recipes/conord.py) by the backend "conord".

        `answer_format` (an AnswerFormat, a bundled name or a YAML file) and `views` replace the saved ones. `options`
        are those of `Scorer`: batch_size, samples, temperature, max_new_tokens, seed, structured, distributions. `head`
        names one that was trained beside the model and saved with it, "conord", and needs transformers. `backend` is a
        name in `mriqa.scoring.backend_table`: "transformers", "vllm" (the same model through vLLM's engine) or "server"
        (`path` is the name under which an OpenAI-compatible server serves it), with `backend_options` as its
        `open_backend` takes them. Raises ModelError, ReadoutError where the model cannot give the readout, and
        BackendError where an engine or a server doesn't start or answer.
        """
        check_readout(readout)
        if answer_format is not None and not isinstance(answer_format, AnswerFormat):
            answer_format = load_format(answer_format)
        entry = backend_entry(backend)
        if head is not None and not entry.takes_head:
            raise ReadoutError(f'A head reads hidden states, which the backend "{backend}" keeps: use "transformers".')
        # A server's model may have a name that is no folder here.
        folder = model_folder(path, head) if entry.holds_model or Path(path).is_dir() else Path(path)
        if entry.holds_model:
            backend = backend_for(folder, backend)
        saved = load_scoring_settings(folder)
        if saved is not None:
            answer_format = answer_format or saved.answer_format
            views = _saved_views(folder, saved) if views is None else views
        answers = {name: options.pop(name) for name in ANSWER_OPTIONS if name in options}
        wanted = Wanted(answer_format or load_format("non_thinking"), readout, **answers)
        name = str(folder if entry.holds_model else path)
        source = ModelSource(name, device, dtype, trust_remote_code, head, backend_options or {})
        opened = open_backend(backend, source, wanted)
        calibration = Calibration.load(folder)
        return cls(None, None, wanted.answer_format, views=views, backend=opened, calibration=calibration, **options)

    def without_views(self) -> Scorer:
        """A scorer of the same model that takes every picture as it is, and says nothing of how sure it is."""
        bare = self.uncalibrated()
        bare.views = ViewSettings()
        return bare

    def uncalibrated(self) -> Scorer:
        """A scorer of the same model that looks at pictures in the same way; `std` is the readout's own."""
        same: dict[str, Any] = {"batch_size": self.batch_size, "seed": self.seed, "distributions": self.distributions}
        return Scorer(None, None, self.answer_format, views=self.views, backend=self.backend, **same)

    def score(self, images: Sequence[Source], progress: bool = False) -> list[Score]:
        """One Score per image, in order; an image that cannot be read or scored gets an error and stops nothing.

        `images` are paths, encoded bytes or PIL images. `progress` draws a bar on stderr.
        """
        if isinstance(images, (str, bytes, Path, Image.Image)):
            raise TypeError("score() takes a list of images; put a single one in a list.")
        scores = self.stream(images)
        if progress:
            from mriqa.progress import with_progress

            scores = with_progress(scores, total=len(images))
        return list(scores)

    def stream(self, images: Iterable[Source]) -> Iterator[Score]:
        """The scores of `score`, batch by batch, for more images than fit in memory.

        While the model judges a batch, the next one is opened.
        """
        numbered = enumerate(images)
        per_batch = max(1, self.batch_size // self.views.count)
        with ThreadPoolExecutor(OPENERS) as openers:
            waiting: list[_Opening] = []
            while batch := list(islice(numbered, per_batch)):
                opening = [_Opening(n, _name(image, n), openers.submit(self._open, image)) for n, image in batch]
                yield from self._judge(waiting)
                waiting = opening
            yield from self._judge(waiting)

    def _open(self, image: Source) -> _Opened | str:
        """An image's views and how strange they are, or why it can't be read."""
        try:
            looked_at = views(load_image(image), self.views)
        except ImageError as error:
            return str(error)
        return _Opened(looked_at, None if self.calibration is None else self.calibration.strangeness(looked_at))

    def _judge(self, batch: Sequence[_Opening]) -> Iterator[Score]:
        opened = [one.opened.result() for one in batch]
        seen = [found.views for found in opened if not isinstance(found, str)]
        readings = iter(self._read(seen, seed=self.seed + batch[0].number) if seen else [])
        for one, found in zip(batch, opened, strict=True):
            if isinstance(found, str):
                yield Score(one.name, math.nan, math.nan, found)
            else:
                yield self.score_of(one.name, next(readings), found.strangeness)

    def _read(self, looked_at: list[list[Image.Image]], seed: int) -> list[list[Reading | str]]:
        """For each image what its views gave: a reading, or a sentence where the model refuses the picture."""
        readings = iter(self.backend.read([picture for pictures in looked_at for picture in pictures], seed))
        return [list(islice(readings, len(pictures))) for pictures in looked_at]

    def score_of(self, name: str, outcomes: Sequence[Reading | str], strangeness: float | None = None) -> Score:
        """One image's score from what its views gave: readings, or sentences why the model refuses them.

        Without the image's strangeness there is no interval.
        """
        readings = [outcome for outcome in outcomes if not isinstance(outcome, str)]
        refusals = [outcome for outcome in outcomes if isinstance(outcome, str)]
        if refusals:
            return Score(name, math.nan, math.nan, refusals[0])
        score, std = summarise(readings)
        texts = tuple(text for reading in readings for text in reading.texts)
        text = next(filter(self.answer_format.is_well_formed, texts), texts[0] if texts else None)
        error = None
        if math.isnan(score):
            error = f"No answer of the model is a well-formed score; the first begins {texts[0][:60]!r}."
        exact = all(reading.exact for reading in readings)
        n_parsed = None if exact else sum(len(reading.scores_S) for reading in readings)
        opinions = [reading.head_score for reading in readings if reading.head_score is not None]
        head_score = fmean(opinions) if opinions else None
        kept = distribution(readings) if self.distributions else None
        interval = None
        if self.calibration is not None and strangeness is not None and error is None:
            std = self.calibration.spread(std, strangeness)
            interval = self.calibration.interval(score, std)
        return Score(name, score, std, error, text, n_parsed, texts, head_score, kept, interval, strangeness)


class _Opened(NamedTuple):
    """An image's views, and how strange they are where a calibration says."""

    views: list[Image.Image]
    strangeness: float | None


class _Opening(NamedTuple):
    """An image that is being opened."""

    number: int
    name: str
    opened: Future[_Opened | str]


def _saved_views(folder: Path, saved: ScoringSettings) -> ViewSettings:
    try:
        return ViewSettings.from_dict(saved.views)
    except (ValueError, TypeError) as error:
        raise ModelError(f"In {folder / SETTINGS_FILE}: {error}") from error


def _name(source: Source, number: int) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    return getattr(source, "filename", "") or f"image {number}"
