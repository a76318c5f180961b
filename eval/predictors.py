"""What can be evaluated, by name: a vision-language model, a classic metric, a metric of pyiqa, or a file of scores.

    FOLDER or hub name   a model, by `mriqa.Scorer`; "default" is the one in the package
    READOUT:MODEL        the same with another readout: greedy:FOLDER, sample:FOLDER, expected:FOLDER
    shamisa:FOLDER       an encoder of recipes/shamisa.py with a saved probe, its predictions not held to 1..5
    brisque, piqe        classic metrics from registry packages (extra `baselines`)
    pyiqa:NAME           any no-reference metric of pyiqa, where the user has it
    csv:FILE             scores that are there already: columns `id` or `image`, and `score`
    LABEL=ANY_OF_THESE   the same under another name

Every prediction is higher for better pictures: metrics for which lower is better have their sign turned, and say so.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from mriqa.errors import UserError
from mriqa.images import ImageError
from mriqa.views import ViewSettings

if TYPE_CHECKING:
    from mriqa.manifest import RatedImage
    from mriqa.scoring.reading import Distribution
    from mriqa.scoring.scorer import Scorer

OpenPicture = Callable[["RatedImage"], Image.Image]
"""Opens a row's picture at the protocol's size; raises ImageError where it cannot be read."""

TURNED = "the metric with its sign turned, so that higher is better"


class PredictorError(UserError, ValueError):
    """A model or metric that cannot be evaluated, as one sentence with the cure."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture: a score, its spread if it has one; NaN and an error where there is none."""

    score: float
    std: float = math.nan
    error: str | None = None
    text: str | None = None
    distribution: Distribution | None = field(default=None, compare=False, repr=False)


class Predictor(Protocol):
    """A model to evaluate.

    Attributes:
        name: what tables call it.
        about: what it is and how it was asked, for the record: kind, readout, prompt_sha256 and more.
    """

    name: str
    about: dict[str, Any]

    def predict(self, rows: Sequence[RatedImage], open_picture: OpenPicture) -> Iterator[Prediction]:
        """One prediction per row, in order; a picture that cannot be read or scored stops nothing."""
        ...


LoadScorer = Callable[[str, "str | None"], "Scorer"]
"""Loads a model by its folder or hub name, with a readout of its own or, for None, the one that all have."""

READOUT_PREFIXES = ("expected", "greedy", "sample")


def open_predictors(specs: Sequence[str], load_scorer: LoadScorer) -> list[Predictor]:
    """The models that the specifications name, each with a name of its own.

    Raises:
        PredictorError: a package, a metric or a file is missing, or two are the same.
    """
    found: list[Predictor] = []
    for spec in specs:
        label, what = _labelled(spec)
        kind, separator, rest = what.partition(":")
        if what in CLASSIC_METRICS:
            predictor: Predictor = CLASSIC_METRICS[what]()
        elif what == "niqe":
            raise PredictorError("The package `niqe` lacks its model file and can't run: use pyiqa:niqe, with pyiqa.")
        elif separator and kind == "pyiqa":
            predictor = pyiqa_metric(rest)
        elif separator and kind == "csv":
            predictor = ScoresInFile(Path(rest))
        elif separator and kind == "shamisa":
            predictor = ScoredByProbe(rest, load_scorer(rest, None))
        elif separator and kind in READOUT_PREFIXES:
            predictor = ScoredByModel(rest, load_scorer(rest, kind))
            predictor.name = f"{predictor.name} ({kind})"
        else:
            predictor = ScoredByModel(what, load_scorer(what, None))
        predictor.name = label or predictor.name
        if predictor.name in {other.name for other in found}:
            predictor.name = label or what
        if predictor.name in {other.name for other in found}:
            raise PredictorError(f"Two models are called {predictor.name!r}: give one another name, as LABEL={what}.")
        found.append(predictor)
    return found


