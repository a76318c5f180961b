"""Make a calibration (`mriqa.scoring.certainty`) from pictures that people rated and the model wasn't trained on.

    calibration = calibrate(Scorer.from_pretrained(model), read_manifest("val.jsonl"))
    calibration.save(model)

The contents are dealt into folds. What the multiples of a fold's errors are is seen with everything else (floor, gain,
what is familiar) fitted on the other folds, so that they know what a content nobody has seen does to both.

Legend: N pictures, D statistics, R reference pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mriqa.images import ImageError, load_image
from mriqa.scoring.certainty import (
    HIGHEST,
    LEVELS,
    LOWEST,
    Calibration,
    CalibrationError,
    Familiar,
    expected_error,
    mean_statistics,
    share_of,
    to_nearest,
)
from mriqa.scoring.picture_statistics import STATISTICS, picture_statistics
from mriqa.scoring.strange_pictures import strange_pictures
from mriqa.views import views

if TYPE_CHECKING:
    from mriqa.manifest.rows import RatedImage
    from mriqa.scoring.scorer import Score, Scorer

FEWEST_IMAGES, FEWEST_CONTENTS = 60, 10
MOST_RATED, DRAWN = 400, 200  # reference pictures
FAMILIAR = 0.9  # of the rated pictures of other contents are wholly familiar
MOST_LEANING = 0.45
WIDER = 1.25  # times the largest error expected of a familiar picture, of a strange one at least
FOLDS = 5
COVERAGE_COLUMNS = ("covered", "width")  # of `coverage_rows`


@dataclass(frozen=True)
class Observed:
    """What a model said of rated pictures, those without a score left out.

    Attributes:
        score_N, std_N: as the readout gives them, std NaN where it gives none.
        mos_N: what people said, in 1..5.
        statistics_ND: of the pictures' views.
        content_N: what each picture shows, by number.
        readout: how the scores were read.
    """

    score_N: np.ndarray
    std_N: np.ndarray
    mos_N: np.ndarray
    statistics_ND: np.ndarray
    content_N: np.ndarray
    readout: str

    def part(self, chosen_N: np.ndarray) -> Observed:
        """The pictures of this mask (N,)."""
        arrays = ("score_N", "std_N", "mos_N", "statistics_ND", "content_N")
        return replace(self, **{name: getattr(self, name)[chosen_N] for name in arrays})

    @property
    def contents(self) -> np.ndarray:
        """The numbers of its contents, each once."""
        return np.unique(self.content_N)


def calibrate(
    scorer: Scorer,
    rows: Sequence[RatedImage],
    seed: int = 0,
    progress: Callable[..., Iterable[Score]] | None = None,
) -> Calibration:
    """Score rated pictures and fit how far off the scores are.

    The pictures must be ones that the model wasn't trained on, of at least 10 contents (`RatedImage.content`), and of
    the kinds and damages that it will meet: what isn't among them counts as strange. `progress` is `with_progress`.
    Raises CalibrationError for too few pictures, BackendError.
    """
    return fit(observe(scorer, rows, progress), seed)


def observe(
    scorer: Scorer, rows: Sequence[RatedImage], progress: Callable[..., Iterable[Score]] | None = None
) -> Observed:
    """The scores and the statistics of rated pictures; a calibration that the scorer has plays no part."""
    bare, statistics, rated = scorer.uncalibrated(), [], []

    def pictures() -> Iterator[Image.Image]:
        for row in rows:
            try:
                picture = load_image(row.image)
            except ImageError:
                continue
            rated.append(row)
            statistics.append(mean_statistics(views(picture, bare.views)))
            yield picture

    stream: Iterable[Score] = bare.stream(pictures())
    scores = list(stream if progress is None else progress(stream, len(rows), "Calibrating"))
    scored = [k for k, score in enumerate(scores) if not math.isnan(score.score)]
    names = {name: number for number, name in enumerate(dict.fromkeys(row.content for row in rated))}
    return Observed(
        np.array([scores[k].score for k in scored]),
        np.array([scores[k].std for k in scored]),
        np.array([rated[k].mos for k in scored]),
        np.array([statistics[k] for k in scored]).reshape(-1, len(STATISTICS)),
        np.array([names[rated[k].content] for k in scored], dtype=int),
        bare.readout_name,
    )


def fit(observed: Observed, seed: int = 0) -> Calibration:
    """The calibration of what was observed, with its coverage on held-out contents. Raises CalibrationError."""
    n_images, n_contents = len(observed.mos_N), len(observed.contents)
    if n_images < FEWEST_IMAGES or n_contents < FEWEST_CONTENTS:
        raise CalibrationError(
            f"A calibration needs at least {FEWEST_IMAGES} scored pictures of {FEWEST_CONTENTS} contents, and these "
            f"are {n_images} of {n_contents}: give more rated pictures."
        )
    dealt = np.array_split(np.random.default_rng(seed).permutation(observed.contents), FOLDS)
    spread_N = np.empty(n_images)
    held_FN = np.array([np.isin(observed.content_N, contents) for contents in dealt])
    for held_N in held_FN:
        spread_N[held_N] = _spreads(_fitted(observed.part(~held_N)), observed.part(held_N))
    ratio_N = np.abs(observed.mos_N - observed.score_N) / spread_N
    covered_N, width_N = np.empty(n_images, dtype=bool), np.empty(n_images)
    coverage = {}
    for level in LEVELS:
        for held_N in held_FN:
            multiple = _multiple(ratio_N[~held_N], level)
            reach_N = multiple * spread_N[held_N]
            score_N = observed.score_N[held_N]
            covered_N[held_N] = ratio_N[held_N] <= multiple
            width_N[held_N] = np.minimum(HIGHEST, score_N + reach_N) - np.maximum(LOWEST, score_N - reach_N)
        coverage[str(level)] = {"covered": float(covered_N.mean()), "width": float(width_N.mean())}
    multiples = {str(level): _multiple(ratio_N, level) for level in LEVELS}
    return replace(_fitted(observed), multiples=multiples, coverage=coverage)


def _fitted(observed: Observed) -> Calibration:
    """All but the multiples."""
    floor, gain = _error_formula(observed)
    largest = max(expected_error(std, 0.0, floor, gain, 0.0) for std in observed.std_N)
    # The error of scores that have nothing to do with their pictures.
    unrelated = observed.mos_N.var() + observed.score_N.var() + (observed.mos_N.mean() - observed.score_N.mean()) ** 2
    prior = max(float(unrelated**0.5), WIDER * largest)
    images, contents = len(observed.mos_N), len(observed.contents)
    return Calibration(observed.readout, floor, gain, prior, {}, _familiar(observed), images, contents)


def _multiple(ratio_N: np.ndarray, level: float) -> float:
    """The conformal quantile: of N errors and one more, so many are below with this probability at least."""
    rank = min(len(ratio_N), math.ceil(level * (len(ratio_N) + 1)))
    return float(np.sort(ratio_N)[rank - 1])


def _familiar(observed: Observed) -> Familiar:
    """The rated pictures as the familiar ones; how near is near, their distances to those of other contents say."""
    centre_D, scale_D = observed.statistics_ND.mean(axis=0), observed.statistics_ND.std(axis=0).clip(1e-3)
    step = max(1, -(-len(observed.statistics_ND) // MOST_RATED))
    own_ND = (observed.statistics_ND - centre_D) / scale_D
    rated_RD, drawn_RD = own_ND[::step].round(2), ((_drawn_statistics() - centre_D) / scale_D).round(2)
    to_rated_N = to_nearest(own_ND, rated_RD, observed.content_N[:, None] == observed.content_N[::step])
    leaning_N = share_of(to_rated_N, to_nearest(own_ND, drawn_RD))
    leaning, near = (float(np.quantile(values_N, FAMILIAR)) for values_N in (leaning_N, to_rated_N))
    references = rated_RD.tolist(), drawn_RD.tolist()
    limits = min(MOST_LEANING, leaning), max(1e-6, near)
    return Familiar(STATISTICS, centre_D.tolist(), scale_D.tolist(), *references, *limits)


@cache
def _drawn_statistics() -> np.ndarray:
    return np.array([picture_statistics(picture) for picture in strange_pictures(DRAWN)])


def _error_formula(fitting: Observed) -> tuple[float, float]:
    """Floor and gain under which the errors are likeliest, if they were normally distributed."""
    from scipy.optimize import minimize

    squares_N = (fitting.mos_N - fitting.score_N) ** 2
    variances_N = np.nan_to_num(fitting.std_N**2)
    typical = float(squares_N.mean())

    def surprise(parts: np.ndarray) -> float:
        expected_N = np.exp(parts[0]) + np.exp(parts[1]) * variances_N
        return float(np.mean(np.log(expected_N) + squares_N / expected_N))

    start = np.log([max(typical, 1e-6) / 2, max(typical, 1e-6) / 2 / max(float(variances_N.mean()), 1e-6)])
    found = minimize(surprise, start, method="Nelder-Mead")
    floor, gain = np.exp(found.x / 2)
    return max(float(floor), 0.01), float(gain) if variances_N.any() else 0.0


def _spreads(calibration: Calibration, observed: Observed) -> np.ndarray:
    strangeness_N = calibration.familiar.strangeness(observed.statistics_ND)
    return np.array([calibration.spread(*pair) for pair in zip(observed.std_N, strangeness_N)])


def coverage_rows(calibration: Calibration) -> dict[str, dict[str, Any]]:
    """Nominal level -> what share of held-out ratings lay inside, and the intervals' mean width, for a table."""
    found: Mapping[str, Mapping[str, float]] = calibration.coverage
    return {f"{float(level):.0%} interval": dict(numbers) for level, numbers in found.items()}
