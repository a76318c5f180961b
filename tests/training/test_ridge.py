"""Ridge regression whose penalty is chosen on held-out contents, against a plain loop over the penalties."""

from __future__ import annotations

import numpy as np
import pytest

from mriqa.training.selected_networks.ridge import PENALTIES, fit_ridge


def by_hand(x_ND: np.ndarray, y_N: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Weights and offset of ridge on standardised features, by the normal equations."""
    mean_D, std_D = x_ND.mean(axis=0), x_ND.std(axis=0)
    z_ND = (x_ND - mean_D) / std_D
    weights_D = np.linalg.solve(z_ND.T @ z_ND + penalty * np.eye(x_ND.shape[1]), z_ND.T @ (y_N - y_N.mean())) / std_D
    return weights_D, float(y_N.mean() - mean_D @ weights_D)


def test_the_penalty_is_that_of_the_least_error_on_held_out_contents() -> None:
    rng = np.random.default_rng(0)
    x_ND, groups_N = rng.normal(size=(40, 12)), np.repeat(np.arange(4), 10)
    y_N = x_ND @ rng.normal(size=12) + 4 * rng.normal(size=40)
    errors = []
    for penalty in PENALTIES:
        error = 0.0
        for content in range(4):
            weights_D, offset = by_hand(x_ND[groups_N != content], y_N[groups_N != content], penalty)
            error += float(np.square(x_ND[groups_N == content] @ weights_D + offset - y_N[groups_N == content]).sum())
        errors.append(error)
    weights_D, offset = by_hand(x_ND, y_N, PENALTIES[int(np.argmin(errors))])
    np.testing.assert_allclose(fit_ridge(x_ND, y_N, groups_N).predict(x_ND), x_ND @ weights_D + offset, atol=1e-8)


def test_one_content_or_one_image_can_be_learnt_from() -> None:
    x_ND = np.random.default_rng(0).normal(size=(6, 3))
    apart = fit_ridge(x_ND, x_ND[:, 0], np.arange(6)).predict(x_ND)
    np.testing.assert_allclose(fit_ridge(x_ND, x_ND[:, 0], np.zeros(6)).predict(x_ND), apart)
    assert fit_ridge(x_ND[:1], np.array([2.5]), np.zeros(1)).predict(x_ND) == pytest.approx([2.5] * 6)
