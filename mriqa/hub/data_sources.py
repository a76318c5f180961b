"""What is known of the data that a run learned from: names, counts, licences. What is not known is said to be so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mriqa.hub.run import Run
from mriqa.manifest import ManifestError, RatedImage, read_manifest

UNKNOWN = "not recorded"
EMBEDDED, BROAD = "embedded", "broad"
MEASURED = "full-reference measures of each picture, mapped to the same ratings"
KADID = "published ratings of KADID-10k (Lin, Hosu and Saupe, QoMEX 2019), by distortion and severity"
WHEELS = {
    "astronaut, brick, camera, coffee, grass, gravel, hubble, immunohistochemistry, retina, rocket (scikit-image)": (
        "CC0, public domain or no known copyright restrictions, as scikit-image's documentation says of each"
    ),
    "motorcycle (scikit-image; Middlebury stereo benchmark 2014)": UNKNOWN,
    "china, flower (scikit-learn; by the Flickr users danielbuechele and vultilion)": "CC BY 2.0",
    "grace_hopper (matplotlib)": UNKNOWN,
    "dead-leaves scenes, drawn by `mriqa`": "none needed",
}
"""Photographs of `mriqa.embedded.contents`, with what the wheels say of their licence."""


@dataclass(frozen=True)
class Source:
    """One line of the data table: what it is, how much of it, and under which licence."""

    name: str
    amount: str
    licence: str


def training_sources(run: Run, licences: Mapping[str, str]) -> list[Source]:
    """The data a run learned from; `licences` by data set name are what the publisher states about them."""
    rows = training_rows(run)
    if rows is None:
        return [
            Source(
                _stem(run.settings.get("train_manifest")), "its manifest or its pictures are not here any more", UNKNOWN
            )
        ]
    sources = []
    for name, own in _by_dataset(rows).items():
        contents = len({row.content for row in own if row.content})
        amount = f"{len(own):,} pictures" + (f" of {contents:,} contents" if contents else "")
        sources.append(Source(f"`{name}`", amount, licences.get(name, UNKNOWN)))
        embedded, broad = embedded_settings(run), broad_settings(run)
        parts = []
        if name == EMBEDDED and embedded is not None:
            parts = _embedded_parts(embedded)
        elif name == BROAD and broad is not None:
            parts = _broad_parts(broad)
        if parts:
            sources[-1] = Source(sources[-1].name, amount, licences.get(name, "by its parts, below"))
            sources += parts
    return sources


def training_rows(run: Run) -> list[RatedImage] | None:
    """The rated images of the manifest, or of the mixture's last selection; None where they cannot be read."""
    if run.settings.get("mix"):
        selections = sorted((run.settings_folder / "mixture").glob("epoch-*.jsonl"))
        return _read(selections[-1], Path(selections[-1].resolve().anchor), None) if selections else None
    manifest = run.path_of("train_manifest")
    return _rows(manifest, run) if manifest else None


def validation_name(run: Run) -> tuple[str, int | None]:
    """Name of the data that chose the checkpoint, and the number of pictures where it is known."""
    manifest = run.path_of("val_manifest")
    rows = _rows(manifest, run) if manifest else None
    if not rows:
        return _stem(run.settings.get("val_manifest")), None
    limit = run.settings.get("val_limit")
    return " and ".join(_by_dataset(rows)), min(len(rows), limit or len(rows))


def embedded_settings(run: Run) -> dict[str, Any] | None:
    """What the embedded data set was built from (`dataset.json` beside its manifest); None for other data."""
    return _settings_of_data(run, "dataset.json", "distortions")


def broad_settings(run: Run) -> dict[str, Any] | None:
    """What the broad data set was built from (`settings.json` beside its manifest); None for other data."""
    return _settings_of_data(run, "settings.json", "scenes")


def settings_of_own_data(run: Run) -> dict[str, Any] | None:
    """What the project's own data set was built from, the embedded or the broad one; None for other data."""
    return embedded_settings(run) or broad_settings(run)


def _settings_of_data(run: Run, name: str, known_by: str) -> dict[str, Any] | None:
    manifest = run.path_of("train_manifest")
    about = manifest.parent / name if manifest else None
    if about is None or not about.is_file():
        return None
    found = json.loads(about.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) and known_by in found else None


def _broad_parts(about: Mapping[str, Any]) -> list[Source]:
    own = {"photographs from folders of the trainer's own": UNKNOWN} if about.get("photos") else {}
    parts = [Source(f"– {name}", "contents of all splits", licence) for name, licence in (own | WHEELS).items()]
    labels = {KADID: "half of the label of each distortion of theirs", MEASURED: "all other labels"}
    return [*parts, *(Source(f"– labels: {name}", amount, UNKNOWN) for name, amount in labels.items())]


def _embedded_parts(about: Mapping[str, Any]) -> list[Source]:
    contents = {"photographs from a folder of the trainer's own": UNKNOWN} if about.get("photos") else WHEELS
    parts = [Source(f"– {name}", "contents of all splits", licence) for name, licence in contents.items()]
    return [*parts, Source(f"– labels: {KADID}", f"{len(set(about['distortions']))} distortions", UNKNOWN)]


def _rows(manifest: Path, run: Run) -> list[RatedImage] | None:
    return _read(manifest, run.settings.get("image_root"), run.settings.get("scale"))


def _read(manifest: Path, image_root: str | Path | None, scale: Any) -> list[RatedImage] | None:
    try:
        return read_manifest(manifest, image_root=image_root, scale=scale, check_images=False)
    except (ManifestError, ValueError, OSError):
        return None  # the card says that nothing is known


def _by_dataset(rows: list[RatedImage]) -> dict[str, list[RatedImage]]:
    counted = Counter(str(row.dataset or "unnamed") for row in rows)
    return {name: [row for row in rows if str(row.dataset or "unnamed") == name] for name in counted}


def _stem(named: object) -> str:
    """A manifest's name without the folders, which are nobody's business."""
    return f"`{Path(named).stem}`" if isinstance(named, str) else UNKNOWN
