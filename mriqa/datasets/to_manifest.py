"""From a data set's official folder to a manifest: read, check, split, normalise, write.

    from mriqa.datasets.to_manifest import prepare
    prepared = prepare("koniq10k", Path("/data/koniq10k"))
    prepared.write(Path("koniq.jsonl"))

A row keeps the data set's own score and deviation (`mos`, `std`) and says in `score_scale` on which scale they are, so
that whoever reads the manifest knows it. Nothing is downloaded, and nothing is guessed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mriqa.choices import check_choice
from mriqa.datasets.catalogue import find_data_set
from mriqa.datasets.data_set import PARTS, DataSet, DataSetError, Entry, Labels, Reading
from mriqa.datasets.folder import Folder
from mriqa.datasets.split_files import apply_split_file
from mriqa.datasets.splits import random_split
from mriqa.files import replacing
from mriqa.images import ImageError, load_image
from mriqa.manifest.formats import write_records
from mriqa.manifest.rows import SCALE_KEY, portable_path

PART_IN_NAME = "{part}"
ABOUT = 0.01  # how far the number of rows may be off where only about so many are known
ROUNDING = 0.001  # of the range: published ends are rounded

Normalisation = Literal["official", "minmax"]


@dataclass(frozen=True)
class Prepared:
    """A data set that has been read and checked, ready to be written.

    Attributes:
        data_set: which one.
        entries: its pictures, in the order of the label file, each with a file.
        labels: the column that the scores come from, None without scores.
        source: the label file.
        normalise: "official" keeps the published scores; "minmax" maps the observed range to 1..5, higher being better.
        notes: what a user should know, a sentence each.
    """

    data_set: DataSet
    entries: list[Entry]
    labels: Labels | None
    source: str
    normalise: Normalisation
    notes: list[str]

    def parts(self) -> dict[str, int]:
        """How many pictures each part of the split has; empty where there is no split."""
        counted = Counter(entry.split for entry in self.entries if entry.split)
        return {part: counted[part] for part in PARTS if counted[part]}

    def rows(self, folder: Path, part: str = "") -> list[dict[str, Any]]:
        """Rows of a manifest that lies in `folder`, of one part or of all; keys that no row needs are left out."""
        entries = [entry for entry in self.entries if part in ("", entry.split)]
        rows = [self._row(entry, folder.resolve()) for entry in entries]
        used = {key for row in rows for key, value in row.items() if value not in (None, "")}
        return [{key: value for key, value in row.items() if key in used} for row in rows]

    def outputs(self, out: Path) -> dict[Path, str]:
        """The files that `write` makes, with the part that each holds: "{part}" in the name makes one for each.

        Raises:
            DataSetError: one file for each part is asked for, and the data set is not split.
        """
        if PART_IN_NAME not in out.name:
            return {out: ""}
        if not self.parts():
            raise DataSetError(
                f"{self.data_set.name} is not split, so {out.name} can't be written for each part; add --split."
            )
        return {out.with_name(out.name.replace(PART_IN_NAME, part)): part for part in self.parts()}

    def write(self, out: Path) -> list[Path]:
        """Write the manifest, or one for each part: all of them or none. Returns the files.

        Raises:
            DataSetError: see `outputs`.
            ManifestError: the suffix is not one of a manifest.
        """
        outputs = self.outputs(out)
        with ExitStack() as stack:
            for path, part in outputs.items():
                write_records(self.rows(path.parent, part), stack.enter_context(replacing(path)))
        return list(outputs)

    def _row(self, entry: Entry, folder: Path) -> dict[str, Any]:
        assert entry.image is not None, "pictures without a file were dropped"
        row: dict[str, Any] = {"image": portable_path(entry.image, folder)}
        if self.labels is not None and entry.mos is not None:
            minmax = self.normalise == "minmax"
            scale = self.labels.observed_scale
            row["mos"] = scale.to_mos(min(max(entry.mos, scale.low), scale.high)) if minmax else entry.mos
            row["std"] = scale.std_to_mos(entry.std) if minmax and entry.std is not None else entry.std
            row[SCALE_KEY] = "mos" if minmax else self.labels.scale_name
            row["rating_std"] = entry.rating_std
        reference = None if entry.reference is None else portable_path(entry.reference, folder)
        return {
            **row,
            "dataset": self.data_set.name,
            "content": entry.content,
            "id": entry.name,
            "distortion": entry.distortion,
            "level": entry.level,
            "split": entry.split,
            "reference": reference,
        }


def prepare(
    name: str,
    root: str | Path,
    *,
    labels: str = "",
    split: str = "",
    split_index: int = 0,
    split_file: str | Path | None = None,
    part: str = "",
    normalise: Normalisation = "official",
    allow_partial: bool = False,
    check_images: bool = True,
    progress: Callable[[Iterable[str], int], Iterable[str]] | None = None,
) -> Prepared:
    """Read a public data set from its official folder and check that it is complete.

    Arguments:
        name: a name of `mriqa.datasets.catalogue.DATA_SETS`.
        root: the folder that the data set was unpacked to.
        labels: which column of scores, where there are several; "" for the default.
        split: "official"; "random" by content; "" is the official one where there is one at hand.
        split_index: which of the ten random splits, or which row of an .npy file.
        split_file: a published split (see `mriqa.datasets.split_files`); pictures that it does not list are left out.
        part: "training", "validation" or "test": only that part.
        normalise: see `Prepared`. Deviations get the slope of the scores where they are on their scale.
        allow_partial: keep what is there of a partial download instead of refusing it.
        check_images: decode every picture to be sure that it can be read.
        progress: wraps the checking of pictures, as `mriqa.progress.with_progress` does.

    Raises:
        DataSetError: the folder, its label files or its pictures are not those of the data set, or an option asks for
            what it does not have.
    """
    data_set = find_data_set(name)
    check_choice("normalisation", normalise, ("official", "minmax"), DataSetError)
    if part:
        check_choice("part", part, PARTS, DataSetError)
    reading = data_set.read(Folder(Path(root), allow_partial), labels)
    used = data_set.labels[reading.labels] if reading.labels else None
    if normalise == "minmax" and used is None:
        raise DataSetError(f"{name} has no scores to normalise; leave --normalise out.")
    _check_scores(data_set, reading, used, normalise)
    entries = _split(data_set, reading, split, split_index, Path(split_file) if split_file else None)
    if part:
        entries = [entry for entry in entries if entry.split == part]
        if not entries:
            raise DataSetError(
                f"{name} has no {part} part in this split; it has {_counts(reading.entries) or 'no split'}."
            )
    unreadable = _unreadable(entries, progress) if check_images else {}
    notes = _check_complete(data_set, reading, entries, unreadable, Path(root), allow_partial)
    entries = [entry for entry in entries if entry.image is not None and entry.name not in unreadable]
    notes += _observed_note(data_set, reading, used)
    return Prepared(data_set, entries, used, reading.source, normalise, notes)


def _check_scores(data_set: DataSet, reading: Reading, labels: Labels | None, normalise: Normalisation) -> None:
    """Refuse scores and deviations that can't be this data set's, and pictures that are listed twice."""
    twice = [name for name, count in Counter(entry.name for entry in reading.entries).items() if count > 1]
    if twice:
        raise DataSetError(
            f"{reading.source} lists {len(twice)} pictures twice (first: {twice[0]}); download it again."
        )
    if labels is None:
        return
    low, high = labels.scale.low, labels.scale.high
    if normalise == "minmax":
        slack = ROUNDING * (labels.observed[1] - labels.observed[0])
        low, high = labels.observed[0] - slack, labels.observed[1] + slack
    outside = [entry for entry in reading.entries if entry.mos is None or not low <= entry.mos <= high]
    if outside:
        raise DataSetError(
            f"{len(outside)} scores in {reading.source} lie outside {data_set.name}'s {low:g}..{high:g} (first: "
            f"{outside[0].mos:g} of {outside[0].name}): the label file is damaged or of another version."
        )
    negative = [entry for entry in reading.entries if entry.std is not None and entry.std < 0]
    if negative:
        raise DataSetError(
            f"{len(negative)} deviations in {reading.source} are negative (first: {negative[0].std:g} of "
            f"{negative[0].name}): the label file is damaged."
        )


def _split(data_set: DataSet, reading: Reading, split: str, split_index: int, split_file: Path | None) -> list[Entry]:
    """The entries with the part that the wanted split gives them."""
    if split_file is not None:
        if split:
            raise DataSetError("Give either --split or --split-file, not both.")
        return apply_split_file(reading.entries, split_file, split_index)
    if split == "":
        return reading.entries
    check_choice("split", split, ("official", "random"), DataSetError)
    if split == "random":
        part_of = random_split((entry.content or entry.name for entry in reading.entries), data_set.ratios, split_index)
        return [replace(entry, split=part_of[entry.content or entry.name]) for entry in reading.entries]
    if not data_set.official_split:
        raise DataSetError(
            f"{data_set.name} has no official split; use --split random, or --split-file with a published one."
        )
    without = [entry for entry in reading.entries if entry.split not in PARTS]
    if without:
        raise DataSetError(
            f"The official split of {data_set.name} stands in {data_set.official_split}; {len(without)} of "
            f"{len(reading.entries)} pictures have no part there (first: {without[0].name}): get that file, too."
        )
    return reading.entries


def _check_complete(
    data_set: DataSet,
    reading: Reading,
    wanted: Sequence[Entry],
    unreadable: dict[str, str],
    root: Path,
    allow_partial: bool,
) -> list[str]:
    """Notes on what is missing. Raises DataSetError where something is and may not be, or where nothing is left."""
    listed, rows = len(reading.entries), data_set.rows
    slack = 0 if data_set.rows_exact else int(ABOUT * rows)
    about = "" if data_set.rows_exact else "about "
    if listed > rows + slack:
        raise DataSetError(
            f"{reading.source} lists {listed:,} pictures, but {data_set.title} has {about}{rows:,}: it is of another "
            "version or another data set."
        )
    missing = [entry.name for entry in wanted if entry.image is None]
    lacks = []
    if listed < rows - slack:
        lacks.append(f"{reading.source} lists {listed:,} of {about}{rows:,} pictures")
    if missing:
        lacks.append(f"{len(missing):,} of {len(wanted):,} pictures are missing ({_first(missing)})")
    if unreadable:
        first = next(iter(unreadable.values()))
        lacks.append(f"{len(unreadable):,} pictures can't be read ({_first(list(unreadable))}; {first.rstrip('.')})")
    if not lacks:
        return []
    if len(missing) + len(unreadable) == len(wanted):
        raise DataSetError(f"{root} has no picture of {data_set.title} that can be read: {'; '.join(lacks)}.")
    if not allow_partial:
        raise DataSetError(
            f"{data_set.title} in {root} is not complete: {'; '.join(lacks)}. Get the rest from {data_set.home}, or "
            "keep what is there with --allow-partial."
        )
    return [f"Partial: {'; '.join(lacks)}."]


def _observed_note(data_set: DataSet, reading: Reading, labels: Labels | None) -> list[str]:
    """Say so where a complete data set's scores have other ends than the published ones."""
    if labels is None or len(reading.entries) != data_set.rows:
        return []
    scores = [entry.mos for entry in reading.entries if entry.mos is not None]
    slack = ROUNDING * (labels.observed[1] - labels.observed[0])
    ends = (min(scores), max(scores))
    if all(abs(found - known) <= slack for found, known in zip(ends, labels.observed, strict=True)):
        return []
    return [
        f"The scores of {reading.source} reach from {ends[0]:g} to {ends[1]:g}, where {labels.observed[0]:g} to "
        f"{labels.observed[1]:g} is known: the label file may be of another version."
    ]


def _unreadable(entries: Sequence[Entry], progress: Callable[..., Iterable[str]] | None) -> dict[str, str]:
    """The entries whose picture can't be decoded, and why."""
    present = [entry for entry in entries if entry.image is not None]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        reasons: Iterable[str] = pool.map(_reason_against, [entry.image for entry in present])
        if progress is not None:
            reasons = progress(reasons, len(present))
        return {entry.name: reason for entry, reason in zip(present, reasons, strict=True) if reason}


def _reason_against(path: Path | None) -> str:
    try:
        load_image(path or "")
    except ImageError as error:
        return str(error)
    return ""


def _first(names: list[str]) -> str:
    return f"first: {', '.join(names[:3])}"


def _counts(entries: Iterable[Entry]) -> str:
    counted = Counter(entry.split for entry in entries if entry.split)
    return ", ".join(f"{part} {count}" for part, count in counted.items())
