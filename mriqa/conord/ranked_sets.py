"""Rated pictures or videos with ranks on the manifest's scale: quality, ages, temperatures, and vectors such as gaze.

`mriqa.manifest` reads one score of a row and converts it to 1..5. Ranks keep the declared scale: the conversion is
undone, and for a vector rank the manifest is read once for each of its numbers.

Legend: N rows, V views of each, P draws of an item in training, F features, R numbers in a rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mriqa.conord.model import ConOrdModel, View, load_views, stacked
from mriqa.conord.video_frames import is_video
from mriqa.heads.inputs import HeadError
from mriqa.manifest import RatedImage, Scale, read_manifest, resolve_scale


@dataclass(frozen=True)
class RankedSet:
    """Rated pictures, or videos, and their ranks.

    Attributes:
        rows: of the manifest.
        ranks: (N,), or (N, R) for vector ranks, float64, on the declared scales.
        names: what the numbers of a rank are.
        scales: the scale of each of them.
        video: whether the rows are videos.
    """

    rows: list[RatedImage]
    ranks: Tensor
    names: list[str]
    scales: list[Scale]
    video: bool

    @property
    def span(self) -> float:
        """The width of the widest scale."""
        return max(scale.high - scale.low for scale in self.scales)


def read_ranked_set(
    manifest: str | Path,
    *,
    image_root: str | Path | None = None,
    scale: str | None = None,
    score_key: str | None = None,
    vector: Sequence[str] = (),
    on_bad_row: Literal["fail", "skip"] = "fail",
) -> RankedSet:
    """The rows of a manifest with ranks on their declared scale.

    Arguments:
        manifest, image_root, scale, score_key, on_bad_row: as for `mriqa.manifest.read_manifest`.
        vector: the numbers of a vector rank instead of one score, as KEY=LOW:HIGH: ["pitch=-40:10", "yaw=-45:45"].

    Raises:
        ManifestError: the manifest or its rows cannot be used.
        HeadError: pictures and videos are mixed, or a vector entry is not KEY=LOW:HIGH.
        ScaleError: `scale` is none.
    """
    wanted: list[tuple[str | None, Scale]] = [_vector_entry(entry) for entry in vector]
    wanted = wanted or [(score_key, resolve_scale(scale))]
    columns: list[dict[str, float]] = []
    rows: list[RatedImage] = []
    for key, declared in wanted:
        readable = read_manifest(
            manifest,
            image_root=image_root,
            scale=declared,
            score_key=key,
            on_bad_row=on_bad_row,
            rejects_path=f"{manifest}.{key}.rejects.jsonl" if vector else None,
            check_images=False,
        )
        columns.append({row.id: declared.from_mos(row.mos) for row in readable})
        rows = rows or readable
    rows = [row for row in rows if all(row.id in column for column in columns)]
    ranks_NR = torch.tensor([[column[row.id] for column in columns] for row in rows], dtype=torch.float64)
    videos = sum(is_video(row.image) for row in rows)
    if videos not in (0, len(rows)):
        raise HeadError(f"{videos} of {len(rows)} rows of {manifest} are videos; keep pictures and videos apart.")
    return RankedSet(
        rows,
        ranks_NR if vector else ranks_NR[:, 0],
        [key or "score" for key, _ in wanted],
        [declared for _, declared in wanted],
        videos > 0,
    )


def read_folds(
    manifest: str | Path,
    key: str,
    *,
    image_root: str | Path | None = None,
    on_bad_row: Literal["fail", "skip"] = "fail",
) -> dict[str, int]:
    """The fold that a manifest puts each row in, under `key`: row id to a whole number of 0..999.

    Raises:
        ManifestError: a row without a fold, or with one that is no number of 0..999.
        HeadError: a fold that is not a whole number.
    """
    folds = read_ranked_set(manifest, image_root=image_root, vector=[f"{key}=0:999"], on_bad_row=on_bad_row)
    whole_N1 = folds.ranks.round()
    if not torch.allclose(folds.ranks, whole_N1, rtol=0, atol=1e-6):
        raise HeadError(f"Folds are whole numbers, but {key!r} of {manifest} holds others.")
    return {row.id: int(fold) for row, fold in zip(folds.rows, whole_N1[:, 0].tolist(), strict=True)}


class ViewDataset(Dataset[list[View]]):
    """The views of rows as a model sees them, read from the files at each access."""

    def __init__(self, model: ConOrdModel, rows: Sequence[RatedImage]):
        self.paths, self.views = [row.image for row in rows], model.views
        self.video = model.motion_settings.video if model.motion_settings else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> list[View]:
        return load_views(self.paths[place], self.views, self.video)


class FeatureDataset(Dataset[list[View]]):
    """Features (N, V, F) of a frozen encoder in the place of the views that they were computed from."""

    def __init__(self, features_NVF: Tensor):
        self.features_NVF = features_NVF

    def __len__(self) -> int:
        return len(self.features_NVF)

    def __getitem__(self, place: int) -> list[View]:
        return list(self.features_NVF[place])


class TrainingDataset(Dataset[tuple[View, int]]):
    """Draws (P, V, …) of each item for training, and the item's place; the same seed and epoch give the same draws.

    Arguments:
        views: views of all items.
        seed, epoch: what the draws depend on.
        flip: mirror a draw with probability 1/2.
        whole: a draw is all views of the item, to be averaged; otherwise one of them.
        pair: two draws, the second being another view or, where there is no other, the mirror image of the first.
    """

    def __init__(
        self, views: Dataset[list[View]], seed: int, epoch: int, flip: bool, whole: bool = True, pair: bool = False
    ):
        self.views, self.seed, self.epoch = views, seed, epoch
        self.flip, self.whole, self.pair = flip, whole, pair

    def __getitem__(self, place: int) -> tuple[View, int]:
        random = np.random.default_rng((self.seed, self.epoch, place))
        views = self.views[place]
        count = len(views)
        first = int(random.integers(count))
        mirrored = bool(self.flip and random.random() < 0.5)
        draws = [self._draw(views, first, mirrored)]
        if self.pair and (self.whole or count == 1):
            draws.append(self._draw(views, first, not mirrored))
        elif self.pair:
            another = (first + int(random.integers(1, count))) % count
            draws.append(self._draw(views, another, bool(self.flip and random.random() < 0.5)))
        return stacked(draws), place

    def _draw(self, views: list[View], place: int, mirrored: bool) -> View:
        drawn = stacked(views if self.whole else [views[place]])
        return _mirrored(drawn) if mirrored else drawn


def _mirrored(view: View) -> View:
    return view.flip(-1) if isinstance(view, Tensor) else (view[0].flip(-1), view[1].flip(-1))


def _vector_entry(entry: str) -> tuple[str | None, Scale]:
    key, separator, scale = entry.partition("=")
    if not (key and separator):
        raise HeadError(f"Write a number of a vector rank as KEY=LOW:HIGH, such as pitch=-40:10, not {entry!r}.")
    return key, resolve_scale(scale)
