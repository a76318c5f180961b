"""Splits share no content, do not depend on the order of rows, and leave no part empty."""

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mriqa.datasets.splits import split_by_content
from mriqa.manifest import RatedImage


def rated(contents, per_content=3):
    return [
        RatedImage(Path(f"/x/{content}-{k}.png"), 3.0, None, "d", content, f"{content}-{k}")
        for content in contents
        for k in range(per_content)
    ]


@given(st.sets(st.text(), min_size=3, max_size=40), st.integers(0, 99), st.randoms(use_true_random=False))
def test_disjoint_complete_and_stable(contents, seed, shuffler):
    rows = rated(contents)
    parts = split_by_content(rows, [0.6, 0.2, 0.2], seed)
    names = [{row.content for row in part} for part in parts]
    assert all(names) and sum(map(len, names)) == len(contents) == len(set.union(*names))
    assert sorted(row.id for part in parts for row in part) == sorted(row.id for row in rows)
    shuffler.shuffle(rows)
    assert split_by_content(rows, [0.6, 0.2, 0.2], seed) == parts


def test_sizes_count_contents_not_images():
    rows = rated([f"small{i}" for i in range(90)], 1) + rated([f"large{i}" for i in range(10)], 50)
    train, test = split_by_content(rows, [0.8, 0.2])
    assert len({row.content for row in train}) == 80 and len({row.content for row in test}) == 20
    assert [len({r.content for r in part}) for part in split_by_content(rated("abcde"), [0.98, 0.01, 0.01])] == [
        3,
        1,
        1,
    ]


def test_seed_changes_the_split():
    rows = rated(map(str, range(30)))
    splits = {tuple(row.id for row in split_by_content(rows, [0.5, 0.5], seed)[0]) for seed in range(5)}
    assert len(splits) == 5


def test_a_known_split():
    """Pinned, so that a split published with its seed stays what it was."""
    order = sorted("abcdefghij", key=lambda content: hashlib.sha256(f"7:{content}".encode()).hexdigest())
    train, test = split_by_content(rated("abcdefghij", 1), [0.7, 0.3], seed=7)
    assert [{row.content for row in part} for part in (train, test)] == [set(order[:7]), set(order[7:])]


def test_dict_and_same_content_in_two_datasets():
    rows = rated("abcd")
    rows += [RatedImage(r.image, r.mos, None, "other", r.content, r.id) for r in rows]
    random.Random(0).shuffle(rows)
    parts = split_by_content(rows, {"train": 0.5, "test": 0.5})
    assert list(parts) == ["train", "test"] and {len(part) for part in parts.values()} == {12}
    assert not {r.content for r in parts["train"]} & {r.content for r in parts["test"]}


@pytest.mark.parametrize(
    "contents, fractions, message",
    [
        ("a", [0.5, 0.5], "1 contents into 2 parts"),
        ("", [1.0], "0 contents"),
        ("abc", [0.5, 0.4], "sum to 0.9"),
        ("abc", [1.5, -0.5], "positive"),
        ("abc", [], "positive"),
        ("abc", {"a": float("nan"), "b": 1}, "positive"),
    ],
)
def test_impossible_splits(contents, fractions, message):
    with pytest.raises(ValueError, match=message):
        split_by_content(rated(contents), fractions)
