"""The rewards of docs/extending.md do what the page says: one file, no line elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mriqa.reward import load, reward_table

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
VALUES_S = np.linspace(1, 5, 401)
MOS_N, STD_N = np.array([2.0, 4.0]), np.array([0.3, np.nan])


@pytest.fixture
def my_rewards(tmp_path: Path) -> str:
    section = PAGE.read_text(encoding="utf-8").split("\n## A reward\n")[1].split("\n## ")[0]
    blocks = [block for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL) if "def " in block]
    assert len(blocks) == 3
    path = tmp_path / "my_rewards.py"
    path.write_text("\n\n".join(blocks), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # human scores 2.0 (raters' deviation 0.3) and 4.0 (unknown); the mean prediction is 3.075
        ("agreeable", {"a": lambda score: abs(score - 2.0) < 0.4, "b": lambda score: abs(score - 4.0) < 0.1}),
        ("beyond_the_others", {"a": lambda score: not score > 3.075, "b": lambda score: score > 3.075}),
    ],
)
def test_functions_of_scores_under_both_estimators(name: str, expected: dict, my_rewards: str) -> None:
    reward = load(f"{my_rewards}:{name}")
    images, scores = ["a", "a", "b", "b"], [2.3, 2.5, 4.05, 3.45]
    completions = [[{"role": "assistant", "content": f"<answer>{score:.2f}</answer>"}] for score in scores]
    given = {"mos": [2.0, 2.0, 4.0, 4.0], "std": [0.3, 0.3, None, None], "image_id": images}
    assert reward(completions, **given) == [float(expected[image](score)) for image, score in zip(images, scores)]

    probs_NS = np.zeros((2, 401))
    for image, score in zip((0, 0, 1, 1), scores):
        probs_NS[image, round((score - 1) * 100)] = 0.5  # the same means as above
    table_NS = reward_table([reward])(VALUES_S, probs_NS, MOS_N, STD_N)
    for row_S, image in zip(table_NS, "ab"):
        assert row_S.tolist() == [float(expected[image](score)) for score in VALUES_S]


def test_a_function_of_completions(my_rewards: str) -> None:
    reward = load(f"{my_rewards}:brief")
    answers = [[{"role": "assistant", "content": content}] for content in ("<answer>3.00</answer>", "well, " * 10)]
    assert reward(completions=answers, mos=[3.0, 3.0], prompts=["?", "?"]) == [1.0, 0.0]
