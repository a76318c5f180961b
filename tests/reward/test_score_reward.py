"""Functions of scores as rewards: what they are given, TRL's contract and the exact table around them, and refusals."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mriqa.reward.loading
from mriqa.answers import NO_ANSWER, Answer, load_format
from mriqa.errors import UserError
from mriqa.reward import RewardError, load, reward_table

NAN = math.nan
VALUES_S = np.linspace(1, 5, 401)

OWN = """
import numpy as np

def near(scores_NG, mos_N, std_N, slack=0.5):
    return np.abs(scores_NG - mos_N[:, None]) < slack + np.nan_to_num(std_N)[:, None]

def pair(scores_NG, mos_N, means_N, variances_N):
    # Each image beside all others, without a loop: -|predicted margin - human margin| / spread.
    margins_NGN = scores_NG[:, :, None] - means_N[None, None, :]
    human_NN = mos_N[:, None] - mos_N[None, :]
    spread_N = np.sqrt(variances_N + 1)
    return -(np.abs(margins_NGN - human_NN[:, None, :]) / spread_N).sum(axis=2)

def lower(scores_NG):
    scores_NG -= 5
    return np.where(np.isnan(scores_NG), 99, -scores_NG)

def long_enough(completions, mos, bonus=0.0, **_):
    return [float(len(text) > 3) + bonus for text in completions]

def reads(completions, answer_format=None, **_):
    return [answer_format.read(text).score for text in completions]

def below_mean(scores_NG, mos_N): return scores_NG - scores_NG.mean(axis=1, keepdims=True)
def beside_lowest(scores_NG): return scores_NG - np.nanmin(scores_NG, axis=1, keepdims=True)
def place(scores_NG): return np.broadcast_to(np.arange(scores_NG.shape[1]), scores_NG.shape)
def other_images(scores_NG): return scores_NG - np.nanmean(scores_NG, axis=0)
def log_of(scores_NG, mos_N): return np.log(scores_NG - 2)
def moody(scores_NG, mode="good"): return np.full(scores_NG.shape, mode == "good")
def flat(scores_NG): return scores_NG.mean()
def words(scores_NG): return "good"
def nothing(scores_NG): return None
def wants_more(scores_NG, mos_N, sharpness): return scores_NG * sharpness
def neither(scores, mos): return scores
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


def text(score: float) -> str:
    return "no idea" if math.isnan(score) else f"<answer>{score:.2f}</answer>"


GROUPS = {"a": [2.0, 2.5, NAN], "b": [4.1, 4.3], "c": [3.0, NAN]}
MOS, STD = {"a": 2.2, "b": 4.9, "c": 3.4}, {"a": 0.1, "b": None, "c": 0.0}


def columns(groups: dict[str, list[float]]) -> dict[str, list[Any]]:
    flat = [(image, score) for image in groups for score in groups[image]]
    return {
        "completions": [text(score) for _, score in flat],
        "mos": [MOS[image] for image, _ in flat],
        "std": [STD[image] for image, _ in flat],
        "image_id": [image for image, _ in flat],
    }


def pair_loop(image: str, score: float, means: dict[str, float], variances: dict[str, float]) -> float:
    return -sum(
        abs(score - means[j] - (MOS[image] - MOS[j])) / math.sqrt(variances[j] + 1) for j in MOS
    )  # the image itself included, as in the function above


