"""PreSTA removes what evaluating every candidate by definition in every round would, on easy and on awkward sets."""

import sys
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from presta_by_definition import correlations, presta_by_definition

from mriqa.selection import SelectionError, ppc, ppr, presta, presta_joint
from mriqa.selection import load as load_selector
from mriqa.selection.presta.moments import KeptMoments
from mriqa.selection.presta.objectives import OBJECTIVES
from mriqa.selection.presta.screen import Screen


def rated_set(kind, n=100, width=24, seed=0):
    """Features with six latent causes, the first of which makes the score; and a target PPR that partly agrees."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 6))
    x = latent @ rng.normal(size=(6, width)) + rng.normal(size=(n, width))
    y = latent[:, 0] + 0.5 * rng.normal(size=n)
    if kind == "sparse":
        x = np.maximum(x - 2.0 * x.std(axis=0), 0)
    elif kind == "heavy tails":
        x = np.exp(x)
    elif kind == "offset":
        x = 0.01 * x + 1000
    elif kind == "vanishing":  # a third is constant from the start, a third as soon as one or two samples are gone
        x[:, : 2 * width // 3] = np.float32(0.1)
        for column in range(width // 3, 2 * width // 3):
            x[rng.integers(0, n, 1 + column % 2), column] = 3.0
    elif kind == "duplicates":
        x[n // 2 :], y[n // 2 :] = x[: n - n // 2], y[: n - n // 2]
    elif kind == "near duplicates":
        x[n // 2 :], y[n // 2 :] = x[: n - n // 2], y[: n - n // 2] + 1e-7 * rng.normal(size=n - n // 2)
    elif kind == "whole numbers":
        x, y = np.round(x), np.round(y)
    elif kind == "two scores":
        y = np.isin(np.arange(n), [3, 50]).astype(float)
    elif kind == "tiny scale":
        x = 1e-25 * x
    x = x.astype(np.float32)
    return x, y, np.clip(0.3 * correlations(x, y) + 0.4 * rng.normal(size=width), -1, 1)


KINDS = ["plain", "sparse", "heavy tails", "offset", "vanishing", "duplicates", "near duplicates", "whole numbers",
         "two scores", "tiny scale"]  # fmt: skip


GREEDY = sys.modules["mriqa.selection.presta.greedy"]  # `mriqa.selection.presta` is the function
SEARCHES = {"every candidate": 1000, "screened": 0, "screened, then every candidate": 45}


def every_candidate_up_to(count):
    """Within it, presta evaluates every candidate of sets of that many samples, and screens those of larger ones."""
    return mock.patch.object(GREEDY, "is_small", lambda moments: moments.count <= count)


@pytest.mark.parametrize("objective", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", KINDS)
def test_removals_equal_those_by_definition(kind, objective):
    x, y, target = rated_set(kind, n=100 if objective == "cosine" else 60, seed=KINDS.index(kind))
    kept, removed, course = presta_by_definition(x, y, target, stop=0.99, objective=objective)
    for count in SEARCHES.values():
        with np.errstate(invalid="raise", divide="raise"), every_candidate_up_to(count):
            check_course(presta(x, y, target, stop=0.99, objective=objective), kept, removed, course, objective)


def check_course(found, kept, removed, course, objective):
    assert found.removed.tolist() == removed
    assert found.kept.tolist() == kept
    np.testing.assert_allclose(found.ppc, course, atol=1e-12)
    assert len(removed) > 5
    if objective == "cosine":
        assert (np.diff(found.ppc) >= 0).all()


# A handful of whole numbers can leave a PPR of nothing but rounding, whose direction is anybody's.
SMALL_KINDS = [kind for kind in KINDS if kind != "whole numbers"]


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), n=st.integers(5, 40), width=st.integers(2, 12), kind=st.sampled_from(SMALL_KINDS))
def test_small_sets_down_to_a_fifth(seed, n, width, kind):
    x, y, target = rated_set(kind, n, width, seed)
    if not np.ptp(x, axis=0).any() or not np.ptp(y):
        return
    kept, removed, _ = presta_by_definition(x, y, target, 0.2, 2.0, 1e-6)
    for count in SEARCHES.values():
        with every_candidate_up_to(count):
            found = presta(x, y, target, stop=2.0)
        assert (found.kept.tolist(), found.removed.tolist()) == (kept, removed)


@pytest.mark.parametrize("kind", ["plain", "sparse", "heavy tails", "vanishing"])
@pytest.mark.parametrize("objective", ["cosine", "euclidean"])
def test_the_screen_excludes_few_and_never_the_best(kind, objective):
    x, y, target = rated_set(kind, n=1500, width=40)
    moments = KeptMoments(x, y)
    aim = OBJECTIVES[objective](target)
    screen = Screen(moments, aim)
    excluded = []
    for _ in range(100):
        estimate, above = screen._bounds()
        alive = np.flatnonzero(moments.alive_N)
        gains = aim.values(moments.without(alive)) - aim.values(moments.r_D[None])
        assert (gains <= estimate[alive] + above[alive]).all()
        excluded.append(np.mean(estimate[alive] + above[alive] < gains.max()))
        place, value = screen.best()
        assert value == pytest.approx(gains.max() + aim.values(moments.r_D[None])[0], abs=1e-13)
        screen.remove(place)
    assert np.mean(excluded) > (0.9 if kind == "plain" else 0.3)


def test_exact_leave_one_out_after_many_removals():
    x, y, _ = rated_set("sparse", n=300)
    moments = KeptMoments(x, y)
    rng = np.random.default_rng(1)
    for _ in range(200):
        moments.remove(int(rng.choice(np.flatnonzero(moments.alive_N))))
    kept = moments.rows_N[moments.alive_N]
    np.testing.assert_allclose(moments.r_D, correlations(x[kept], y[kept]), atol=1e-13)
    for place in np.flatnonzero(moments.alive_N)[:20]:
        others = kept[kept != moments.rows_N[place]]
        np.testing.assert_allclose(
            moments.without(np.array([place]))[0], correlations(x[others], y[others]), atol=1e-12
        )


def test_what_stops_it():
    x, y, target = rated_set("plain")
    own = ppr(x, y)
    assert presta(x, y, own).reason == "stop" and len(presta(x, y, own).removed) == 0
    floor = presta(x, y, target, floor=0.505, stop=2, min_gain=-np.inf)
    assert floor.reason == "floor" and len(floor.kept) == 50
    assert presta(x, y, target, min_gain=1.0).reason == "min_gain"
    assert len(presta(x, y, target, floor=0, stop=2, min_gain=-np.inf).kept) == 1
    half = presta(x, y, target, stop=0.5 * (floor.ppc[0] + floor.ppc[-1]))
    assert half.reason == "stop" and half.ppc[-2] < 0.5 * (floor.ppc[0] + floor.ppc[-1]) <= half.ppc[-1]


def test_equal_removals_take_the_lowest_index():
    x, y, target = rated_set("plain", n=30)
    twice = presta(np.concatenate([x, x]), np.concatenate([y, y]), target, stop=2)
    first = twice.removed[0]
    assert first < 30 and first + 30 in twice.removed


def test_scale_of_scores_and_kind_of_array_do_not_matter():
    x, y, target = rated_set("plain", n=60)
    found = presta(x, y, target)
    assert presta(torch.from_numpy(x), torch.from_numpy(100 * y + 7), target).removed.tolist() == found.removed.tolist()
    assert presta(x.tolist(), list(y), target.tolist()).removed.tolist() == found.removed.tolist()


def test_joint_selects_from_each_source_alone():
    sets = {str(seed): rated_set("plain", n=40, seed=seed)[:2] for seed in (1, 2)}
    target = rated_set("plain", seed=3)[2]
    seen = []
    found = presta_joint(sets, target, progress=lambda kept, value: seen.append((kept, value)))
    for name, (x, y) in sets.items():
        assert found[name].removed.tolist() == presta_by_definition(x, y, target, stop=0.95)[1]
    assert seen[0][0] == 39 and len(seen) == sum(len(part.removed) for part in found.values())
    with pytest.raises(SelectionError, match="Source 'bad': Source scores are all 1"):
        presta_joint({"bad": (sets["1"][0], np.ones(40))}, target)
    with pytest.raises(SelectionError, match="no sources"):
        presta_joint({}, target)


def test_as_a_selector_it_keeps_the_budget():
    x, y, target = rated_set("plain", n=40)
    select = load_selector("presta")
    for budget, count in ((1, 1), (7, 7), (0.33, 13), (1.0, 40)):
        assert len(select(x, budget, scores=y, target_ppr=target)) == count
    _, removed, _ = presta_by_definition(x, y, target, 7 / 40, 2, -np.inf)
    assert sorted(select(x, 7, scores=y, target_ppr=target)) == sorted(set(range(40)) - set(removed))


X, Y, TARGET = rated_set("plain", n=20, width=6)


@pytest.mark.parametrize("arguments, sentence", [
    ((np.ones_like(X), Y, TARGET), "Every source feature is the same"),
    ((X, np.ones(20), TARGET), "Source scores are all 1"),
    ((np.where(X > 1, np.nan, X), Y, TARGET), "rows of source features hold NaN"),
    ((X, np.where(Y > 1, np.nan, Y), TARGET), "source scores are NaN"),
    ((X, Y, np.full(6, np.nan)), "target PPR must be one vector of finite numbers"),
    ((X, Y, np.zeros(6)), "target PPR is all zeros"),
    ((X, Y, TARGET[:5]), "Source features have width 6 but the target PPR 5"),
    ((X[:1], Y[:1], TARGET), "hold 1 rows, but at least 2 samples"),
    ((X, Y[:-1], TARGET), "20 samples but source scores of shape"),
    ((X, Y, TARGET, 1.5), "floor must be a number from 0 to 1"),
    ((X, Y, TARGET, 0.2, np.nan), "stop and min_gain must be numbers"),
])  # fmt: skip
def test_bad_input_is_one_sentence(arguments, sentence):
    with pytest.raises(SelectionError, match=sentence):
        presta(*arguments)


def test_unknown_objective():
    with pytest.raises(SelectionError, match="did you mean 'cosine'"):
        presta(X, Y, TARGET, objective="cosin")
    assert ppc(TARGET, TARGET) == pytest.approx(1.0)
