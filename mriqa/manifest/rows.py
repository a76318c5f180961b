"""What the keys of a manifest row mean: one row to one rated image, or the reason why not.

The keys that are known, and which of them goes first, stand in `mriqa.manifest`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from mriqa.manifest.formats import Record
from mriqa.manifest.scales import MOS, NAMED_SCALES, Scale, resolve_scale

IMAGE_KEYS = ("image", "image_path", "img_path")
RAW_SCORE_KEYS = ("score", "mos", "rating", "human_score", "gt_score")
NORMALISED_SCORE_KEYS = ("gt_score_norm", "normalized_score")
RAW_STD_KEYS = ("std", "score_std", "mos_std")
NORMALISED_STD_KEYS = ("std_norm",)
SCALE_KEY = "score_scale"

STATED_SCORE = re.compile(r"\s*(?:<answer>)?\s*(-?[0-9]+(?:\.[0-9]+)?)\s*(?:</answer>)?\s*")
"""A conversation turn that states a score and nothing else."""


@dataclass(frozen=True)
class RatedImage:
    """One image and what people thought of it.

    Attributes:
        image: absolute path of the image file.
        mos: mean opinion score in 1..5, higher is better.
        std: standard deviation of the ratings on the same scale, None where it is not known.
        dataset: name of the dataset.
        content: what the image shows; distorted versions of one picture share it.
        id: unique name of the image within its manifest.
    """

    image: Path
    mos: float
    std: float | None
    dataset: str
    content: str
    id: str


class RowError(ValueError):
    """Why a single row cannot be used, as half a sentence. Never reaches a person: it becomes a `BadRow`."""


class NoScoreError(RowError):
    """The row has no score under any of the keys that could hold it. Never reaches a person: it becomes a `BadRow`."""


@dataclass(frozen=True)
class Layout:
    """How to understand the rows of one manifest."""

    root: Path
    scale: Scale | str | Mapping[str, Scale | str] | None
    dataset: str
    image_key: str | None
    score_key: str | None
    std_key: str | None

    def __post_init__(self) -> None:
        scales = list(self.scale.values()) if isinstance(self.scale, Mapping) else [self.scale]
        for scale in scales:
            resolve_scale(scale)

    def interpret(self, record: Record) -> RatedImage:
        """The rated image of one record. Raises RowError where the record is none."""
        if record.problem:
            raise RowError(record.problem)
        row = record.row
        path_text, image = self._image(row)
        dataset = _text(row, ("dataset", "dataset_name")) or self.dataset
        declared = self._declared_scale(row, dataset)
        scale = resolve_scale(declared)
        score_key, score = self._score(row, declared is not None)
        std = self._std(row, score_key, scale)
        identifier = _text(row, ("id", "image_id")) or path_text
        try:
            mos = scale.to_mos(score)
            std_mos = None if std is None else scale.std_to_mos(std)
        except ValueError as error:
            raise RowError(f"{error}{_scale_hint(declared, dataset)}") from error
        return RatedImage(
            image,
            mos,
            std_mos,
            dataset,
            _text(row, ("content",)) or identifier,
            identifier,
        )

    def _image(self, row: dict[str, Any]) -> tuple[str, Path]:
        """The path as a default id, and the file it leads to."""
        keys = (self.image_key,) if self.image_key else IMAGE_KEYS
        key, value = _first(row, keys)
        if key is None:
            raise RowError(f"has no image (none of the keys {', '.join(keys)}; {_found(row)})")
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, str) or not value.strip():
            raise RowError(f"key {key!r} must hold the path of one image, not {shortened(value)}")
        try:
            image = (self.root / value).resolve()
            inside, exists = image.is_relative_to(self.root), image.is_file()
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # over-long names, NUL bytes, circular links
            raise RowError(f"image {shortened(value)} is not a usable path ({error})") from error
        if not inside:
            raise RowError(
                f"image {value!r} lies outside the image root {self.root}: --image-root names a folder above it"
            )
        if not exists:
            raise RowError(f"image {value!r} does not exist in {self.root}")
        return portable_path(Path(os.path.normpath(self.root / value)), self.root), image

    def _declared_scale(self, row: dict[str, Any], dataset: str) -> Scale | str | None:
        """What the caller declared, else what the row declares; None where nobody did."""
        if isinstance(self.scale, Mapping):
            if dataset not in self.scale:
                raise RowError(f"belongs to dataset {dataset!r}, for which no scale is declared")
            return self.scale[dataset]
        if self.scale is not None:
            return self.scale
        own_scale = _text(row, (SCALE_KEY,))
        try:
            resolve_scale(own_scale or None)
        except ValueError as error:
            raise RowError(f"key {SCALE_KEY!r}: {str(error).rstrip('.')}") from error
        return own_scale or None

    def _score(self, row: dict[str, Any], scale_is_declared: bool) -> tuple[str, float]:
        """The key a score was found under, and the score as it stands there."""
        if self.score_key:
            keys: tuple[str, ...] = (self.score_key,)
        elif not scale_is_declared:
            keys = NORMALISED_SCORE_KEYS + RAW_SCORE_KEYS
        else:
            keys = RAW_SCORE_KEYS + NORMALISED_SCORE_KEYS
        key, value = _first(row, keys)
        if key is None and not self.score_key:
            key, value = "conversations", _stated_score(row.get("conversations"))
        if key is None or value is None:
            raise NoScoreError(f"has no score (none of the keys {', '.join(keys)}; {_found(row)})")
        return key, _number(key, value)

    def _std(self, row: dict[str, Any], score_key: str, scale: Scale) -> float | None:
        """The std on the scale of the score; one that may be on another scale is left out."""
        if self.std_key:
            keys: tuple[str, ...] = (self.std_key,)
        elif score_key in NORMALISED_SCORE_KEYS:
            has_raw_score = _first(row, RAW_SCORE_KEYS)[0] is not None
            keys = NORMALISED_STD_KEYS + (() if has_raw_score else RAW_STD_KEYS)
        else:
            keys = RAW_STD_KEYS + (NORMALISED_STD_KEYS if scale == MOS else ())
        key, value = _first(row, keys)
        return None if key is None else _number(key, value)


def _scale_hint(declared: object, dataset: str) -> str:
    """The scale that the data set is known for, where none was declared."""
    if declared is not None or NAMED_SCALES.get(dataset, MOS) == MOS:
        return ""
    return f"; {dataset} is published on {NAMED_SCALES[dataset]}: declare it, --scale {dataset}"


def _first(row: dict[str, Any], keys: Iterable[str]) -> tuple[str | None, Any]:
    """The first of `keys` that holds something, with its value; (None, None) where none does."""
    for key in keys:
        value = row.get(key)
        if value is not None and not (isinstance(value, str) and not value.strip()):
            return key, value
    return None, None


def _found(row: dict[str, Any]) -> str:
    """The keys that a row does have, so that one sees which to rename."""
    return f"it has {', '.join(map(str, list(row)[:12])) or 'nothing'}"


def _text(row: dict[str, Any], keys: Iterable[str]) -> str:
    key, value = _first(row, keys)
    if key is None or (isinstance(value, float) and math.isnan(value)):  # NaN is how tables mark an empty cell
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise RowError(f"key {key!r} must hold text, not {shortened(value)}")
    return str(value)


def _number(key: str, value: Any) -> float:
    """`value` as a float, perhaps NaN. Raises RowError where it is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise RowError(f"key {key!r} must hold a number, not {shortened(value)}")
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise RowError(f"key {key!r} must hold a number, not {shortened(value)}") from error


def _stated_score(turns: Any) -> Any:
    """The score that the last turn of a conversation states, as a number or as text; None where it states none."""
    if not isinstance(turns, list) or len(turns) < 2 or not isinstance(turns[-1], dict):
        return None
    value = turns[-1].get("value", turns[-1].get("content"))
    if not isinstance(value, str):
        return value
    match = STATED_SCORE.fullmatch(value)
    return match[1] if match else None


def shortened(value: Any) -> str:
    """`value` as Python writes it, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def portable_path(image: Path, folder: Path) -> str:
    """Relative to `folder` where it lies inside, with forward slashes."""
    image = (
        image.parent.resolve() / image.name
    )  # a relative path is relative to the working directory, not to the manifest
    inside = image.is_relative_to(folder)
    return (image.relative_to(folder) if inside else image).as_posix()
