"""Refuse, in one sentence and before any model is loaded, the settings from which nothing could be learnt.

Plain TRL either trains on silently in these cases (no batch at all, every advantage zero) or fails later with a
message about tensors. Legend: N images, G completions per image.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mriqa.datasets.audit import find_leaks
from mriqa.errors import SettingsError

if TYPE_CHECKING:
    from mriqa.manifest import RatedImage

PAIRWISE = ("margin", "ranking")


def check_images(rows: Sequence[RatedImage], name: str) -> None:
    """Refuse an image list `name` ("train_manifest", "val_manifest") that is empty, single, or without differences."""
    if not rows:
        raise SettingsError(f"{name} holds no image: give a manifest with at least two rated images.")
    if len(rows) == 1:
        raise SettingsError(
            f"{name} holds one image only, and one image has nothing to be compared with: give at least two."
        )
    scores = {row.mos for row in rows}
    if len(scores) == 1:
        raise SettingsError(
            f"All {len(rows)} images of {name} have the same score ({scores.pop():.2f}), so there is no difference "
            "in quality to learn or to rank: give images with different scores."
        )


def check_leaks(train_rows: Sequence[RatedImage], val_rows: Sequence[RatedImage], leaks: str) -> None:
    """Refuse validation images that training sees too: the same file, bytes, name or content.

    How pictures look isn't compared, which takes minutes: `mriqa audit` does it.
    """
    if leaks not in ("refuse", "allow"):
        raise SettingsError(f'leaks is "refuse" or "allow", not "{leaks}".')
    if leaks == "allow":
        return
    found = find_leaks({"train_manifest": train_rows, "val_manifest": val_rows}, look=False)
    if found:
        raise SettingsError(
            f"Training and validation share {len(found)} pictures or contents (the first: {found[0]}), so validation "
            "would choose what was learnt by heart: validate on others, or say --leaks allow."
        )


def check_rollout_size(
    *,
    images: int,
    num_generations: int,
    per_device_batch: int,
    steps_per_generation: int,
    processes: int,
    comparison: str,
) -> None:
    """Refuse rollout shapes that TRL would train on without learning anything.

    Args:
        images: number of training images.
        num_generations: completions per image, G.
        per_device_batch, steps_per_generation, processes: their product is one rollout, in completions.
        comparison: "global" compares all images of a rollout, "local" those of one process.
    """
    shape = check_whole_groups(num_generations, per_device_batch, steps_per_generation, processes)
    rollout = per_device_batch * steps_per_generation * processes
    needed = rollout // num_generations
    _check_enough(images, needed, f"one rollout needs {needed} ({shape} / num_generations ({num_generations}))")
    _check_comparison(comparison)
    compared = needed
    if comparison == "local":
        local = per_device_batch * steps_per_generation
        if local % num_generations:
            raise SettingsError(
                f'comparison "local" needs every image\'s completions on one process, but a process holds {local} '
                f"completions, per_device_train_batch_size ({per_device_batch}) × steps_per_generation "
                f"({steps_per_generation}), which num_generations ({num_generations}) doesn't divide: change one of "
                'them, or use comparison "global".'
            )
        compared = local // num_generations
    if compared == 1:
        _warn_alone("per_device_train_batch_size")


def check_set_size(
    *, images: int, images_per_batch: int, steps_per_generation: int, processes: int, comparison: str
) -> None:
    """Refuse comparison sets of the exact estimator that the training images don't fill; see `check_rollout_size`."""
    needed = images_per_batch * steps_per_generation * processes
    shape = (
        f"images_per_batch ({images_per_batch}) × steps_per_generation ({steps_per_generation}) × processes "
        f"({processes})"
    )
    _check_enough(images, needed, f"one comparison set needs {needed}, {shape}")
    _check_comparison(comparison)
    if needed // (processes if comparison == "local" else 1) == 1:
        _warn_alone("images_per_batch")


def _check_enough(images: int, needed: int, what: str) -> None:
    if images < needed:
        raise SettingsError(
            f"The training set has {images} images but {what}, so there would be no training step at all: lower the "
            "batch size or steps_per_generation, or add images."
        )


def _check_comparison(comparison: str) -> None:
    if comparison not in ("global", "local"):
        raise SettingsError(f'comparison is "global" or "local", not "{comparison}".')


def _warn_alone(setting: str) -> None:
    warnings.warn(
        "Each comparison set holds one image only, so pairwise rewards (margin, ranking) have no partner and are "
        f"all zero: raise {setting} or steps_per_generation.",
        stacklevel=3,
    )


def check_whole_groups(num_generations: int, per_device_batch: int, steps_per_generation: int, processes: int) -> str:
    """Refuse a single completion per image, and rollouts that don't hold all G of each; return the rollout in words."""
    if num_generations < 2:
        raise SettingsError(
            f"num_generations is {num_generations}, and with fewer than 2 completions per image every advantage is "
            "zero and nothing is learnt: set it to 2 or more (6 is the published value)."
        )
    rollout = per_device_batch * steps_per_generation * processes
    shape = (
        f"per_device_train_batch_size ({per_device_batch}) × steps_per_generation ({steps_per_generation}) × "
        f"processes ({processes})"
    )
    if rollout % num_generations:
        raise SettingsError(
            f"One rollout is {rollout} completions, {shape}, which num_generations ({num_generations}) doesn't "
            "divide: change one of them so that every image gets all its completions."
        )
    return shape


def check_rewards(rewards: Sequence[str], options: dict[str, dict[str, object]], rows: Sequence[RatedImage]) -> None:
    """Refuse options for rewards that aren't used, and the sigma scale for images without a rating deviation."""
    if not rewards:
        raise SettingsError("No reward is chosen: name at least one, for example --reward margin.")
    unused = sorted(set(options) - set(rewards))
    if unused:
        raise SettingsError(
            f'reward_options names "{unused[0]}", which is not among the rewards used ({", ".join(rewards)}).'
        )
    without_std = [row for row in rows if row.std is None]
    if options.get("margin", {}).get("scale") == "sigma" and without_std:
        raise SettingsError(
            f"The margin reward's scale \"sigma\" needs the standard deviation of each image's ratings, and "
            f"{len(without_std)} of {len(rows)} training images have none (the first is {without_std[0].id}): add a "
            'std column to the manifest or use scale "unit".'
        )
