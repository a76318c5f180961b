"""Measures on counted resamples against scipy on the images written out as often as they were drawn."""

import numpy as np
import pytest
from scipy import stats

from mriqa.eval.statistics import resampling


def vectors(n=40, seed=0):
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1, 5, n).round(1)
    return (mos + rng.normal(0, 0.6, n)).round(1), mos


def written_out(values, counts):
    return np.repeat(values, counts)


@pytest.mark.parametrize("contents", [None, [k // 4 for k in range(40)]])
def test_measures_equal_scipy_on_the_images_written_out(contents):
    pred, mos = vectors()
    mapped = 0.9 * pred + 0.2
    (counts,) = resampling.resample_counts(40, 20, 5, contents)
    got = resampling.measures_on_resamples(pred, mos, mapped, counts, resampling.MEASURES)
    for row, held in enumerate(counts):
        assert held.sum() == 40
        a, b, c = (written_out(values, held) for values in (pred, mos, mapped))
        assert got["srcc"][row] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
        assert got["krcc"][row] == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)
        assert got["plcc"][row] == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
        assert got["plcc_mapped"][row] == pytest.approx(stats.pearsonr(c, b).statistic, abs=1e-12)
        assert got["rmse"][row] == pytest.approx(np.sqrt(np.mean((c - b) ** 2)), abs=1e-12)
        assert got["mae"][row] == pytest.approx(np.mean(np.abs(c - b)), abs=1e-12)


def test_large_sets_get_kendall_one_resample_at_a_time(monkeypatch):
    pred, mos = vectors()
    (counts,) = resampling.resample_counts(40, 10, 1)
    at_once = resampling.kendall(pred, mos, counts)
    monkeypatch.setattr(resampling, "SIGN_MATRIX_UP_TO", 10)
    assert resampling.kendall(pred, mos, counts) == pytest.approx(at_once, abs=1e-12)


def test_contents_are_drawn_whole_and_blocks_change_nothing(monkeypatch):
    contents = ["a", "b", "a", "c", "c", "c"]
    counts = np.concatenate(list(resampling.resample_counts(6, 50, 3, contents)))
    assert (counts[:, 0] == counts[:, 2]).all() and (counts[:, 3:] == counts[:, 3:4]).all()
    assert (counts[:, 0] + counts[:, 1] + counts[:, 3] == 3).all()
    monkeypatch.setattr(resampling, "BLOCK", 6 * 7)
    assert (np.concatenate(list(resampling.resample_counts(6, 50, 3, contents))) == counts).all()


def test_a_resample_of_one_value_has_no_correlation():
    counts = np.array([[4, 0, 0, 0], [1, 1, 1, 1]])
    pred, mos = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    got = resampling.measures_on_resamples(pred, mos, None, counts, ["srcc", "krcc", "plcc", "rmse"])
    assert np.isnan([got[name][0] for name in got]).all()
    assert got["srcc"][1] == pytest.approx(0.8)
    assert np.isnan(got["rmse"]).all()