class ScoredByModel:
    """A vision-language model, by its `Scorer`."""

    def __init__(self, spec: str, scorer: Scorer) -> None:
        scorer.distributions = True
        prompt = asdict(scorer.answer_format)
        self.scorer, self.name = scorer, Path(spec).name or spec
        self.about = {
            "kind": "model",
            "model": spec,
            "readout": scorer.readout_name,
            "samples": getattr(getattr(scorer.backend, "readout", None), "samples", None),
            "answer_format": scorer.answer_format.name,
            "prompt_sha256": hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest(),
            "views": asdict(scorer.views),
            "seed": scorer.seed,
        }

    def predict(self, rows: Sequence[RatedImage], open_picture: OpenPicture) -> Iterator[Prediction]:
        def source(row: RatedImage) -> Image.Image | Path:
            try:
                return open_picture(row)
            except ImageError:
                return row.image  # the scorer then says the same of it

        for score in self.scorer.stream(source(row) for row in rows):
            text = None if score.text is None else score.text[:500]
            yield Prediction(score.score, score.std, score.error, text, score.distribution)


class ScoredByProbe:
    """A pretrained encoder with its probe, whose predictions are taken as they are: at the ends of the scale a scorer
    calls many pictures equal that the probe does not (gMAD's lowest and highest bins)."""

    def __init__(self, spec: str, scorer: Scorer) -> None:
        from mriqa.features.probe_backend import ProbeBackend

        if not isinstance(scorer.backend, ProbeBackend):
            raise PredictorError(f"shamisa:{spec} is no encoder with a saved probe: leave out shamisa:.")
        if scorer.views != ViewSettings():
            raise PredictorError("A saved probe looks at pictures in its own way: leave out --resize and --crop.")
        self.backend, self.name = scorer.backend, Path(spec).name or spec
        saved = self.backend.saved
        self.about = {"kind": "probe", "model": spec, "crop": saved.crop, "learned_from": saved.learned_from}

    def predict(self, rows: Sequence[RatedImage], open_picture: OpenPicture) -> Iterator[Prediction]:
        for row in rows:
            try:
                score = float(self.backend.predictions([open_picture(row)])[0])
            except ImageError as error:
                yield Prediction(math.nan, error=str(error))
                continue
            failed = None if math.isfinite(score) else f"The encoder gives {score} for this picture."
            yield Prediction(score if failed is None else math.nan, error=failed)


class ClassicMetric:
    """A no-reference metric: a function of the pixels (H, W, 3), uint8, RGB."""

    def __init__(self, name: str, metric: Callable[[np.ndarray], float], about: dict[str, Any]) -> None:
        self.name, self.metric, self.about = name, metric, {"kind": "metric", **about}

    def predict(self, rows: Sequence[RatedImage], open_picture: OpenPicture) -> Iterator[Prediction]:
        for row in rows:
            try:
                score = float(self.metric(np.asarray(open_picture(row))))
            except ImageError as error:
                yield Prediction(math.nan, error=str(error))
                continue
            except Exception as error:  # other people's code, on any picture: said in the results, and counted
                yield Prediction(math.nan, error=f"{self.name} fails ({type(error).__name__}: {error}).")
                continue
            if math.isfinite(score):
                yield Prediction(score)
            else:
                yield Prediction(math.nan, error=f"{self.name} gives {score}.")


def brisque_metric() -> ClassicMetric:
    """BRISQUE (Mittal, Moorthy and Bovik, 2012) of the package `brisque`, turned round."""
    try:
        from brisque import BRISQUE
    except ImportError as error:
        raise _missing("brisque", error) from error
    metric = BRISQUE(url=False)
    return ClassicMetric("BRISQUE", lambda pixels: -metric.score(pixels), {"package": "brisque", "score": TURNED})


def piqe_metric() -> ClassicMetric:
    """PIQE (Venkatanath et al., 2015) of the package `pypiqe`, turned round; it expects OpenCV's order of colours."""
    try:
        from pypiqe import piqe
    except ImportError as error:
        raise _missing("piqe", error) from error
    return ClassicMetric(
        "PIQE", lambda pixels: -float(piqe(pixels[:, :, ::-1].copy())[0]), {"package": "pypiqe", "score": TURNED}
    )


