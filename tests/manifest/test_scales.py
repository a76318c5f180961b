"""Scores to 1..5 and back, and where a row says on which scale it is; more of manifests is in test_manifest.py."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mriqa.manifest import ManifestError, read_manifest
from mriqa.manifest.scales import Scale


@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e3), st.floats(0, 1), st.sampled_from(["higher", "lower"]))
def test_scores_come_back_to_their_scale(
    low: float, width: float, share: float, direction: Literal["higher", "lower"]
) -> None:
    scale = Scale(low, low + width, direction)
    value = min(low + share * width, scale.high)
    assert math.isclose(scale.from_mos(scale.to_mos(value)), value, rel_tol=1e-9, abs_tol=1e-9)
    assert Scale().from_mos(3.3) == 3.3


def manifest(folder: Path, *rows: dict) -> Path:
    Image.new("RGB", (8, 6)).save(folder / "a.png")
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps({"image": "a.png", "id": str(n), **row}) + "\n" for n, row in enumerate(rows)))
    return path


def test_rows_may_declare_their_scale(tmp_path: Path) -> None:
    """Each its own, deviations too; a normalised copy of the score does not go first then."""
    path = manifest(
        tmp_path,
        {"mos": 0.25, "std": 0.1, "score_scale": "csiq"},
        {"mos": 50, "score_scale": "0:100", "gt_score_norm": 4.5},
        {"mos": 3.3},
    )
    rows = read_manifest(path)
    assert [row.mos for row in rows] == [4.0, 3.0, 3.3] and math.isclose(rows[0].std or 0, 0.4)


def test_the_callers_scale_goes_before_that_of_the_rows(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"mos": 25, "score_scale": "0:50", "dataset": "d"})
    assert read_manifest(path)[0].mos == 3.0
    assert read_manifest(path, scale="0:100")[0].mos == read_manifest(path, scale={"d": "0:100"})[0].mos == 2.0


def test_a_scale_is_not_guessed_from_the_data_sets_name(tmp_path: Path) -> None:
    """Many files that name a data set hold its scores on 1..5; where they can't, the sentence says what to declare."""
    assert read_manifest(manifest(tmp_path, {"mos": 3.2, "dataset": "spaq"}))[0].mos == 3.2
    with pytest.raises(
        ManifestError, match=r"outside the declared scale 1..5; spaq is published on 0..100: declare it"
    ):
        read_manifest(manifest(tmp_path, {"mos": 55, "dataset": "spaq"}))
    with pytest.raises(ManifestError, match="key 'score_scale': There is no scale 'best'"):
        read_manifest(manifest(tmp_path, {"mos": 3, "score_scale": "best"}))


def test_a_manifest_without_any_score_has_one_sentence(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"dataset": "kadis700k"}, {"mos": None})
    with pytest.raises(
        ManifestError, match="^No row of manifest .* has a human score .*: it can be scored, but"
    ) as refusal:
        read_manifest(path)
    assert len(refusal.value.bad_rows) == 2
    with pytest.raises(ManifestError, match="1 of 2 rows is bad"):
        read_manifest(manifest(tmp_path, {"mos": 3}, {}))
