"""How the packaged model is chosen: kinds of damage held out, kinds that count alike, and the words of its card."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from mriqa.embedded.dataset import DatasetPaths
from mriqa.manifest import RatedImage, read_manifest
from mriqa.training.default_model.default_model_card import (
    WITH_ORIGINAL,
    Judged,
    describe_candidates,
    kinds_of,
    with_originals,
    without_pristine,
)
from mriqa.training.default_model.default_model_choice import by_kind, choose, split_by_kind


def write_set(folder, name: str, kinds: list[str]):
    """A manifest of the broad set, with a row for each kind."""
    rows = [
        {"image": f"{name}{k}.png", "mos": 1 + k % 4, "std": 0.5, "content": "c", "id": f"{name}{k}", "damage": kind,
         "kind": kind, "severity": 0.5, "measures": [0.1, 0.9]}
        for k, kind in enumerate(kinds)
    ]  # fmt: skip
    for row in rows:
        (folder / row["image"]).write_bytes(b"")
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_training_loses_the_kinds_that_are_held_out(tmp_path):
    (tmp_path / "data").mkdir()
    train = write_set(tmp_path / "data", "train", ["blur", "chain", "noise", "pristine"])
    val = write_set(tmp_path / "data", "val", ["chain", "noise", "blur"])
    found = split_by_kind(DatasetPaths(train, val, val), ("chain",), tmp_path)
    ids = {name: [row.id for row in read_manifest(getattr(found, name), check_images=False)]
           for name in ("train", "val", "seen", "unseen")}  # fmt: skip
    assert ids == {
        "train": ["train0", "train2", "train3"], "val": ["val0", "val1", "val2"],
        "seen": ["val1", "val2"], "unseen": ["val0"],
    }  # fmt: skip


def test_each_kind_is_ranked_together_with_the_pristine_pictures():
    kinds = ["blur", "noise"] * 6 + ["pristine"] * 3
    rng = np.random.default_rng(0)
    mos_N, scores_N = rng.uniform(1, 5, 15), rng.uniform(1, 5, 15)
    rows = [RatedImage("x.png", float(mos), 0.5, "d", "c", str(k)) for k, mos in enumerate(mos_N)]
    found = by_kind(scores_N, rows, kinds)
    assert list(found) == ["blur", "noise"]
    for kind, value in found.items():
        own = [k for k, each in enumerate(kinds) if each in (kind, "pristine")]
        assert value == pytest.approx(spearmanr(scores_N[own], mos_N[own]).statistic)


def test_the_highest_mean_of_the_three_measures_is_chosen():
    judged = {
        "first": {"all": 0.9, "seen": 0.5, "unseen": 0.5},
        "second": {"all": 0.7, "seen": 0.7, "unseen": 0.6},
        "third": {"all": 0.6, "seen": 0.7, "unseen": 0.7},
    }
    assert choose(judged) == "second"
    table = describe_candidates({"chosen": "second", "candidates": judged})
    assert "second (chosen)" in table and "0.600" in table


def test_a_table_has_each_name_and_all_together_but_no_pristine_pictures():
    judged = Judged(["a", "pristine", "b"] * 5, np.arange(15.0), np.arange(15.0))
    table = without_pristine(judged).by_name()
    assert list(table) == ["all together", "a", "b"] and table["all together"]["n"] == 10
    assert table["a"]["srcc"] == 1


def test_beside_each_labelled_distortion_stands_what_can_be_ranked_with_the_original(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"damage": damage, "rated_mos": None if damage == "chain" else float(rng.uniform(1, 5)),
         "mapped_mos": float(rng.uniform(1, 5))}
        for damage in ["jpeg", "darken", "chain", "pristine"] * 6
    ]  # fmt: skip
    for name, part in (("val.jsonl", rows[:10]), ("test.jsonl", rows[10:])):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in part))
    labelled = {name: {"n": 3, "srcc": 0.5} for name in ("all together", "darken", "jpeg")}
    table = with_originals(labelled, (tmp_path / "val.jsonl", tmp_path / "test.jsonl"))
    assert list(table) == list(labelled) and table["jpeg"]["n"] == 3
    for name, damages in (("all together", ("jpeg", "darken")), ("darken", ("darken",)), ("jpeg", ("jpeg",))):
        own = [row for row in rows if row["damage"] in damages]
        expected = spearmanr([row["mapped_mos"] for row in own], [row["rated_mos"] for row in own]).statistic
        assert table[name][WITH_ORIGINAL] == pytest.approx(expected)


def test_held_out_kinds_are_named_with_their_damages():
    assert "denoised (denoised_median" in kinds_of(["denoised"])
