"""Rewards against plain float64 loops written straight from the definitions, and TRL's contract around them."""

import itertools
import logging
import math
import pickle
import statistics

import numpy as np
import pytest

import mriqa.reward
from mriqa.reward import load, margin_reward, pairwise, ranking_reward

NAN = math.nan


def text(score):
    return "no idea" if math.isnan(score) else f"<answer>{score:.2f}</answer>"


def chat(score):
    return [{"role": "assistant", "content": text(score)}]


def usable(score):
    return 1.0 <= score <= 5.0


def loop(images, term):
    """Mean over partners of term(s_ik, i, j), image by image; images: {id: {"scores", "mos", "std"}}."""
    rewards = {}
    partners = [j for j in images if any(map(usable, images[j]["scores"]))]
    for i in images:
        others = [j for j in partners if j != i]
        rewards[i] = []
        for s in images[i]["scores"]:
            if not usable(s) or not others:
                rewards[i].append(0.0)
            else:
                rewards[i].append(sum(term(s, images[i], images[j]) for j in others) / len(others))
    return rewards


def mean(image):
    return statistics.fmean(s for s in image["scores"] if usable(s))


def variance(image):
    scores = [s for s in image["scores"] if usable(s)]
    return statistics.variance(scores) if len(scores) > 1 else 0.0


def margin_unit(s, i, j):
    return math.exp(-0.5 * ((s - mean(j)) - (i["mos"] - j["mos"])) ** 2)


def margin_sigma(s, i, j):
    tau = max(math.sqrt(i["std"] ** 2 + j["std"] ** 2), 1e-4)
    return math.exp(-0.5 * (((s - mean(j)) - (i["mos"] - j["mos"])) / tau) ** 2)


def fidelity(s, i, j):
    p = statistics.NormalDist().cdf((s - mean(j)) / math.sqrt(variance(i) + variance(j) + 1e-6))
    g = 1.0 if i["mos"] > j["mos"] else 0.0 if i["mos"] < j["mos"] else 0.5
    return math.sqrt(p * g + 1e-6) + math.sqrt((1 - p) * (1 - g) + 1e-6)


def make_images(seed, n_images=9, sizes=(1, 2, 5, 6), broken=0.2):
    """Uneven groups, unparsable and out-of-range answers, an image without any answer, tied MOS, two zero stds."""
    rng = np.random.default_rng(seed)
    images = {}
    for n in range(n_images):
        scores = rng.uniform(0.7, 5.3, rng.choice(sizes)).round(2)
        scores[rng.random(len(scores)) < broken] = NAN
        images[f"img{n}"] = {
            "scores": scores.tolist(),
            "mos": float(rng.choice([1.5, 2.25, 3.0, 4.75])) + float(rng.choice([0.0, 0.1])),
            "std": 0.0 if n < 2 else float(rng.uniform(0.2, 1.2)),
        }
    images["img3"]["scores"] = [NAN, 0.99, 5.01]
    images["img0"]["scores"] = [2.0, 2.0, 2.0]
    return images


def call(reward, images, seed=0, answer=chat, **extra):
    """Call with all completions of all images interleaved; rewards back by image."""
    flat = [(i, k) for i in images for k in range(len(images[i]["scores"]))]
    order = np.random.default_rng(seed).permutation(len(flat))
    flat = [flat[o] for o in order]
    rewards = reward(
        completions=[answer(images[i]["scores"][k]) for i, k in flat],
        mos=[images[i]["mos"] for i, _ in flat],
        std=[images[i]["std"] for i, _ in flat],
        image_id=[i for i, _ in flat],
        **extra,
    )
    assert isinstance(rewards, list) and all(type(r) is float for r in rewards)
    by_image = {i: [None] * len(images[i]["scores"]) for i in images}
    for (i, k), r in zip(flat, rewards, strict=True):
        by_image[i][k] = r
    return by_image