CLASSIC_METRICS: dict[str, Callable[[], ClassicMetric]] = {"brisque": brisque_metric, "piqe": piqe_metric}


def pyiqa_metric(name: str) -> ClassicMetric:
    """A no-reference metric of pyiqa (its licence is PolyForm Noncommercial), turned round where lower is better."""
    try:
        import pyiqa
    except ImportError as error:
        raise PredictorError(
            f"pyiqa:{name} needs pyiqa, which is not installed: pip install pyiqa (for non-commercial use)."
        ) from error
    import torch

    if name not in pyiqa.list_models("NR"):
        raise PredictorError(f"pyiqa has no no-reference metric {name!r}; pyiqa.list_models('NR') shows what it has.")
    metric = pyiqa.create_metric(name)
    sign = -1.0 if metric.lower_better else 1.0

    def score(pixels: np.ndarray) -> float:
        picture_BCHW = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return sign * float(metric(picture_BCHW))

    return ClassicMetric(
        f"{name} (pyiqa)", score, {"package": "pyiqa", "score": TURNED if sign < 0 else "the metric as it is"}
    )


class ScoresInFile:
    """Scores of a table, found by a row's id, else by its path, else by its file name where that is unique."""

    def __init__(self, path: Path) -> None:
        from mriqa.manifest.formats import read_records

        self.path, self.name = path, path.stem
        self.about = {"kind": "file", "file": str(path), "sha256": hashlib.sha256(_bytes(path)).hexdigest()}
        self._by_id: dict[str, float] = {}
        self._by_path: dict[str, float] = {}
        self._by_name: dict[str, float] = {}
        twice: set[str] = set()
        for record in read_records(path):
            if record.problem:
                raise PredictorError(f"Line {record.line} of {path} {record.problem.rstrip('.')}.")
            score = self._score(record.row, record.line)
            image = record.row.get("image")
            if record.row.get("id") not in (None, ""):
                self._by_id[str(record.row["id"])] = score
            elif image in (None, ""):
                raise PredictorError(f"Line {record.line} of {path} has neither `id` nor `image`.")
            if image not in (None, ""):
                self._by_path[str(image)] = score
                name = Path(str(image)).name
                if name in self._by_name:
                    twice.add(name)
                self._by_name[name] = score
        for name in twice:
            del self._by_name[name]

    def predict(self, rows: Sequence[RatedImage], open_picture: OpenPicture) -> Iterator[Prediction]:
        for row in rows:
            places = ((self._by_id, row.id), (self._by_path, str(row.image)), (self._by_name, row.image.name))
            score = next((table[key] for table, key in places if key in table), None)
            if score is None:
                yield Prediction(math.nan, error=f"{self.path} has no row for {row.id!r}.")
            elif math.isnan(score):
                yield Prediction(math.nan, error=f"{self.path} has no score for {row.id!r}.")
            else:
                yield Prediction(score)

    def _score(self, row: dict[str, Any], line: int) -> float:
        if "score" not in row:
            raise PredictorError(f"Line {line} of {self.path} has no `score`; its keys are {', '.join(row)}.")
        value = row["score"]
        if value is None or value == "":
            return math.nan
        try:
            score = float(value)
        except (TypeError, ValueError):
            score = math.inf
        if math.isinf(score):
            raise PredictorError(f"In line {line} of {self.path} the score {value!r} is no number.")
        return score


def _labelled(spec: str) -> tuple[str | None, str]:
    label, separator, what = spec.partition("=")
    return (label, what) if separator and label and what and "/" not in label else (None, spec)


def _missing(name: str, error: ImportError) -> PredictorError:
    return PredictorError(f"{name} needs the extra `baselines`: pip install 'mriqa[baselines]' ({error}).")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PredictorError(f"The scores {path} can't be read: {error.strerror or error}.") from error
