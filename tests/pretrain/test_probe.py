"""The probe is scikit-learn's ridge on single crops, its penalty chosen as the published numbers have it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mriqa.errors import UserError
from mriqa.eval.metrics import srcc
from mriqa.pretrain.probe import ALPHAS, Split, content_splits, fit_probe, probe_data_set, ridge_path


def one_split(case) -> Split:
    train, val = (np.array(case["inputs"][name]) for name in ("train_images", "val_images"))
    return Split(train, val, val)


def test_the_published_case(vectors):
    case = vectors["ridge_probe"]
    features = np.array(case["inputs"]["features_image_crop_dim"])
    scores = np.array(case["inputs"]["mos"])
    split, wanted = one_split(case), case["outputs"]
    probed = probe_data_set(features, scores, [split], srcc)
    assert probed.val_medians_A == pytest.approx(wanted["val_srcc_per_alpha"], abs=1e-9)
    assert probed.alpha == pytest.approx(wanted["best_alpha"], abs=1e-9) == ALPHAS[wanted["best_index_first_maximum"]]
    assert probed.probes[0].scores(features[split.val]) == pytest.approx(wanted["predictions_at_best"], abs=1e-9)
    at_one = fit_probe(features[split.train], scores[split.train], 1.0)
    assert at_one.weights_F == pytest.approx(wanted["weights_at_alpha_1"], abs=1e-9)
    assert at_one.intercept == pytest.approx(wanted["intercept_at_alpha_1"], abs=1e-9)
    assert at_one.scores(features[split.val]) == pytest.approx(wanted["predictions_at_alpha_1"], abs=1e-9)


@pytest.mark.parametrize("rows, width", [(60, 7), (12, 40), (9000, 3)])  # more rows than features, fewer, two blocks
def test_the_path_is_scikit_learns(rows, width):
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 1, (rows, width)), rng.normal(3, 1, rows)
    weights, intercepts = ridge_path(x, y, [1e-3, 0.5, 1e3])
    for alpha, found, intercept in zip([1e-3, 0.5, 1e3], weights, intercepts, strict=True):
        ridge = Ridge(alpha, solver="svd").fit(x, y)
        assert found == pytest.approx(ridge.coef_, abs=1e-9) and intercept == pytest.approx(ridge.intercept_, abs=1e-9)


def test_the_median_over_splits_by_a_plain_loop():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 2, 4)).astype(np.float32)
    scores = features.mean(axis=1)[:, 0] + rng.normal(0, 0.5, 60)
    contents = [f"c{place // 4}" for place in range(60)]
    splits = content_splits(contents, 3)
    alphas = [0.01, 1.0, 100.0]
    medians, fits = [], []
    for alpha in alphas:
        own = []
        for split in splits:
            rows = np.concatenate([features[n] for n in split.train]).astype(np.float64)
            ridge = Ridge(alpha, solver="svd").fit(rows, np.repeat(scores[split.train], 2))
            predicted = [np.mean(ridge.predict(features[n].astype(np.float64))) for n in split.val]
            own.append(srcc(predicted, scores[split.val]))
            fits.append((alpha, ridge))
        medians.append(np.median(own))
    probed = probe_data_set(features, scores, splits, srcc, alphas)
    assert probed.val_medians_A == pytest.approx(medians, abs=1e-9)
    assert probed.alpha == alphas[int(np.argmax(medians))]
    wanted = [ridge.coef_ for alpha, ridge in fits if alpha == probed.alpha]
    for probe, coefficients in zip(probed.probes, wanted, strict=True):
        assert probe.weights_F == pytest.approx(coefficients, abs=1e-6)  # features are float32


def test_standardised_features_by_scikit_learn():
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(2)
    features = rng.normal(size=(40, 2, 3)) * [1e-3, 1.0, 1e3] + 5
    scores = features.mean(axis=1) @ [500, 0.1, 1e-3]
    split = Split(np.arange(25), np.arange(25, 40), np.arange(25, 40))
    (probe,) = probe_data_set(features, scores, [split], srcc, [2.0], standardise=True).probes
    scaler = StandardScaler().fit(features[split.train].reshape(-1, 3))
    ridge = Ridge(2.0, solver="svd").fit(
        scaler.transform(features[split.train].reshape(-1, 3)), np.repeat(scores[split.train], 2)
    )  # fmt: skip
    wanted = ridge.predict(scaler.transform(features[split.val].mean(axis=1)))
    assert probe.scores(features[split.val]) == pytest.approx(wanted, abs=1e-9)


def test_splits_keep_contents_apart():
    contents = [f"c{place % 29}" for place in range(290)]
    splits = content_splits(contents)
    assert len(splits) == 10
    for split in splits:
        parts = [{contents[n] for n in part} for part in (split.train, split.val, split.test)]
        assert [len(part) for part in parts] == [20, 3, 6]  # LIVE's, as published
        assert len(set.union(*parts)) == 29 and len(split.train) + len(split.val) + len(split.test) == 290


def test_equal_features_give_the_mean_score():
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    probe = fit_probe(np.ones((4, 5, 3)), scores, 1.0)
    assert probe.scores(np.ones((2, 5, 3))) == pytest.approx([2.5, 2.5])
    splits = [Split(np.arange(2), np.arange(2, 4), np.arange(2, 4))]
    with pytest.warns(UserWarning, match="constant"):
        probed = probe_data_set(np.ones((4, 5, 3)), scores, splits, srcc)
    assert probed.alpha == ALPHAS[0]


def test_what_cannot_be_probed():
    features, scores = np.ones((4, 5, 3)), np.arange(4.0)
    split = Split(np.arange(3), np.array([3]), np.array([3]))
    for attempt in (
        lambda: fit_probe(features[:, 0], scores, 1.0),
        lambda: fit_probe(features, scores[:3], 1.0),
        lambda: fit_probe(features, scores, 0.0),
        lambda: fit_probe(features * np.nan, scores, 1.0),
        lambda: probe_data_set(features, scores, [split], srcc),
        lambda: probe_data_set(features, scores, [], srcc),
        lambda: fit_probe(features, scores, 1.0).scores(np.ones((2, 5, 4))),
    ):
        with pytest.raises(UserError):
            attempt()
