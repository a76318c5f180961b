"""How sure a score is: a calibration that lies beside a model turns its spread into intervals that hold.

A model's own spread says which pictures it finds hard, but not by how many points it errs. On rated pictures that it
wasn't trained on one sees that. The error to expect of a familiar picture is

    sqrt(floor² + gain² · std²)

and the share w of the way from there to `prior`, the error of scores that have nothing to do with their pictures,
depends on how unlike the rated pictures the picture is: w = 0 for those like them, and 1 far away
(`Calibration.strangeness`). An interval is the score ± a multiple of that. The multiples are quantiles of
|error| / expected error on rated pictures of contents that the rest wasn't fitted on: conformal prediction with a
normalised residual (Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, "Distribution-free predictive inference for
regression", JASA 2018, section 5.2), crossed over folds. `mriqa.scoring.calibrating` makes one.

Legend: N pictures, D statistics of a picture, R reference pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mriqa.errors import UserError
from mriqa.files import write_json
from mriqa.scoring.picture_statistics import STATISTICS, picture_statistics

CALIBRATION_FILE = "calibration.json"
LEVELS = (0.5, 0.8, 0.95)
LEVEL = 0.8  # of the interval that scores come with
LOWEST, HIGHEST = 1.0, 5.0
NEAREST = 3


class CalibrationError(UserError, ValueError):
    """A calibration that can't be made or read, as one sentence naming the cure."""


@dataclass(frozen=True)
class Familiar:
    """Which pictures are familiar: the statistics of rated ones, and of pictures that are no photographs beside them.

    Attributes:
        statistics: names of the statistics, which a later version may have others of.
        centre_D, scale_D: what standardises them.
        rated_RD: those of rated pictures, standardised.
        drawn_RD: those of `mriqa.scoring.strange_pictures`, likewise.
        leaning: what share of its distance to both a picture may have to the rated ones and still be familiar; with
            half of it, it is as near to the drawn ones and wholly strange.
        near: the distance to rated pictures up to which a picture is familiar; at twice that it is wholly strange.
    """

    statistics: tuple[str, ...]
    centre_D: list[float]
    scale_D: list[float]
    rated_RD: list[list[float]]
    drawn_RD: list[list[float]]
    leaning: float
    near: float

    def __post_init__(self) -> None:
        arrays = {name: np.array(getattr(self, name), dtype=np.float64) for name in ("rated_RD", "drawn_RD")}
        object.__setattr__(self, "_arrays", arrays)

    def strangeness(self, statistics_ND: np.ndarray) -> np.ndarray:
        """Of N pictures, from 0, like the rated pictures, to 1, unlike all of them."""
        own_ND = (statistics_ND - self.centre_D) / self.scale_D
        arrays: dict[str, np.ndarray] = self._arrays  # type: ignore[attr-defined]
        to_rated_N = to_nearest(own_ND, arrays["rated_RD"])
        leaning_N = share_of(to_rated_N, to_nearest(own_ND, arrays["drawn_RD"]))
        leans_N = (leaning_N - self.leaning) / (0.5 - self.leaning)
        return np.clip(np.maximum(leans_N, to_rated_N / self.near - 1), 0, 1)


@dataclass(frozen=True)
class Calibration:
    """How far off a model's scores are.

    Attributes:
        readout: the readout with which the scores were read; others have spreads of other kinds.
        floor, gain, prior: of the expected error, in points of 1..5, see above.
        multiples: level of an interval, as "0.8" -> how many expected errors it reaches to either side.
        familiar: which pictures are familiar.
        images, contents: what it was made of.
        coverage: for each level what share of rated pictures of held-out contents lay inside, and the mean width.
    """

    readout: str
    floor: float
    gain: float
    prior: float
    multiples: dict[str, float]
    familiar: Familiar
    images: int
    contents: int
    coverage: dict[str, dict[str, float]] = field(default_factory=dict)

    def strangeness(self, looked_at: Sequence[Image.Image]) -> float:
        """How unlike the rated pictures a picture is, 0..1, by the views of it that the model gets."""
        return float(self.familiar.strangeness(mean_statistics(looked_at)[None])[0])

    def spread(self, std: float, strangeness: float) -> float:
        """The error to expect, in points, where the model's own spread is `std` (NaN: it has none)."""
        return expected_error(std, strangeness, self.floor, self.gain, self.prior)

    def interval(self, score: float, spread: float, level: float = LEVEL) -> tuple[float, float]:
        """Where people's score is with this probability (one of `LEVELS`), within 1..5.

        Raises ValueError for another level.
        """
        if str(level) not in self.multiples:
            raise ValueError(f"There are intervals of {', '.join(self.multiples)}, none of {level}.")
        reach = self.multiples[str(level)] * spread
        return max(LOWEST, score - reach), min(HIGHEST, score + reach)

    def save(self, folder: str | Path) -> Path:
        """Write it into a model's folder, where `Scorer.from_pretrained` finds it."""
        target = Path(folder) / CALIBRATION_FILE
        write_json(asdict(self), target, indent=None)
        return target

    @classmethod
    def load(cls, folder: str | Path) -> Calibration | None:
        """The calibration in a model's folder; None where there is none. Raises CalibrationError."""
        path = Path(folder) / CALIBRATION_FILE
        if not path.is_file():
            return None
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            familiar = Familiar(**found.pop("familiar"))
            if tuple(familiar.statistics) != STATISTICS:
                raise ValueError("it was made with other statistics of pictures")
            calibration = cls(**found, familiar=replace(familiar, statistics=STATISTICS))
            numbers = [calibration.floor, calibration.gain, calibration.prior, *calibration.multiples.values()]
            if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
                raise ValueError("a number is missing")
            calibration.familiar.strangeness(np.zeros((1, len(STATISTICS))))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CalibrationError(
                f"{path} is not a calibration that this version reads ({error}): make it again with `mriqa calibrate`."
            ) from error
        return calibration


def expected_error(std: float, strangeness: float, floor: float, gain: float, prior: float) -> float:
    """The formula above, in points; a spread that is NaN counts as 0."""
    familiar = floor**2 + gain**2 * (0.0 if math.isnan(std) else std**2)
    return math.sqrt(familiar + strangeness * max(0.0, prior**2 - familiar))


def share_of(to_rated_N: np.ndarray, to_drawn_N: np.ndarray) -> np.ndarray:
    """The first of two distances as a share of both; a half where both are 0."""
    both_N = to_rated_N + to_drawn_N
    return np.where(both_N > 0, to_rated_N / np.maximum(both_N, 1e-12), 0.5)


def to_nearest(own_ND: np.ndarray, references_RD: np.ndarray, passed_over_NR: np.ndarray | None = None) -> np.ndarray:
    """The mean distances (N,) to the three nearest references, as root mean squares over the statistics.

    A mask passes references over, picture by picture.
    """
    products_NR = own_ND @ references_RD.T
    squares_NR = (own_ND**2).sum(axis=1)[:, None] + (references_RD**2).sum(axis=1) - 2 * products_NR
    if passed_over_NR is not None:
        squares_NR[passed_over_NR] = np.inf
    nearest = min(NEAREST, squares_NR.shape[1])
    nearest_NK = np.partition(squares_NR, nearest - 1, axis=1)[:, :nearest]
    return np.sqrt(nearest_NK.clip(0) / own_ND.shape[1]).mean(axis=1)


def mean_statistics(looked_at: Sequence[Image.Image]) -> np.ndarray:
    """The statistics (D,) of a picture, as means over its views."""
    return np.mean([picture_statistics(view) for view in looked_at], axis=0)