PAIRWISE = {
    "margin_unit": (("margin", {}), margin_unit),
    "margin_sigma": (("margin", {"scale": "sigma"}), margin_sigma),
    "ranking": (("ranking", {}), fidelity),
}


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [(1,), (1, 2, 5, 6)])
def test_pairwise_rewards_equal_the_loop(name, seed, sizes):
    (reward, options), term = PAIRWISE[name]
    images = make_images(seed, sizes=sizes)
    expected = loop(images, term)
    got = call(load(reward, **options), images, seed)
    for i in images:
        assert got[i] == pytest.approx(expected[i], abs=1e-9)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_do_not_change_the_result(block, monkeypatch):
    rng = np.random.default_rng(0)
    scores, mos, std = rng.uniform(1, 5, (17, 4)), rng.uniform(1, 5, 17), rng.uniform(0.1, 1, 17)
    scores[rng.random(scores.shape) < 0.3] = NAN
    scores[5] = NAN
    functions = [lambda: margin_reward(scores, mos, std, "sigma"), lambda: ranking_reward(scores, mos)]
    whole = [f() for f in functions]
    monkeypatch.setattr(pairwise, "BLOCK", block)
    for f, expected in zip(functions, whole, strict=True):
        np.testing.assert_allclose(f(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "options,expected",
    [
        ({}, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
        ({"threshold": 0.5}, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]),
        ({"form": "smooth", "tau": 0.5}, [1.0, math.exp(-0.32), math.exp(-0.18), math.exp(-8.0), 0.0, 0.0]),
    ],
)
def test_regression(options, expected):
    scores = [3.0, 3.4, 2.7, 5.0, NAN, 5.5]
    rewards = load("regression", **options)(completions=[chat(s) for s in scores], mos=[3.0] * 6)
    assert rewards == pytest.approx(expected, abs=1e-12)


def test_the_threshold_itself_earns_nothing():
    reward = load("regression", threshold=0.5)
    assert reward(completions=[text(3.5), text(3.49)], mos=[3.0, 3.0]) == [0.0, 1.0]


def test_smooth_regression_is_the_single_endpoint_counterpart_of_margin():
    """Against a partner that is scored exactly right, the margin reward is the smooth regression reward."""
    images = {"a": {"scores": [1.0, 2.5, 4.0], "mos": 2.2, "std": 1.0}, "b": {"scores": [3.1], "mos": 3.1, "std": 1.0}}
    smooth = load("regression", form="smooth")
    assert call(load("margin"), images)["a"] == pytest.approx(call(smooth, images)["a"], abs=1e-12)


def test_unified_margin_view():
    """sum e² = 1/(2N) sum_ij (e_i - e_j)² + N ē²: regression is margin fitting plus one global offset.

    Both sides out of our rewards: -2 log of smooth regression is e_i², and of the margin reward of two images alone,
    with one answer each, (e_i - e_j)².
    """
    rng = np.random.default_rng(0)
    scores, mos = rng.uniform(1.5, 4.5, 12).round(2), rng.uniform(1, 5, 12)
    images = [{"scores": [s], "mos": y, "std": 1.0} for s, y in zip(scores.tolist(), mos.tolist())]
    margin, smooth = load("margin"), load("regression", form="smooth")
    squares = [-2 * math.log(call(smooth, {"i": image})["i"][0]) for image in images]
    pairs = [
        -2 * math.log(call(margin, {"i": images[i], "j": images[j]})["i"][0])
        for i, j in itertools.permutations(range(12), 2)
    ]
    assert sum(squares) == pytest.approx(sum(pairs) / (2 * 12) + 12 * (scores - mos).mean() ** 2, rel=1e-9)


@pytest.mark.parametrize("shift", [-0.75, 0.5])
def test_margin_ignores_a_common_offset(shift):
    rng = np.random.default_rng(1)
    scores, mos = rng.uniform(2, 4, (6, 3)), rng.uniform(1, 5, 6)
    np.testing.assert_allclose(margin_reward(scores + shift, mos), margin_reward(scores, mos), atol=1e-12)


def test_format():
    good = "<answer>3.52</answer>"
    thought = '<thinking>sharp</thinking><answer>{"rating": 3.52}</answer>'
    assert load("format")(completions=[good, thought, f"{good} I think", ""]) == [1.0, 0.0, 0.0, 0.0]
    assert load("format", mode="thinking")(completions=[good, thought, f"{thought}{good}"]) == [0.0, 1.0, 0.0]
    assert load("format")(completions=["<answer>7.00</answer>"]) == [1.0]  # the form is right, the number is not


def test_mode_reaches_the_parser():
    reward = load("regression", mode="thinking")
    thought = '<thinking>sharp</thinking><answer>{"rating": 3.0}</answer>'
    assert reward(completions=[thought, "<answer>3.0</answer>"], mos=[3.0, 3.0]) == [1.0, 0.0]


@pytest.mark.parametrize(
    "answer",
    [
        text,
        lambda s: [{"role": "assistant", "content": [{"type": "text", "text": text(s)}]}],
        lambda s: [{"role": "assistant", "content": [{"type": "text", "text": t} for t in text(s).partition("<")]}],
    ],
)
def test_completions_may_be_strings_or_parts(answer):
    images = make_images(3)
    assert call(load("margin"), images, answer=answer) == call(load("margin"), images)


def test_other_peoples_formats_are_mapped_to_the_common_scale(tmp_path):
    own = tmp_path / "percent.yaml"
    own.write_text("user: Rate it.\npattern: 'Score (?P<score>[0-9.]+)'\ntemplate: Score {score}\nlow: 0\nhigh: 100\n")
    reward = load("regression", form="smooth", answer_format=str(own))
    rewards = reward(completions=["Score 75", "Score 100", "Score 101", "<answer>4</answer>"], mos=[4.0] * 4)
    assert rewards == pytest.approx([1.0, math.exp(-0.5), 0.0, 0.0], abs=1e-12)


def test_empty_completions_are_unparsable():
    empties = [[], [{"role": "assistant", "content": None}], None, [{"role": "assistant"}]]
    assert load("regression")(completions=empties, mos=[3.0] * 4) == [0.0] * 4
    assert load("margin")(completions=[], mos=[], image_id=[]) == []


@pytest.mark.parametrize("name", ["margin", "ranking"])
def test_nobody_to_compare_with_is_zero_and_logged(name, caplog):
    reward = load(name)
    with caplog.at_level(logging.WARNING):
        assert reward(completions=[chat(3.0), chat(4.0)], mos=[3.0, 3.0], image_id=["a", "a"]) == [0.0, 0.0]
    assert "only image 'a'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert reward(completions=[chat(3.0), chat(NAN)], mos=[3.0, 4.0], image_id=["a", "b"]) == [0.0, 0.0]
    assert "1 of 2 images" in caplog.text


def test_what_trl_passes_beside_the_columns_is_ignored():
    images = make_images(4)
    extra = {
        "prompts": ["?"],
        "completion_ids": [[1]],
        "trainer_state": object(),
        "log_metric": print,
        "dataset": ["x"],
    }
    assert call(load("margin"), images, **extra) == call(load("margin"), images)


def test_arrays_and_tensors_are_columns_too():
    torch = pytest.importorskip("torch")
    answers = [text(2.0), text(3.0), text(4.0)]
    expected = load("margin")(completions=answers, mos=[2.0, 2.0, 3.5], image_id=[0, 0, 1])
    for make in (np.array, torch.tensor, lambda v: list(torch.tensor(v))):
        assert load("margin")(completions=answers, mos=make([2.0, 2.0, 3.5]), image_id=make([0, 0, 1])) == expected


@pytest.mark.parametrize(
    "columns,message",
    [
        ({"image_id": ["a", "b"]}, "no column 'mos'"),
        ({"mos": [3.0, 4.0]}, "no column 'image_id'"),
        ({"mos": [3.0, 4.0], "image_id": ["a", None]}, "'image_id' is empty for completion 1"),
        ({"mos": [3.0], "image_id": ["a", "b"]}, "'mos' has 1 entries for 2 completions"),
        ({"mos": [3.0, NAN], "image_id": ["a", "b"]}, "'mos' holds nan for completion 1"),
        ({"mos": [3.0, math.inf], "image_id": ["a", "b"]}, "'mos' holds inf"),
        ({"mos": [3.0, None], "image_id": ["a", "b"]}, "'mos' holds None"),
        ({"mos": [3.0, "good"], "image_id": ["a", "b"]}, "'good', which is not a number"),
        ({"mos": [3.0, 4.0], "image_id": ["a", "a"]}, "'a' has two values of 'mos', 3 and 4"),
        ({"mos": [3.0, 4.0], "image_id": ["a", "b"]}, "needs the column 'std'"),
        ({"mos": [3.0, 4.0], "image_id": ["a", "b"], "std": [0.5, None]}, "needs the column 'std'"),
        ({"mos": [3.0, 4.0], "image_id": ["a", "b"], "std": [0.5, -1.0]}, "needs the column 'std'"),
    ],
)
def test_bad_columns_are_one_clear_sentence(columns, message):
    with pytest.raises(ValueError, match=message):
        load("margin", scale="sigma")(completions=[chat(3.0), chat(4.0)], **columns)


def test_std_is_only_needed_for_sigma():
    answers, mos, ids = [text(2.0), text(3.0)], [2.0, 3.0], ["a", "b"]
    for name in ("margin", "ranking", "regression", "format"):
        assert len(load(name)(completions=answers, mos=mos, image_id=ids, std=[None, None])) == 2


def test_rewards_can_be_sent_to_another_process():
    images = make_images(5)
    for reward in (load("margin", scale="sigma"), load("ranking"), load("regression")):
        assert call(pickle.loads(pickle.dumps(reward)), images) == call(reward, images)


def test_names_for_the_log():
    loaded = [load("margin"), load("margin", scale="sigma"), load("ranking"), load("regression", form="smooth")]
    assert [r.__name__ for r in loaded] == ["margin_unit", "margin_sigma", "ranking", "regression_smooth"]
    assert load("format").__name__ == "format"
    assert set(mriqa.reward.REWARDS) == {"margin", "ranking", "regression", "format"}
