"""Each setting from which nothing could be learnt is refused in one sentence naming it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from mriqa.errors import SettingsError
from mriqa.training.checks import check_images, check_leaks, check_rewards, check_rollout_size
from mriqa.training.runs import evenly_spread

ROLLOUT: dict[str, Any] = {
    "images": 100,
    "num_generations": 6,
    "per_device_batch": 12,
    "steps_per_generation": 2,
    "processes": 2,
    "comparison": "global",
}


def row(mos: float, std: float | None = 0.5) -> Any:
    return SimpleNamespace(mos=mos, std=std, id=f"image-{mos}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_generations": 1}, "num_generations is 1.*advantage is zero"),
        ({"num_generations": 5}, "48 completions.*num_generations \\(5\\) doesn't divide"),
        ({"images": 7}, "7 images but one rollout needs 8"),
        ({"comparison": "local", "per_device_batch": 9}, "process holds 18 completions|18 completions.*doesn't divide"),
        ({"comparison": "everywhere"}, '"global" or "local"'),
    ],
)
def test_rollouts_that_cannot_learn(change: dict[str, Any], sentence: str) -> None:
    settings = ROLLOUT | change
    if change.get("per_device_batch") == 9:
        settings["num_generations"] = 12  # 36 completions in all, 18 on each process
    with pytest.raises(SettingsError, match=sentence):
        check_rollout_size(**settings)


def test_sound_rollouts_pass_silently(recwarn: pytest.WarningsRecorder) -> None:
    check_rollout_size(**ROLLOUT)
    check_rollout_size(**ROLLOUT | {"comparison": "local"})
    assert not recwarn.list


def test_one_image_per_comparison_is_said() -> None:
    with pytest.warns(UserWarning, match="one image only"):
        check_rollout_size(**ROLLOUT | {"comparison": "local", "num_generations": 24})


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "train_manifest holds no image"),
        ([row(3.0)], "one image only"),
        ([row(3.0), row(3.0)], "same score \\(3.00\\)"),
    ],
)
def test_images_that_cannot_be_compared(rows: list[Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        check_images(rows, "train_manifest")


def test_rewards_and_their_options() -> None:
    rows = [row(3.0), row(4.0, std=None)]
    check_rewards(["margin"], {"margin": {"scale": "unit"}}, rows)
    with pytest.raises(SettingsError, match='"sigma" needs .* 1 of 2 .* image-4.0'):
        check_rewards(["margin"], {"margin": {"scale": "sigma"}}, rows)
    with pytest.raises(SettingsError, match='names "ranking"'):
        check_rewards(["margin"], {"ranking": {}}, rows)
    with pytest.raises(SettingsError, match="No reward"):
        check_rewards([], {}, rows)


def test_validation_subset_keeps_both_ends() -> None:
    rows = [row(float(mos)) for mos in range(10)]
    assert [kept.mos for kept in evenly_spread(rows, 4)] == [0, 3, 6, 9]
    assert len(evenly_spread(rows, None)) == len(evenly_spread(rows, 99)) == 10
    with pytest.raises(SettingsError, match="val_limit is 1"):
        evenly_spread(rows, 1)


def test_validation_that_training_has_seen_is_refused(rows: list) -> None:
    train, val = rows[:4], rows[4:]
    check_leaks(train, val, "refuse")
    with pytest.raises(SettingsError, match=r"share 2 pictures or contents \(the first: file: .*3.png .*--leaks allow"):
        check_leaks(train, [*val, rows[3]], "refuse")
    check_leaks(train, [*val, rows[3]], "allow")
    with pytest.raises(SettingsError, match="share 1 pictures or contents .the first: content '0'"):
        check_leaks(train, [replace(val[0], content="0"), val[1]], "refuse")
    with pytest.raises(SettingsError, match='"refuse" or "allow", not "warn"'):
        check_leaks(train, val, "warn")
