"""Paired tests against published examples, other people's formulas and hand counts."""

import math

import numpy as np
import pytest

from mriqa.eval.statistics import compare_models, holm, paired_difference, steiger, williams


def williams_as_in_the_r_package_psych(r12, r13, r23, n):
    """`psych::r.test` for two correlations with a shared variable, read off its R source."""
    determinant = 1 - r12 * r12 - r23 * r23 - r13 * r13 + 2 * r12 * r23 * r13
    av = (r12 + r13) / 2
    cube = (1 - r23) ** 3
    return (r12 - r13) * math.sqrt((n - 1) * (1 + r23) / (2 * ((n - 1) / (n - 3)) * determinant + av * av * cube))


def steiger_as_in_the_r_package_cocor(jk, jh, kh, n):
    """Steiger's (1980) modification of Dunn and Clark's z with average correlations, `cocor` in R."""
    mean = (jk + jh) / 2
    c = (kh * (1 - 2 * mean**2) - 0.5 * mean**2 * (1 - 2 * mean**2 - kh**2)) / (1 - mean**2) ** 2
    return math.sqrt(n - 3) * (math.atanh(jk) - math.atanh(jh)) / math.sqrt(2 - 2 * c)


@pytest.mark.parametrize("r", [(0.4, 0.5, 0.1, 103), (0.93, 0.9, 0.85, 200), (-0.3, 0.2, 0.5, 30)])
def test_statistics_equal_other_peoples_formulas(r):
    assert williams(*r)[0] == pytest.approx(williams_as_in_the_r_package_psych(*r), abs=1e-12)
    assert steiger(*r)[0] == pytest.approx(steiger_as_in_the_r_package_cocor(*r), abs=1e-12)


def test_a_worked_example():
    """`psych::r.test(103, .4, .5, .1)`, "Steiger case A" on its help page: t = -.89, p < .37."""
    statistic, p = williams(0.4, 0.5, 0.1, 103)
    assert statistic == pytest.approx(-0.89, abs=0.005)
    assert p == pytest.approx(0.37, abs=0.01)


def test_equal_or_perfect_correlations_are_no_division_by_zero():
    assert williams(0.8, 0.8, 1.0, 50) == (0.0, 1.0)
    assert steiger(0.8, 0.8, 1.0, 50) == (0.0, 1.0)
    assert steiger(1.0, 0.8, 0.8, 50)[1] == 0.0
    for test in (williams, steiger):
        with pytest.raises(ValueError, match="more than three images"):
            test(0.1, 0.2, 0.3, 3)


def test_holm_by_hand():
    # Ascending .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, then never falling.
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def scores(n=150, seed=0):
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1, 5, n)
    return mos, mos + rng.normal(0, 0.3, n), mos + rng.normal(0, 1.5, n)


@pytest.mark.parametrize("measure", ["srcc", "krcc", "plcc", "plcc_mapped", "rmse", "mae"])
def test_the_better_model_is_found_whichever_way_is_better(measure):
    mos, good, poor = scores()
    found = paired_difference(good, poor, mos, measure=measure, resamples=500)
    assert found.better == "a" and found.p < 0.01
    assert min(abs(found.low), abs(found.high)) > 0 and found.low < found.difference < found.high
    assert (found.p_williams is None) == (measure in ("krcc", "rmse", "mae"))
    other = paired_difference(poor, good, mos, measure=measure, resamples=500)
    assert other.better == "b" and other.difference == pytest.approx(-found.difference)


def test_the_same_model_twice_is_no_difference():
    mos, good, _ = scores()
    found = paired_difference(good, good.copy(), mos, resamples=200)
    assert (found.difference, found.p, found.better) == (0.0, 1.0, None)


def test_only_images_that_both_scored_count():
    mos, good, poor = scores()
    good[:10], poor[5:20] = math.nan, math.nan
    assert paired_difference(good, poor, mos, resamples=100).n == 130


def test_a_constant_model_is_said_by_name():
    mos, good, _ = scores()
    found = paired_difference(good, np.full(150, 3.0), mos, names=("ours", "theirs"), resamples=100)
    assert found.difference is None and "theirs: All predictions are 3" in found.reason
    assert "no image that both" in paired_difference([math.nan] * 3, [1, 2, 3], [1, 2, 3]).reason


def test_many_models_are_corrected_together():
    mos, good, poor = scores()
    found = compare_models({"a": good, "b": poor, "c": good}, mos, resamples=300)
    assert [(each.a, each.b) for each in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [each.p_holm for each in found] == pytest.approx(holm([each.p for each in found]))
    assert [each.better for each in found] == ["a", None, "b"]


def test_p_goes_on_where_no_resample_lies_beyond_zero():
    """Against the normal distribution itself: resamples whose mean is z deviations from 0, by 1,000 and by 100,000."""
    from scipy.stats import norm, t

    from mriqa.eval.statistics.paired import _bootstrap_p

    drawn = np.random.default_rng(0).standard_normal(100_000)
    units = 26
    for z in (1.0, 2.0, 3.0, 4.0, 6.0):
        expected = 2 * t.cdf(-z / np.sqrt(units / (units - 1)), units - 1)
        assert norm.sf(z) > 0
        for count in (1_000, 100_000):
            found = _bootstrap_p(drawn[:count] + z, units)
            assert 0.6 * expected < found < 1.7 * expected, (z, count, found, expected)
