"""The broad data set: photographs spoiled in every way that is at hand, with labels that know the content.

    paths = build_broad_set("data/broad", BroadSettings(photos=("photos",)))
    rows = read_manifest(paths.train)          # rated images as anywhere
    details = read_details(paths.train)        # and by id: which damage, of which kind, how severe, what was measured

Training, validation and test share no content. Pictures and measures are made first, content by content, and are kept
when the work is interrupted; then the map to people's scores is fitted on the training contents (`labels`) and the
manifests are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mriqa.broad.anchors import anchors
from mriqa.broad.full_reference import SIDE
from mriqa.broad.labels import label
from mriqa.broad.pictures import CODECS_ALONE, Picture, make_picture, plan_pictures
from mriqa.embedded.contents import (
    Content,
    EmbeddedDataError,
    folder_photographs,
    procedural_scenes,
    split_sources,
    wheel_photographs,
)
from mriqa.embedded.dataset import DatasetPaths
from mriqa.embedded.parallel import map_processes
from mriqa.files import write_json
from mriqa.manifest.formats import write_records

SETTINGS_FILE, REPORT_FILE = "settings.json", "labels.json"
IMAGES, PARTS = "images", "parts"
SPLITS = ("train", "val", "test")
RECIPE = 5  # raised when the same settings would give other pictures or rows


@dataclass(frozen=True)
class BroadSettings:
    """What the broad data set is made of; the same settings give the same pictures.

    Attributes:
        photos: folders of photographs, beside those inside the wheels.
        train_images, val_images, test_images: pictures in each split.
        codec_images: pictures to train on beside these, through real codecs alone.
        size: side of the square pictures, in pixels; 192 at least.
        scenes: procedural scenes beside the photographs.
        seed: of contents, crops and damages.
        shares: of the contents, in each split.
        held_out: names of contents that validation and test get before any others.
    """

    photos: tuple[str, ...] = ()
    train_images: int = 14000
    val_images: int = 1000
    test_images: int = 1500
    codec_images: int = 0
    size: int = 384
    scenes: int = 24
    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=lambda: {"train": 0.70, "val": 0.12, "test": 0.18})
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size < SIDE:
            raise EmbeddedDataError(f"Pictures of {self.size} pixels can't be measured; take at least {SIDE}.")


@dataclass(frozen=True)
class Details:
    """What was done to a picture.

    Attributes:
        damage, kind: the damage's name and kind; both "pristine" where there is none.
        severity: in [0, 1].
        measures: of the picture beside its original, as `mriqa.broad.full_reference` and `mriqa.broad.changes` name
            them, in this order.
    """

    damage: str
    kind: str
    severity: float
    measures: tuple[float, ...]


def build_broad_set(folder: str | Path, settings: BroadSettings | None = None, workers: int = 2) -> DatasetPaths:
    """Write pictures, manifests and labels.json (how good the labels are) under `folder`.

    A second call goes on where the first was interrupted, and reuses a finished set.

    Raises:
        EmbeddedDataError: too few usable photographs, or the folder holds a data set made with other settings.
        FullReferenceError: piq is not installed.
    """
    folder, settings = Path(folder), settings or BroadSettings()
    paths = DatasetPaths(*(folder / f"{split}.jsonl" for split in SPLITS))
    _claim(folder, settings)
    if (folder / REPORT_FILE).is_file():
        return paths
    splits = split_contents(settings)
    rows, fixed = {}, []
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([settings.seed, number])
        count = getattr(settings, f"{split}_images")
        pictures = plan_pictures(splits[split], count, rng)
        if split == "train":
            pictures += plan_pictures(splits[split], settings.codec_images, rng, CODECS_ALONE, first=count)
        groups = [(content, [p for p in pictures if p.content == content]) for content in splits[split]]
        made = partial(_part, folder, settings, split == "train")
        parts = map_processes(made, groups, f"{split} pictures", "content", workers)
        rows[split] = [row for part in parts for row in part["pictures"]]
        if split == "train":
            fixed = [anchor for part in parts for anchor in part["anchors"]]
    report = label(rows, fixed, settings.seed)
    for split in SPLITS:
        write_records(rows[split], getattr(paths, split))
    write_json(report, folder / REPORT_FILE)
    return paths


def read_details(manifest: str | Path) -> dict[str, Details]:
    """By picture id: what is known of the rows of a manifest of the broad set."""
    rows = map(json.loads, Path(manifest).read_text(encoding="utf-8").splitlines())
    return {row["id"]: Details(row["damage"], row["kind"], row["severity"], tuple(row["measures"])) for row in rows}


def split_contents(settings: BroadSettings) -> dict[str, list[Content]]:
    """Contents to splits, each source in the same shares, at least one each."""
    sources = [folder_photographs(Path(photos), settings.size) for photos in settings.photos]
    sources += [wheel_photographs()] + ([procedural_scenes(settings.scenes, settings.seed)] if settings.scenes else [])
    return split_sources(sources, settings.shares, settings.seed, settings.held_out)


def _claim(folder: Path, settings: BroadSettings) -> None:
    """Write down what the folder is for; refuse one that is for something else."""
    wanted = json.loads(json.dumps({"recipe": RECIPE, **asdict(settings)}))  # as it comes back from the file
    path = folder / SETTINGS_FILE
    if not path.is_file():
        write_json(wanted, path)
    elif json.loads(path.read_text(encoding="utf-8")) != wanted:
        raise EmbeddedDataError(f"{folder} holds a data set made with other settings; name another folder or delete it")


def _part(
    folder: Path, settings: BroadSettings, with_anchors: bool, group: tuple[Content, list[Picture]]
) -> dict[str, Any]:
    """The pictures of one content and what was measured on them, made now or found from an earlier call."""
    content, pictures = group
    path = folder / PARTS / f"{content.name.replace('/', '_')}.json"
    if not path.is_file():
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)
        scene = content.pristine(settings.size)
        made = [make_picture(picture, scene, folder / IMAGES, settings.size, settings.seed) for picture in pictures]
        fixed = anchors(content, scene, settings.size, settings.seed) if with_anchors else []
        write_json({"pictures": made, "anchors": fixed}, path)
    return json.loads(path.read_text(encoding="utf-8"))
