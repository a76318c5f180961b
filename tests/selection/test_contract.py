"""What all selectors share: budgets, order, seeds, kinds of arrays, and how they meet awkward input."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mriqa.manifest import RatedImage
from mriqa.selection import INPUTS, SELECTORS, SelectionError, Selector, always, count_of, load, register
from mriqa.selection.mixture.choice import Choice, choose
from mriqa.selection.selectors import FILES

EXTENDING = Path(__file__).parents[2] / "docs" / "extending.md"
RNG = np.random.default_rng(0)
N = 40
X = RNG.normal(size=(N, 6)).astype(np.float32)
GIVEN = {"scores": RNG.uniform(1, 5, N), "target": RNG.normal(size=(30, 6)), "target_ppr": RNG.uniform(-1, 1, 6),
         "quality": RNG.normal(size=(N, 3)).astype(np.float32)}  # fmt: skip


def select(name, features=X, budget=10, **others):
    inputs = {key: GIVEN[key] for key in INPUTS[name]}
    return load(name)(features, budget, **{**inputs, **others})


@pytest.mark.parametrize("name", SELECTORS)
def test_a_budget_gives_that_many_rows_once_each_and_the_same_ones_for_a_seed(name):
    for budget, count in ((1, 1), (0.25, 10), (np.int64(7), 7), (np.float32(0.5), 20), (1.0, N), (N, N)):
        rows = select(name, budget=budget, seed=5)
        assert rows.dtype == np.int64 and rows.shape == (count,)
        assert len(set(rows.tolist())) == count and rows.min() >= 0 and rows.max() < N
        np.testing.assert_array_equal(rows, select(name, budget=budget, seed=5))
    np.testing.assert_array_equal(select(name, torch.from_numpy(X)), select(name))


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("budget, sentence", [
    (0, "budget is 0, but there are 40"), (41, "budget is 41"), (-1, "budget is -1"), (0.0, "above 0 and at most 1"),
    (1.5, "write a count as an integer"), (float("nan"), "above 0"), (0.02, "is none; choose a larger"),
    (True, "not True"), ("10", "not '10'"), (None, "not None"),
])  # fmt: skip
def test_a_budget_that_is_none_is_refused(name, budget, sentence):
    with pytest.raises(SelectionError, match=sentence):
        select(name, budget=budget)


@pytest.mark.parametrize("name", SELECTORS)
def test_features_that_are_not_finite_or_no_matrix_are_refused(name):
    for broken in (np.nan, np.inf):
        x = X.copy()
        x[3, 2] = broken
        with pytest.raises(SelectionError, match="1 of 40 rows of .* hold NaN or infinity"):
            select(name, x)
    for shape in (X[0], X[None], X[:, :0]):
        with pytest.raises(SelectionError, match=r"shape \(N, D\)"):
            select(name, shape)
    with pytest.raises(SelectionError, match="hold 0 rows"):
        select(name, X[:0])


@pytest.mark.parametrize("name", sorted(set(SELECTORS) - {"presta"}))  # which refuses the first and the last
@pytest.mark.parametrize("kind", ["all the same", "duplicates", "one sample"])
def test_awkward_features_still_give_a_selection(name, kind):
    x = {"all the same": np.full_like(X, 0.1), "duplicates": np.repeat(X[:4], 10, axis=0), "one sample": X[:1]}[kind]
    cut = {key: GIVEN[key][: len(x)] for key in ("scores", "quality") if key in INPUTS[name]}
    if kind != "one sample" and "quality" in cut:
        cut["quality"] = x
    budget = min(15, len(x))
    rows = select(name, x, budget, **cut)
    assert len(set(rows.tolist())) == budget == len(rows)


def test_fractions_are_rounded_down_as_in_the_papers_table():
    assert [count_of(share, 7086) for share in (0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95)] == [
        70, 354, 708, 2125, 3543, 4960, 6377, 6731
    ]  # fmt: skip
    assert [count_of(share, 100) for share in (0.29, 0.57, 0.58, 1.0)] == [29, 57, 58, 100]


def test_unknown_selector():
    with pytest.raises(SelectionError, match="did you mean 'k_center'"):
        load("kcenter")


def test_score_and_quality_of_another_length_are_refused():
    with pytest.raises(SelectionError, match="40 samples but scores of shape"):
        select("moderate", scores=np.ones(39))
    with pytest.raises(SelectionError, match="40 content but 39 quality"):
        select("q_diverse", quality=np.ones((39, 2)))
    with pytest.raises(SelectionError, match="2 of 40 scores are NaN"):
        select("moderate", scores=np.r_[np.nan, np.nan, np.ones(38)])
    for name, sentence in (("q_diverse", "needs quality"), ("presta", "needs target_ppr")):
        with pytest.raises(SelectionError, match=sentence):
            load(name)(X, 5)


def test_presta_is_the_function_though_a_package_has_its_name():
    for first in ("mriqa.selection.presta.screen", "mriqa.selection.presta", "mriqa.selection.mixture.parts"):
        code = f"import {first}; from mriqa.selection import presta, q_diverse; import mriqa.selection.presta.moments; "
        code += "import mriqa.selection; print(presta is mriqa.selection.presta, presta.__name__, q_diverse.__name__)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.split() == ["True", "presta", "q_diverse"], done.stderr


def test_every_selector_is_called_by_its_own_contract():
    assert list(INPUTS) == list(SELECTORS) == list(FILES)
    assert {name: selector.options for name, selector in SELECTORS.items()} == {
        "random": [], "herding": ["form"], "k_center": [], "contextual_diversity": [], "moderate": ["bins"],
        "pgcs": ["partitions", "partitioning", "dimensions"],
        "kmm": ["draw", "bound", "epsilon", "bandwidth", "landmarks"],
        "q_diverse": ["gamma", "batch", "landmarks", "energy"], "presta": ["objective", "stop", "min_gain"],
    }  # fmt: skip
    assert [name for name, selector in SELECTORS.items() if selector.needs_target] == ["kmm", "presta"]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("kmm", {"bandwidth": "wide"}, "bandwidth must be a finite number above 0, not 'wide'"),
        ("presta", {"stop": "soon"}, "stop and min_gain must be numbers, not 'soon'"),
        ("presta", {"min_gain": float("nan")}, "stop and min_gain must be numbers"),
    ],
)
def test_an_option_of_another_kind_is_refused(name, options, sentence):
    with pytest.raises(SelectionError, match=sentence):
        select(name, **options)


def best_rated_first(features, budget, *, scores=None, seed=0, reverse=False):
    """A selector as a user would write one: the best rated first."""
    order = np.argsort(scores if reverse else -np.asarray(scores), kind="stable")
    return order[: count_of(budget, len(order))].astype(np.int64)


@pytest.fixture
def best_rated():
    register("best_rated", Selector(best_rated_first, always("among the best rated"), needs=("scores",)))
    yield
    del SELECTORS["best_rated"], INPUTS["best_rated"]


def test_a_selector_can_be_added(best_rated):
    np.testing.assert_array_equal(load("best_rated")(X, 3, scores=GIVEN["scores"]), np.argsort(-GIVEN["scores"])[:3])
    rows = [RatedImage(f"{i}.png", mos, None, "set", str(i), str(i)) for i, mos in enumerate(GIVEN["scores"])]
    chosen = choose(rows, Choice("best_rated", 4, options={"reverse": True}), lambda images, role: X)
    np.testing.assert_array_equal(chosen.rows, np.argsort(GIVEN["scores"])[:4])
    assert chosen.reasons == ["among the best rated"] * 4 and np.isnan(chosen.scores).all()
    with pytest.raises(SelectionError, match="'best_rated' can't take options {'bins': 3}; choose among reverse"):
        Choice("best_rated", 4, options={"bins": 3})
    with pytest.raises(SelectionError, match="a selector 'best_rated' already"):
        register("best_rated", SELECTORS["random"])
    with pytest.raises(SelectionError, match="Unknown need of a selector 'score'; did you mean 'scores'"):
        Selector(best_rated_first, always(""), needs=("score",))


def test_a_fault_inside_a_selector_is_not_taken_for_a_bad_option(best_rated):
    """A TypeError of the selector's own comes through as it is."""
    rows = [RatedImage(f"{i}.png", mos, None, "set", str(i), str(i)) for i, mos in enumerate(GIVEN["scores"])]
    broken = Selector(lambda features, budget, *, seed=0: features + "x", always(""))
    SELECTORS["best_rated"] = broken
    with pytest.raises(TypeError):
        choose(rows, Choice("best_rated", 4), lambda images, role: X.tolist())


def test_the_selector_of_the_documentation_selects():
    (example,) = re.findall(
        r"```python\n(.*?)```", EXTENDING.read_text().split("## A selector")[1].split("## ")[0], flags=re.DOTALL
    )
    namespace: dict = {}
    exec(example, namespace)
    register("best_first", namespace["SELECTOR"])
    try:
        rows = load("best_first")(X, 3, scores=GIVEN["scores"], worst=True)
        np.testing.assert_array_equal(rows, np.argsort(GIVEN["scores"])[:3])
    finally:
        del SELECTORS["best_first"], INPUTS["best_first"]