def test_a_function_of_scores_has_trls_contract(own: str) -> None:
    reward = load(f"{own}:near", slack=0.25)
    assert reward.__name__ == "near" and not reward.compares_images  # type: ignore[attr-defined]
    #          a: |2-2.2| < .35, |2.5-2.2| < .35;  b: std unknown, .8 and .6;  c: .4 > .25
    assert reward(**columns(GROUPS)) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert load(f"{own}:near", slack=0.7)(**columns(GROUPS)) == [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    assert load(f"{own}:near")(["<answer>3.00</answer>"], mos=[3.2]) == [1.0]  # no image_id: nothing is compared
    thought = '<thinking>soft</thinking><answer>{"rating": 3.00}</answer>'
    assert load(f"{own}:near", mode="thinking")([thought], mos=[3.2]) == [1.0]
    assert load(f"{own}:near", answer_format="thinking")([thought], mos=[3.2]) == [1.0]


def test_a_function_may_overwrite_its_scores_and_answers_without_a_score_earn_nothing(own: str) -> None:
    assert load(f"{own}:lower")(**columns(GROUPS)) == pytest.approx([3.0, 2.5, 0.0, 0.9, 0.7, 2.0, 0.0])


def test_a_pairwise_function_gets_means_and_variances_of_the_samples(own: str) -> None:
    reward = load(f"{own}:pair")
    assert reward.compares_images  # type: ignore[attr-defined]
    stated = {image: [score for score in group if not math.isnan(score)] for image, group in GROUPS.items()}
    means = {image: statistics.fmean(scores) for image, scores in stated.items()}
    variances = {image: statistics.variance(s) if len(s) > 1 else 0.0 for image, s in stated.items()}
    expected = [
        0.0 if math.isnan(score) else pair_loop(image, score, means, variances)
        for image, group in GROUPS.items()
        for score in group
    ]
    assert reward(**columns(GROUPS)) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(RewardError, match="no column 'image_id'"):
        reward(["<answer>3.00</answer>"], mos=[3.2])


def test_own_functions_have_tables(own: str) -> None:
    probs_NS = np.random.default_rng(0).dirichlet(np.full(401, 0.05), size=3)
    mos_N = np.array(list(MOS.values()))
    std_N = np.array([NAN if std is None else std for std in STD.values()])
    means = {image: sum(p * v for p, v in zip(row, VALUES_S)) for image, row in zip(MOS, probs_NS)}
    variances = {
        image: sum(p * (v - means[image]) ** 2 for p, v in zip(row, VALUES_S)) for image, row in zip(MOS, probs_NS)
    }
    rewards = [load(f"{own}:pair"), load(f"{own}:near"), load(f"{own}:lower")]
    pair_NS, near_NS, lower_NS = (reward_table([reward])(VALUES_S, probs_NS, mos_N, std_N) for reward in rewards)
    for n, image in enumerate(MOS):
        for s, score in enumerate(VALUES_S):
            assert pair_NS[n, s] == pytest.approx(pair_loop(image, score, means, variances), abs=1e-9)
            assert near_NS[n, s] == (abs(score - MOS[image]) < 0.5 + (STD[image] or 0.0))
            assert lower_NS[n, s] == pytest.approx(5 - score)
    assert (mos_N == list(MOS.values())).all() and VALUES_S[0] == 1.0  # nothing was overwritten


@pytest.mark.parametrize("name", ["below_mean", "beside_lowest", "place", "other_images"])
@pytest.mark.parametrize("n_images", [2, 32])
def test_a_table_is_refused_where_scores_are_compared_with_each_other(name: str, n_images: int, own: str) -> None:
    rng = np.random.default_rng(1)
    probs_NS, mos_N = rng.dirichlet(np.ones(401), size=n_images), rng.uniform(1, 5, n_images)
    table = reward_table([load(f"{own}:{name}")])
    with pytest.raises(RewardError, match=f"Reward '{name}' gives the score .* depending on the scores beside it"):
        table(VALUES_S, probs_NS, mos_N, np.full(n_images, NAN))


def test_a_function_that_compares_scores_works_on_samples(own: str) -> None:
    answers = {"completions": [text(2.0), text(3.0)], "mos": [2.0, 2.0], "image_id": ["a", "a"]}
    assert load(f"{own}:below_mean")(**answers) == [-0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("log_of", "Reward 'log_of' is -inf for the score 2 of image 'a', whose human score is 2.2; return a finite"),
        ("flat", r"Reward 'flat' returned the shape \(\) for scores of the shape \(3, 3\); return one number for each"),
        ("words", "Reward 'words' must return an array of numbers"),
        ("nothing", r"Reward 'nothing' returned the shape \(\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
def test_wrong_results_are_one_clear_sentence(name: str, sentence: str, own: str) -> None:
    with pytest.raises(RewardError, match=sentence):
        load(f"{own}:{name}")(**columns(GROUPS))


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
def test_a_table_with_an_infinite_reward_names_the_image(own: str) -> None:
    probs_NS = np.full((2, 401), 1 / 401)
    with pytest.raises(RewardError, match="'log_of' is nan for the score 1 of image 0, whose human score is 3"):
        reward_table([load(f"{own}:log_of")])(VALUES_S, probs_NS, np.array([3.0, 4.0]), np.full(2, NAN))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("neither", {}, r"must be a function of scores, .* or have TRL's contract, .* parameters are \(scores, mos\)"),
        ("wants_more", {}, "needs a value for 'sharpness', .*set it in --reward_options"),
        ("near", {"slak": 1}, "did you mean 'slack'"),
        ("near", {"std_N": 1}, "Unknown option of reward"),
        ("near", {"mode": "thinkin"}, "no answer format 'thinkin'"),
    ],
)
def test_refused_before_training(name: str, options: dict[str, Any], sentence: str, own: str) -> None:
    with pytest.raises(RewardError, match=sentence) as caught:
        load(f"{own}:{name}", **options)
    assert isinstance(caught.value, UserError) and isinstance(caught.value, ValueError)


def test_an_option_without_default(own: str) -> None:
    assert load(f"{own}:wants_more", sharpness=2)(["<answer>3.00</answer>"], mos=[3.0]) == [6.0]


def test_an_option_called_mode_is_the_functions_own(own: str) -> None:
    assert load(f"{own}:moody")(["<answer>3.00</answer>"], mos=[3.0]) == [1.0]
    assert load(f"{own}:moody", mode="bad")(["<answer>3.00</answer>"], mos=[3.0]) == [0.0]


def test_functions_of_completions_stay_as_they_are(own: str) -> None:
    reward = load(f"{own}:long_enough", bonus=0.5, answer_format=load_format("thinking"))
    assert reward(["ab", "abcd"], mos=[1, 2]) == [0.5, 1.5] and reward.__name__ == "long_enough"
    with pytest.raises(RewardError, match="'long_enough' judges completions only.*def f\\(scores_NG, mos_N, std_N\\)"):
        reward_table([reward])
    with pytest.raises(RewardError, match="Unknown option of reward .* 'mode'"):
        load(f"{own}:long_enough", mode="thinking")
    thinks = load(f"{own}:reads", answer_format=load_format("thinking"))
    assert thinks(['<thinking>x</thinking><answer>{"rating": 3.0}</answer>']) == [3.0]


def test_answers_that_were_read_are_not_read_again(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = columns(GROUPS)
    names = ["margin", "ranking", "regression", "format", f"{own}:near", f"{own}:pair"]
    expected = [load(name)(**given) for name in names]
    answers = [load_format("non_thinking").read(completion) for completion in given["completions"]]
    unreadable = {**given, "completions": [object() for _ in answers]}
    assert [load(name)(**unreadable, answers=answers) for name in names] == expected
    assert load("format")([None, None], answers=[Answer(NAN, True, None), NO_ANSWER]) == [1.0, 0.0]
    with pytest.raises(RewardError, match="'answers' has 1 entries for 7 completions"):
        load("margin")(**given, answers=answers[:1])
    # A data set's own column of that name is not ours.
    assert [load(name)(**given, answers=["yes"] * len(answers)) for name in names] == expected


def test_a_built_in_is_a_function_and_a_line_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_point_reward(scores_NG: Any, mos_N: Any, side: str = "both") -> Any:
        error_NG = scores_NG - mos_N[:, None]
        return (abs(error_NG) if side == "both" else error_NG) < 0.5

    monkeypatch.setitem(mriqa.reward.loading.REWARDS, "half_point", half_point_reward)
    reward = load("half_point", side="above")
    assert reward.__name__ == "half_point_above"
    assert reward([text(1.0), text(4.0), text(NAN)], mos=[3.0] * 3) == [1.0, 0.0, 0.0]
    table_NS = reward_table([reward])(VALUES_S, np.full((1, 401), 1 / 401), np.array([3.0]), np.array([NAN]))
    assert (table_NS[0] == (VALUES_S - 3.0 < 0.5)).all()


def test_a_function_of_anothers_making_keeps_its_table() -> None:
    """An object with TRL's contract and a table of its own counts, as ours do."""
    other = SimpleNamespace(table=lambda values_S, probs_NS, mos_N, std_N: np.zeros_like(probs_NS) + 2)
    assert (reward_table([other], [0.5])(VALUES_S, np.ones((1, 401)) / 401, np.ones(1), np.ones(1)) == 1).all()
