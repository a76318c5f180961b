"""Ridge regression on frozen features, its penalty chosen on held-out contents: the quick judge of a training set.

Legend: N images, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PENALTIES = tuple(10.0**power for power in range(0, 7))
FOLDS = 5


def fit_ridge(x_ND: np.ndarray, scores_N: np.ndarray, groups_N: np.ndarray, weights_N: np.ndarray | None = None) -> Any:
    """Ridge regression on standardised features, with the penalty of the least squared error on held-out contents.

    Arguments:
        x_ND: features.
        scores_N: human scores.
        groups_N: content of each image; images of one content are held out together. Where there is a single content,
            each image is held out alone; a single image can't be, and its score is what is predicted.
        weights_N: of the samples, in the fit and in the choice of the penalty; all the same where there are none.

    Returns:
        a scikit-learn pipeline with `predict`.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    weights_N = np.ones(len(scores_N)) if weights_N is None else weights_N

    def ridge(penalty: float, rows: np.ndarray) -> Any:
        model = make_pipeline(StandardScaler(), Ridge(penalty, solver="cholesky"))
        return model.fit(x_ND[rows], scores_N[rows], ridge__sample_weight=weights_N[rows])

    def held_out(penalty: float) -> float:
        return sum(
            float(weights_N[test] @ np.square(ridge(penalty, train).predict(x_ND[test]) - scores_N[test]))
            for train, test in parts
        )

    if len(scores_N) == 1:
        return ridge(PENALTIES[-1], np.arange(1))
    if len(set(groups_N)) == 1:
        groups_N = np.arange(len(scores_N))
    parts = list(GroupKFold(min(FOLDS, len(set(groups_N)))).split(x_ND, groups=groups_N))
    return ridge(min(PENALTIES, key=held_out), np.arange(len(x_ND)))
