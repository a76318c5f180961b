"""Quality read from frozen features by ridge regression: SHAMISA's linear probe (arXiv 2603.13669, after ARNIQA).

Each picture has V rows of features, its crops. Ridge regression learns on rows, the score of a picture standing beside
each of its own; a prediction is the mean over the rows. The penalty α is one for a data set: of 100 values the one
whose SRCC on the validation part has the largest median over the splits, the first of equal ones. It is then fitted on
each split's training part, without its validation part.

One decomposition gives all 100 fits, which are those of scikit-learn's Ridge with an intercept.

Legend: N pictures, V rows of a picture, F features, R rows to learn from, A penalties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mriqa.datasets.splits import RANDOM_SPLITS, random_split
from mriqa.pretrain.graphs.layout import PretrainError

FloatArray = npt.NDArray[np.float64]
Agreement = Callable[[FloatArray, FloatArray], float]

ALPHAS: FloatArray = np.geomspace(1e-3, 1e3, 100)
RATIOS = (70, 10, 20)
BLOCK = 4096  # rows that are float64 at a time


@dataclass(frozen=True)
class Split:
    """Places of the pictures in each part."""

    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


@dataclass(frozen=True)
class RidgeProbe:
    """A line through features: weights (F,) and an intercept, in points of the scores that it was fitted to."""

    weights_F: FloatArray
    intercept: float
    alpha: float

    def scores(self, features_NVF: npt.ArrayLike) -> FloatArray:
        """Predicted scores (N,), not clipped to any scale. PretrainError for features of another width."""
        features = np.asarray(features_NVF)
        if features.ndim != 3 or features.shape[2] != len(self.weights_F):
            raise PretrainError(
                f"The probe reads {len(self.weights_F)} features of each crop, not an array of shape {features.shape}."
            )
        return features.mean(axis=1, dtype=np.float64) @ self.weights_F + self.intercept


@dataclass(frozen=True)
class ProbedSet:
    """A data set through the probe: the penalty, its validation medians (A,), and one probe for each split."""

    alpha: float
    val_medians_A: FloatArray
    probes: tuple[RidgeProbe, ...]


def content_splits(contents: Sequence[str], count: int = RANDOM_SPLITS) -> list[Split]:
    """The first of the ten random splits by content, 70/10/20. Raises DataSetError for fewer than 3 contents."""
    splits = []
    for index in range(count):
        part_of = random_split(contents, RATIOS, index)
        parts = np.array([part_of[content] for content in contents])
        splits.append(Split(*(np.flatnonzero(parts == part) for part in ("training", "validation", "test"))))
    return splits


def ridge_path(
    features_RF: npt.ArrayLike, scores_R: npt.ArrayLike, alphas_A: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Weights (A, F) and intercepts (A,) of the minima of Σ (y - x·w - b)² + α ‖w‖², one for each penalty above 0."""
    features_RF = np.asarray(features_RF)
    scores_R = np.asarray(scores_R, dtype=np.float64)
    alphas_A = np.asarray(alphas_A, dtype=np.float64)
    mean_F = features_RF.mean(axis=0, dtype=np.float64)
    centred_R = scores_R - scores_R.mean()
    if len(features_RF) <= features_RF.shape[1]:
        x_RF = features_RF.astype(np.float64) - mean_F
        values, vectors = np.linalg.eigh(x_RF @ x_RF.T)
        weights_FA = x_RF.T @ (vectors @ _shrunk(values, vectors.T @ centred_R, alphas_A))
    else:
        width = features_RF.shape[1]
        gram_FF, moment_F = np.zeros((width, width)), np.zeros(width)
        for start in range(0, len(features_RF), BLOCK):  # all rows as float64 may be gigabytes
            x_BF = features_RF[start : start + BLOCK].astype(np.float64) - mean_F
            gram_FF += x_BF.T @ x_BF
            moment_F += x_BF.T @ centred_R[start : start + BLOCK]
        values, vectors = np.linalg.eigh(gram_FF)
        weights_FA = vectors @ _shrunk(values, vectors.T @ moment_F, alphas_A)
    return weights_FA.T, scores_R.mean() - mean_F @ weights_FA


