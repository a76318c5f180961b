"""The rows of a protocol's data sets, from their manifests or built by the package, and the size of their pictures."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mriqa.manifest import RatedImage, read_manifest
from mriqa.manifest.formats import read_records

from .protocols import Protocol, ProtocolError, RatedSet
from .protocols.protocol import EMBEDDED


@dataclass(frozen=True)
class LoadedSet:
    """The rows of one data set of a protocol, and what their manifest says beside the ratings.

    Attributes:
        source: where the rows come from, for the record.
        distortions: each row's distortion, None where it has none.
    """

    rated_set: RatedSet
    source: str
    rows: list[RatedImage]
    distortions: list[str | None]

    @property
    def contents(self) -> list[str] | None:
        """What each picture shows, where some show the same; None where all are different."""
        contents = [row.content for row in self.rows]
        return contents if len(set(contents)) < len(contents) else None


@contextmanager
def loaded_sets(protocol: Protocol, data: Path, image_root: str | Path | None) -> Iterator[list[LoadedSet]]:
    with tempfile.TemporaryDirectory(prefix="mriqa-embedded-") as folder:
        yield [
            _embedded_set(each, Path(folder)) if each.name == EMBEDDED and each.manifest is None
            else _manifest_set(each, protocol, data, image_root)
            for each in protocol.sets
        ]  # fmt: skip


def _manifest_set(rated_set: RatedSet, protocol: Protocol, data: Path, image_root: str | Path | None) -> LoadedSet:
    if rated_set.manifest is None:
        path = data / f"{rated_set.name}.jsonl"
        of_part = data / f"{rated_set.name}_{rated_set.split}.jsonl"  # as `mriqa data prepare --out NAME_{part}.jsonl`
        if not path.is_file() and rated_set.split and of_part.is_file():
            path = of_part
        if not path.is_file():
            raise ProtocolError(
                f"The protocol {protocol.name} needs {path}: make it with `mriqa data prepare {rated_set.name} --root "
                f"FOLDER --out {path}`, or name the folder that holds it with --data."
            )
    else:
        path = protocol.folder / rated_set.manifest
    root = image_root if rated_set.image_root is None else protocol.folder / rated_set.image_root
    rows = read_manifest(path, scale=rated_set.scale, dataset=rated_set.name, image_root=root, check_images=False)
    records = [record.row for record in read_records(path)]
    kept = [k for k, record in enumerate(records) if rated_set.split is None or record.get("split") == rated_set.split]
    if not kept:
        raise ProtocolError(
            f"No row of {path} has the split {rated_set.split!r}: prepare the data set with its split, as the protocol "
            f"{protocol.name} measures on that part only."
        )
    distortions = [str(records[k]["distortion"]) if records[k].get("distortion") else None for k in kept]
    return LoadedSet(rated_set, str(path), [rows[k] for k in kept], distortions)


def _embedded_set(rated_set: RatedSet, folder: Path) -> LoadedSet:
    """The test part of the data set that the package builds; the other parts are as small as they can be."""
    from mriqa.embedded import DatasetSettings, build_dataset

    settings = DatasetSettings(train_images=1, val_images=1)
    rows = read_manifest(build_dataset(folder, settings).test, dataset=rated_set.name, check_images=False)
    return LoadedSet(rated_set, "made by the package", rows, [row.id.split("-")[-2] for row in rows])


def at_pixels(picture: Image.Image, pixels: Mapping[str, int] | None) -> Image.Image:
    """The picture at the protocol's size (bicubic): never enlarged but to the square of `size`."""
    ((kind, number),) = (pixels or {"as it is": 0}).items()
    width, height = picture.size
    if kind == "size":
        return picture.resize((number, number), Image.Resampling.BICUBIC)
    scale = 1.0
    if kind == "shorter_side":
        scale = number / min(width, height)
    elif kind == "most":
        scale = math.sqrt(number / (width * height))
    if scale >= 1:
        return picture
    return picture.resize((max(1, int(width * scale)), max(1, int(height * scale))), Image.Resampling.BICUBIC)
