"""Choosing among candidates for the packaged model: by validation pictures of kinds of damage seen and held out.

No candidate is chosen by rated data sets. Kinds count alike, however many pictures they have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mriqa.broad.broad_set import read_details
from mriqa.broad.pictures import PRISTINE
from mriqa.embedded.dataset import DatasetPaths
from mriqa.eval.metrics import srcc
from mriqa.manifest import RatedImage, read_manifest, write_manifest
from mriqa.training.embedded_runs import scores_of

MEASURES = ("all", "seen", "unseen")


@dataclass(frozen=True)
class ChoiceManifests:
    """Pictures to train on and to choose by: `seen` and `unseen` kinds of damage on validation contents; `val` both."""

    train: Path
    val: Path
    seen: Path
    unseen: Path


def split_by_kind(data: DatasetPaths, held_out: Collection[str], folder: str | Path) -> ChoiceManifests:
    """Write the manifests of `ChoiceManifests` into the folder: training loses the kinds that are held out."""
    found = ChoiceManifests(*(Path(folder) / f"{name}.jsonl" for name in ("train", "val", "seen", "unseen")))
    details = read_details(data.train) | read_details(data.val)
    train, val = (read_manifest(path, check_images=False) for path in (data.train, data.val))
    unseen = [row for row in val if details[row.id].kind in held_out]
    seen = [row for row in val if details[row.id].kind not in held_out]
    write_manifest([row for row in train if details[row.id].kind not in held_out], found.train)
    write_manifest(val, found.val)
    write_manifest(seen, found.seen)
    write_manifest(unseen, found.unseen)
    return found


def judge_choice(model: str | Path, prepared: str | Path, manifests: ChoiceManifests) -> dict[str, float]:
    """SRCC of a candidate on validation pictures: over all of them, and means over kinds seen and held out."""
    details = read_details(Path(manifests.val).parent / "data" / "val.jsonl")
    rows = read_manifest(manifests.val, check_images=False)
    scores = scores_of(model, prepared, rows)
    kinds = [details[row.id].kind for row in rows]
    unseen = {row.id for row in read_manifest(manifests.unseen, check_images=False)}
    of_kind = by_kind(scores, rows, kinds)
    held_out = {kind for kind, row in zip(kinds, rows) if row.id in unseen}
    return {
        "all": srcc(scores, [row.mos for row in rows]),
        "seen": float(np.mean([value for kind, value in of_kind.items() if kind not in held_out])),
        "unseen": float(np.mean([value for kind, value in of_kind.items() if kind in held_out])),
    }


def by_kind(scores_N: np.ndarray, rows: Sequence[RatedImage], kinds: Sequence[str]) -> dict[str, float]:
    """SRCC of each kind of damage, the pristine pictures among each."""
    mos_N, kinds_N = np.array([row.mos for row in rows]), np.array(kinds)
    pristine_N = kinds_N == PRISTINE
    return {
        kind: srcc(scores_N[own], mos_N[own])
        for kind in dict.fromkeys(kinds)
        if kind != PRISTINE and (own := (kinds_N == kind) | pristine_N).sum() > 2
    }


def choose(judged: Mapping[str, Mapping[str, float]]) -> str:
    """The candidate whose three measures are highest on average; of equals the first."""
    return max(judged, key=lambda name: sum(judged[name][measure] for measure in MEASURES))
