"""What every public data set tells about itself, in one shape: the contract between an adapter and everything else.

An adapter (`mriqa.datasets.adapters`, a file for each data set) holds one `DataSet`. Its `read` turns the official
folder into entries on the data set's own scale; counting, checking, splitting and writing them is common to all
(`mriqa.datasets.to_manifest`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriqa.errors import UserError
from mriqa.manifest.scales import NAMED_SCALES, Scale

if TYPE_CHECKING:
    from mriqa.datasets.folder import Folder

PARTS = ("training", "validation", "test")


class DataSetError(UserError, ValueError):
    """A data set's folder, or what was asked of it, that cannot be used, as one sentence with the cure."""


@dataclass(frozen=True)
class Entry:
    """One picture of a data set, as its authors describe it.

    Attributes:
        name: the picture's name in the label file; unique in the data set.
        image: its file, None where the folder has none.
        mos: mean opinion score (or DMOS) on the data set's own scale; None in a data set without scores.
        std: standard deviation of the ratings on the scale of `mos`, None where it is not known.
        rating_std: that deviation on another scale, where the published scores are not on the scale of the ratings.
        content: the reference picture's name or the prompt, which a split must not cross; "" where each picture is its
            own content.
        reference: the undistorted picture.
        distortion, level: which distortion, and how strong (from 1).
        split: "training", "validation" or "test" in the official split.
    """

    name: str
    image: Path | None
    mos: float | None = None
    std: float | None = None
    rating_std: float | None = None
    content: str = ""
    reference: Path | None = None
    distortion: str = ""
    level: int | None = None
    split: str = ""


@dataclass(frozen=True)
class Labels:
    """One column of published scores.

    Attributes:
        scale_name: key of `mriqa.manifest.NAMED_SCALES`; the scale's ends are those that scores may take.
        observed: lowest and highest score of the complete data set, as published, to the digits given here.
    """

    scale_name: str
    observed: tuple[float, float]

    @property
    def scale(self) -> Scale:
        """The data set's nominal scale, with its direction."""
        return NAMED_SCALES[self.scale_name]

    @property
    def observed_scale(self) -> Scale:
        """The observed range as a scale: the one that min-max normalisation starts from."""
        return Scale(*self.observed, self.scale.direction)


@dataclass(frozen=True)
class Reading:
    """What an adapter read: `labels` is the key of the column in `DataSet.labels` that `mos` comes from ("" for none),
    `source` the label file as a person would name it. Entries stand in the order of the label file."""

    entries: list[Entry]
    labels: str
    source: str


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Attributes:
        name: what `mriqa data prepare` and manifests call it.
        title: what its authors call it.
        rows: pictures in the complete data set; `rows_exact` is False where only about so many are known.
        labels: columns of scores by name, the default first; empty for a data set without scores.
        read: the folder and the wanted column ("" for the default) to entries. Raises DataSetError.
        ratios: training, validation and test shares of a random split, in contents where there are such (in two
            numbers: training and test).
        official_split: where the official split stands, "" where there is none.
        licence: the terms, as far as they are known.
        home: where to get it.
        layout: what lies in the official folder, for people.
    """

    name: str
    title: str
    rows: int
    read: Callable[[Folder, str], Reading]
    ratios: tuple[int, ...]
    licence: str
    home: str
    layout: str
    labels: Mapping[str, Labels] = field(default_factory=dict)
    rows_exact: bool = True
    official_split: str = ""

    def chosen_labels(self, wanted: str, available: Mapping[str, str]) -> str:
        """The column to read: the wanted one, else the first of the available.

        Arguments:
            wanted: what the user asked for, "" for the default.
            available: columns that can be read, the default first, with the file of each.

        Raises:
            DataSetError: the column does not exist, or its file is not there.
        """
        if wanted and wanted not in self.labels:
            raise DataSetError(
                f"{self.name} has no labels {wanted!r}; choose one of: {', '.join(self.labels) or 'none'}."
            )
        if wanted and wanted not in available:
            raise DataSetError(
                f"The labels {wanted!r} of {self.name} stand in a file that is not there; it has labels "
                f"{', '.join(available)} ({', '.join(dict.fromkeys(available.values()))})."
            )
        return wanted or next(iter(available))


def number(value: Any, what: str) -> float:
    """`value` of a label file as a finite float. Raises DataSetError naming `what` it is."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise DataSetError(f"{what} is {value!r}, not a number; the label file is damaged or of another version.")
    return result


def whole_number(value: Any, what: str) -> int:
    """The same for a whole number."""
    result = number(value, what)
    if result != int(result):
        raise DataSetError(f"{what} is {value!r}, not a whole number; the label file is damaged or of another version.")
    return int(result)
