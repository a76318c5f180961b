"""Mixtures: several manifests to train on together, of each a part chosen by a selector, on its own score scale.

A mixture is a YAML file:

    encoder: lite0                # of PPR, distances and content, see mriqa.features; "policy": the model in training
    quality_encoder: lite0_quality
    comparison_within: dataset    # compare images of one dataset only ("all": of all of them)
    reselect_every: 2             # epochs; needs the encoder "policy" to make a difference. 0, the default: never
    seed: 0
    manifests:
      - manifest: koniq/train.jsonl        # paths start from the folder of this file
        scale: koniq10k
        selector: q_diverse                # "all", the default, takes every row
        budget: 0.2                        # a fraction, or an integer count
        options: {gamma: 0.7}
        weight: 2                          # how often an epoch comes to each chosen image: 2 twice, 0.5 every other
      - manifest: kadid.jsonl
        scale: kadid10k
        selector: presta
        budget: 0.2
        target: koniq/labelled.jsonl       # whose preferences the source is to share
        target_scale: koniq10k
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mriqa.manifest import RatedImage, read_manifest
from mriqa.selection.arrays import SelectionError, check_between, check_choice
from mriqa.selection.budgets import Budget, count_of
from mriqa.selection.mixture.choice import ALL, Choice, Chosen, FeaturesOf, check_selector, choose

WITHIN = ("all", "dataset")
POLICY = "policy"  # the encoder that is the model in training


@dataclass(frozen=True)
class PartSettings:
    """One manifest of a mixture; the keys of the module's example."""

    manifest: str
    scale: Any = None
    image_root: str | None = None
    selector: str = ALL
    budget: Budget = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    target: str | None = None
    target_scale: Any = None
    target_image_root: str | None = None


@dataclass(frozen=True)
class MixtureSettings:
    """A mixture; the keys of the module's example."""

    manifests: list[PartSettings]
    encoder: str = "lite0"
    quality_encoder: str = "lite0_quality"
    comparison_within: str = "all"
    reselect_every: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Part:
    """A manifest that was read: its rows, how to choose from them, and how often an epoch comes to each."""

    name: str
    rows: list[RatedImage]
    how: Choice
    weight: float


def read_mixture(path: str | Path) -> MixtureSettings:
    """The settings in a mixture file, its paths made absolute.

    Raises:
        SelectionError: the file is missing or not YAML, or a key is unknown, missing or impossible.
    """
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SelectionError(f"The mixture {path} cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise SelectionError(f"The mixture {path} is not YAML ({' '.join(str(error).split())}).") from error
    try:
        whole = _checked(content, MixtureSettings, "the mixture")
        if not (isinstance(whole["manifests"], list) and whole["manifests"]):
            raise SelectionError("manifests must be a list of at least one manifest.")
        parts = [
            _part(_checked(entry, PartSettings, f"manifest {number} of the mixture"), path.parent)
            for number, entry in enumerate(whole["manifests"], start=1)
        ]
        settings = MixtureSettings(**{**whole, "manifests": parts})
        check_choice("comparison_within", settings.comparison_within, WITHIN)
        if not isinstance(settings.reselect_every, int) or settings.reselect_every < 0:
            raise SelectionError(f"reselect_every is a number of epochs, 0 for never, not {settings.reselect_every!r}.")
    except SelectionError as error:
        raise SelectionError(f"{path}: {error}") from error
    return settings


def read_parts(settings: MixtureSettings, places: Mapping[str, str | Path] | None = None) -> list[Part]:
    """Read the manifests of a mixture, and those of its targets.

    Ids get the number of their manifest in front where there are several, so that none occurs twice.

    Arguments:
        settings: of the mixture.
        places: other paths for names that stand where a manifest's path does.

    Raises:
        ManifestError: a manifest is missing or has bad rows.
        SelectionError: an unknown selector, or one that needs a target and has none.
    """
    parts = []
    for number, entry in enumerate(settings.manifests, start=1):
        file = Path((places or {}).get(entry.manifest, entry.manifest))
        rows = read_manifest(file, image_root=entry.image_root, scale=entry.scale)
        if len(settings.manifests) > 1:
            rows = [replace(row, id=f"{number}/{row.id}") for row in rows]
        target = None
        if entry.target is not None:
            target = read_manifest(entry.target, image_root=entry.target_image_root, scale=entry.target_scale)
        how = Choice(entry.selector, entry.budget, target, entry.options, settings.seed)
        count_of(entry.budget, len(rows))  # an impossible budget is refused before any picture is looked at
        parts.append(Part(f"{number} {file.stem}", rows, how, entry.weight))
    return parts


def choose_parts(parts: Sequence[Part], features_of: FeaturesOf) -> list[Chosen]:
    """Choose from each part on its own, as PreSTA-J does. Raises SelectionError, naming the part."""
    chosen = []
    for part in parts:
        try:
            chosen.append(choose(part.rows, part.how, features_of))
        except SelectionError as error:
            raise SelectionError(f"Part {part.name!r}: {error}") from error
    return chosen


def _part(entry: dict[str, Any], folder: Path) -> PartSettings:
    for key in ("manifest", "target", "image_root", "target_image_root"):
        value = entry.get(key)
        if value is not None and not isinstance(value, str):
            raise SelectionError(f"{key} must be a path, not {value!r}.")
        beside = None if value is None else folder / value
        if beside is not None and (beside.is_dir() if key.endswith("root") else beside.is_file()):
            entry[key] = str(beside)
    if not isinstance(entry.get("options", {}), dict):
        raise SelectionError(f"options must be a mapping such as {{gamma: 0.7}}, not {entry['options']!r}.")
    part = PartSettings(**entry)
    check_between("weight", part.weight, 1e-6, 1e6)
    check_selector(part.selector, part.options, has_target=bool(part.target))
    return part


def _checked(entry: Any, kind: type, what: str) -> dict[str, Any]:
    """`entry` once it is a mapping with the keys of a dataclass, none unknown, the first one there."""
    if not isinstance(entry, dict):
        raise SelectionError(f"{what} must be a mapping of settings, not {entry!r}.")
    names = [option.name for option in fields(kind)]
    for key in entry:
        check_choice(f"key in {what}", key, names)
    if entry.get(names[0]) is None:
        raise SelectionError(f"{what} names no {names[0]}.")
    return dict(entry)
