"""Epochs of comparison sets: shares by quota, nothing twice in a set, one group a set, and the order TRL expects."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mriqa.errors import SettingsError
from mriqa.policy.schedule import Pool, Schedule, ScheduledSampler


def pools(sizes_and_quotas: list[tuple[int, int]], groups: list[str]) -> list[Pool]:
    made, start = [], 0
    for number, ((size, quota), group) in enumerate(zip(sizes_and_quotas, groups)):
        made.append(Pool(f"pool {number}", range(start, start + size), quota, group))
        start += size
    return made


@given(
    st.lists(st.tuples(st.integers(4, 30), st.integers(4, 90)), min_size=1, max_size=3),
    st.integers(2, 4),
    st.integers(0, 5),
)
def test_sets_hold_different_images_of_one_group_and_no_image_beyond_its_share(sizes_and_quotas, size, epoch):
    made = pools(sizes_and_quotas, ["a", "b", "a"])
    group_of = {row: pool.compared_with for pool in made for row in pool.rows}
    schedule = Schedule(made, seed=1)
    sets = schedule.sets(epoch, size)
    assert all(len(set(rows)) == size and len({group_of[row] for row in rows}) == 1 for rows in sets)
    times = Counter(row for rows in sets for row in rows)
    for pool in made:
        assert all(times[row] <= -(-pool.quota // len(pool.rows)) for row in pool.rows)
    assert len(sets) == len(schedule.sets(epoch + 1, size))
    assert sets == Schedule(made, seed=1).sets(epoch, size)


def test_whole_sets_use_up_every_quota():
    """Quotas 24, 8 and 8 of 12, 8 and 16 images fill ten sets of four exactly."""
    made = pools([(12, 24), (8, 8), (16, 8)], ["all"] * 3)
    seen = []
    for epoch in range(3):
        sets = Schedule(made).sets(epoch, 4)
        assert len(sets) == 10
        times = Counter(row for rows in sets for row in rows)
        assert [times[row] for row in range(20)] == [2] * 12 + [1] * 8
        seen.append(frozenset(row for row in times if row >= 20))
        assert len(seen[-1]) == 8
    assert len(set(seen)) == 3  # half of the third pool, another half in each epoch


def test_few_images_with_many_copies_give_as_many_sets_as_can_be():
    sets = Schedule(pools([(2, 100), (6, 6)], ["all"] * 2)).sets(0, 8)
    assert [sorted(rows) for rows in sets] == [list(range(8))]


def test_the_sampler_repeats_as_trl_does():
    sampler = ScheduledSampler(Schedule(pools([(6, 6)], ["all"])), mini_repeat_count=2, batch_size=3, repeat_count=2)
    rows = list(sampler)
    assert len(rows) == len(sampler) == 24
    for start in (0, 12):
        block = rows[start : start + 6]
        assert block == rows[start + 6 : start + 12]
        assert block[::2] == block[1::2] and len(set(block)) == 3
    sampler.set_epoch(1)
    assert list(sampler) != rows
    sampler.set_epoch(0)
    assert list(sampler) == rows


def test_a_new_selection_changes_the_images_and_not_the_number_of_steps():
    (pool,) = made = pools([(40, 8)], ["all"])
    sampler = ScheduledSampler(Schedule(made), mini_repeat_count=1, batch_size=4, repeat_count=1)
    pool.rows = [30, 31, 32, 33, 34]  # eight images of five: three come twice, and never in one set
    rows = list(sampler)
    assert len(rows) == len(sampler) == 8 and set(rows) <= set(pool.rows)
    assert len(set(rows[:4])) == len(set(rows[4:])) == 4


def test_what_cannot_be_scheduled():
    with pytest.raises(SettingsError, match=r"takes 3 different images of 'pool 1', and a comparison set needs 4"):
        Schedule(pools([(8, 8), (3, 6)], ["a", "b"])).sets(0, 4)
    with pytest.raises(SettingsError, match="'pool 0' gives no image to an epoch"):
        Schedule(pools([(8, 0)], ["a"]))
