"""Which images an epoch trains on, and which of them may be compared: mixtures of several data sets.

Without a mixture an epoch comes to every image once (`EpochRepeatSampler`). With one, all candidate rows are in the
training set; a schedule says which of them an epoch comes to, how often, and how they are
dealt into comparison sets. So a mixture can be selected anew between two epochs while the trainer, its loader and the
number of its steps stay as they are.

Legend: B images in a comparison set, G completions of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

from mriqa.errors import SettingsError


@dataclass
class Pool:
    """Rows of the training set that are drawn from together.

    Attributes:
        name: for messages.
        rows: places in the training set that an epoch may come to; exchanged when the mixture is selected anew.
        quota: images an epoch takes from it. More than there are rows take every row as often as fits and some once
            more; fewer leave some out, other ones in each epoch.
        compared_with: images of pools that have this in common may be in one comparison set.
    """

    name: str
    rows: Sequence[int]
    quota: int
    compared_with: str = "all"


class Schedule:
    """Epochs of comparison sets out of pools. The same seed and epoch give the same sets.

    Raises SettingsError for a pool without images.
    """

    def __init__(self, pools: Sequence[Pool], seed: int = 0) -> None:
        self.pools, self.seed = list(pools), seed
        for pool in self.pools:
            if not len(pool.rows) or pool.quota < 1:
                raise SettingsError(f"{pool.name!r} gives no image to an epoch: raise its budget or weight.")

    def sets(self, epoch: int, size: int) -> list[list[int]]:
        """The comparison sets of an epoch, each of `size` different places in the training set.

        What doesn't fill a set is left out, other images in each epoch. There are as many sets in every epoch.
        Raises SettingsError where pools that may be compared don't fill one set.
        """
        rng = np.random.default_rng([self.seed, epoch])
        drawn: dict[str, list[int]] = {}
        for pool in self.pools:
            drawn.setdefault(pool.compared_with, []).extend(_draw(pool, rng))
        sets = []
        for group, rows in drawn.items():
            if len(set(rows)) < size:
                names = " and ".join(repr(pool.name) for pool in self.pools if pool.compared_with == group)
                raise SettingsError(
                    f"An epoch takes {len(set(rows))} different images of {names}, and a comparison set needs {size}: "
                    "lower the batch size or steps_per_generation, or raise its budget."
                )
            sets += _deal(rows, size, rng)
        return [sets[place] for place in rng.permutation(len(sets))]


def comparison_set_sampler(
    images: Sized,
    schedule: Schedule | None,
    *,
    images_per_set: int,
    rows_per_image: int,
    batches_per_set: int,
    shuffle: bool,
    seed: int,
) -> Sampler[int]:
    """The order in which a trainer's loader reads its images: sets of `images_per_set`, each as long as it is in work.

    Args:
        images: the training set.
        schedule: what an epoch trains on; None for every image once.
        images_per_set: images of a comparison set, over all processes.
        rows_per_image: how often an image comes in a row: G for sampled answers.
        batches_per_set: how many batches of the loader one set serves.
        shuffle, seed: of the order without a schedule, a function of seed and epoch.
    """
    shape = {"mini_repeat_count": rows_per_image, "batch_size": images_per_set, "repeat_count": batches_per_set}
    if schedule is not None:
        return ScheduledSampler(schedule, **shape)
    return EpochRepeatSampler(data_source=images, shuffle=shuffle, seed=seed, **shape)


class EpochRepeatSampler(RepeatSampler):
    """TRL's RepeatSampler whose order is a function of the seed and the epoch, which a checkpoint knows."""

    def set_epoch(self, epoch: int) -> None:
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) + epoch)


class ScheduledSampler(Sampler[int]):
    """The rows of a schedule as TRL's loader wants them: each G times in a row, each set `repeat_count` times."""

    def __init__(self, schedule: Schedule, mini_repeat_count: int, batch_size: int, repeat_count: int) -> None:
        self.schedule, self.batch_size = schedule, batch_size
        self.mini_repeat_count, self.repeat_count = mini_repeat_count, repeat_count
        self.epoch = 0
        self.sets_per_epoch = len(schedule.sets(0, batch_size))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        sets = self.schedule.sets(self.epoch, self.batch_size)
        for number in range(self.sets_per_epoch):  # the trainer counts on as many as at first
            rows = sets[number % len(sets)]
            for _ in range(self.repeat_count):
                for row in rows:
                    yield from [row] * self.mini_repeat_count

    def __len__(self) -> int:
        return self.sets_per_epoch * self.batch_size * self.mini_repeat_count * self.repeat_count


def _draw(pool: Pool, rng: np.random.Generator) -> list[int]:
    """`quota` rows: every row as often as fits, and a drawn part of them once more."""
    whole, rest = divmod(pool.quota, len(pool.rows))
    more = rng.choice(len(pool.rows), rest, replace=False)
    return [*list(pool.rows) * whole, *(pool.rows[place] for place in more)]


def _deal(rows: list[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """As many sets of `size` different rows as there can be: copies of a row are dealt to sets side by side."""
    times = Counter(rows)
    count = len(rows) // size
    while sum(min(copies, count) for copies in times.values()) < count * size:
        count -= 1  # a set takes one copy of a row, so a few rows with many copies can't fill many sets
    order = list(times)
    order = [order[place] for place in rng.permutation(len(order))]
    order.sort(key=lambda row: -times[row])  # stable; those with most copies must find room
    in_turn = [row for row in order for _ in range(min(times[row], count))]
    return [in_turn[place::count][:size] for place in range(count)]