def _shrunk(values: FloatArray, along: FloatArray, alphas_A: FloatArray) -> FloatArray:
    """Coordinates along the eigenvectors, each divided by its eigenvalue (rounding makes some negative) plus α."""
    return along[:, None] / (values.clip(min=0)[:, None] + alphas_A)


def probe_data_set(
    features_NVF: npt.ArrayLike,
    scores: npt.ArrayLike,
    splits: Sequence[Split],
    srcc: Agreement,
    alphas: npt.ArrayLike = ALPHAS,
    standardise: bool = False,
) -> ProbedSet:
    """Choose α by the validation parts, and fit each split's training part with it.

    Args:
        features_NVF: (N, V, F).
        scores: (N,), higher is better.
        splits: parts of the data set, such as `content_splits`.
        srcc: rank correlation of predictions and scores; NaN counts as the worst.
        alphas: penalties to choose from, above 0.
        standardise: divide features by their deviation over the training rows first, for features that are not, as
            those of a pretrained encoder are, of unit length.

    Raises:
        PretrainError: shapes that do not fit, no splits, or a part of fewer than two pictures.
    """
    features, scores_N = _checked(features_NVF, scores)
    if not splits or any(min(len(split.train), len(split.val)) < 2 for split in splits):
        raise PretrainError("A probe needs a split with at least two pictures to train on and two to validate by.")
    alphas_A = np.asarray(alphas, dtype=np.float64)
    paths, agreements = [], []
    for split in splits:
        rows_RF, scores_R = _rows(features[split.train], scores_N[split.train])
        spread_F = _spread(rows_RF) if standardise else np.ones(rows_RF.shape[1], dtype=rows_RF.dtype)
        weights_AF, intercepts_A = ridge_path(rows_RF / spread_F, scores_R, alphas_A)
        weights_AF = weights_AF / spread_F
        predicted_nA = features[split.val].mean(axis=1, dtype=np.float64) @ weights_AF.T + intercepts_A
        agreements.append([srcc(predicted_n, scores_N[split.val]) for predicted_n in predicted_nA.T])
        paths.append((weights_AF, intercepts_A))
    val_medians_A = np.median(np.nan_to_num(np.array(agreements), nan=-1.0), axis=0)
    best = int(val_medians_A.argmax())  # the first of equal ones
    alpha = float(alphas_A[best])
    probes = tuple(RidgeProbe(weights[best], float(intercepts[best]), alpha) for weights, intercepts in paths)
    return ProbedSet(alpha, val_medians_A, probes)


def fit_probe(features_NVF: npt.ArrayLike, scores: npt.ArrayLike, alpha: float) -> RidgeProbe:
    """The probe of all pictures given. PretrainError where shapes do not fit or α isn't above 0."""
    features, scores_N = _checked(features_NVF, scores)
    if not 0 < alpha < np.inf:
        raise PretrainError(f"The penalty of a probe must be a number above 0, not {alpha}.")
    weights_AF, intercepts_A = ridge_path(*_rows(features, scores_N), [alpha])
    return RidgeProbe(weights_AF[0], float(intercepts_A[0]), alpha)


def _spread(rows_RF: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Deviation (F,) of each feature, 1 where it is constant."""
    spread_F = rows_RF.std(axis=0)
    return np.where(spread_F > 0, spread_F, 1)


def _rows(features_NVF: npt.NDArray[np.floating], scores_N: FloatArray) -> tuple[npt.NDArray[np.floating], FloatArray]:
    """Every crop as a row to learn from, with the score of its picture."""
    return features_NVF.reshape(-1, features_NVF.shape[2]), np.repeat(scores_N, features_NVF.shape[1])


def _checked(features_NVF: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[npt.NDArray[np.floating], FloatArray]:
    features, scores_N = np.asarray(features_NVF), np.asarray(scores, dtype=np.float64)
    if features.ndim != 3 or scores_N.shape != features.shape[:1] or len(features) < 2:
        raise PretrainError(
            f"A probe needs features (N, V, F) and scores (N,) of at least two pictures, not arrays of shape "
            f"{features.shape} and {scores_N.shape}."
        )
    if not (np.isfinite(features).all() and np.isfinite(scores_N).all()):
        raise PretrainError("Features or scores are NaN or infinite; leave those pictures out.")
    return features, scores_N
