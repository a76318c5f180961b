"""Rewards of all scores against plain loops, and against what the reward functions give many samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mriqa.answers import load_format
from mriqa.reward import load, reward_table

VALUES_S = np.linspace(1, 5, 401)
MOS_N, STD_N = np.array([1.3, 2.9, 4.4, 2.9]), np.array([0.4, 0.0, 0.9, 0.6])
PROBS_NS = np.random.default_rng(0).dirichlet(np.full(401, 0.05), size=4)
MEANS_N = [sum(p * v for p, v in zip(row, VALUES_S)) for row in PROBS_NS]
VARIANCES_N = [sum(p * (v - m) ** 2 for p, v in zip(row, VALUES_S)) for row, m in zip(PROBS_NS, MEANS_N)]


def gaussian(i: int, s: float, j: int, scale: str) -> float:
    tau = 1.0 if scale == "unit" else max(math.hypot(STD_N[i], STD_N[j]), 1e-4)
    return math.exp(-0.5 * ((s - MEANS_N[j] - (MOS_N[i] - MOS_N[j])) / tau) ** 2)


def fidelity(i: int, s: float, j: int) -> float:
    spread = math.sqrt(VARIANCES_N[i] + VARIANCES_N[j] + 1e-6)
    p = 0.5 * (1 + math.erf((s - MEANS_N[j]) / spread / math.sqrt(2)))
    g = 0.5 + 0.5 * np.sign(MOS_N[i] - MOS_N[j])
    return math.sqrt(p * g + 1e-6) + math.sqrt((1 - p) * (1 - g) + 1e-6)


@pytest.mark.parametrize(
    ("reward", "pair"),
    [
        (load("margin"), lambda i, s, j: gaussian(i, s, j, "unit")),
        (load("margin", scale="sigma"), lambda i, s, j: gaussian(i, s, j, "sigma")),
        (load("ranking"), fidelity),
        (load("regression", form="smooth", tau=0.7), lambda i, s, j: math.exp(-0.5 * ((s - MOS_N[i]) / 0.7) ** 2)),
        (load("regression"), lambda i, s, j: float(abs(s - MOS_N[i]) < 0.35)),
        (load("format"), lambda i, s, j: 1.0),
    ],
)
def test_tables_equal_plain_loops(reward, pair) -> None:
    table_NS = reward_table([reward])(VALUES_S, PROBS_NS, MOS_N, STD_N)
    for i in range(4):
        for k, s in enumerate(VALUES_S):
            expected = np.mean([pair(i, s, j) for j in range(4) if j != i])
            assert table_NS[i, k] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["margin", "ranking"])
def test_samples_tend_to_the_table(name: str) -> None:
    """The expected reward is the mean reward of many sampled answers, by the reward function itself."""
    generator, n_samples = np.random.default_rng(1), 4000
    answer_format, reward = load_format("non_thinking"), load(name)
    scores_NG = [generator.choice(VALUES_S, n_samples, p=probs_S) for probs_S in PROBS_NS]
    completions = [answer_format.format(score) for scores_G in scores_NG for score in scores_G]
    columns = {"mos": np.repeat(MOS_N, n_samples), "image_id": np.repeat(range(4), n_samples)}
    sampled_NG = np.reshape(reward(completions, **columns), (4, n_samples))
    expected_N = (PROBS_NS * reward_table([reward])(VALUES_S, PROBS_NS, MOS_N, STD_N)).sum(axis=1)
    assert np.abs(sampled_NG.mean(axis=1) - expected_N).max() < 0.02


def test_weights() -> None:
    margin, form = load("margin"), load("format")
    together = reward_table([margin, form], [0.5, 2.0])(VALUES_S, PROBS_NS, MOS_N, STD_N)
    assert np.allclose(together, 0.5 * reward_table([margin])(VALUES_S, PROBS_NS, MOS_N, STD_N) + 2)
    with pytest.raises(ValueError, match="1 reward weights for 2 rewards"):
        reward_table([margin, form], [1.0])
    with pytest.raises(ValueError, match="needs the column 'std'"):
        reward_table([load("margin", scale="sigma")])(VALUES_S, PROBS_NS, MOS_N, np.full(4, np.nan))
