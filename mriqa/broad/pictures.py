"""One picture of the broad data set: which crop of which content, what is done to it, how far it is from its original.

Every random choice comes from the seed of (data set, content, index), so a picture is made again alike, alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mriqa.broad.changes import changes
from mriqa.broad.damage import Damage
from mriqa.broad.damage_table import CODECS, COMPOSITION, LABELLED_DAMAGES, OTHER_DAMAGES
from mriqa.broad.full_reference import measure
from mriqa.embedded.contents import Content

PRISTINE = "pristine"
SHARES = {PRISTINE: 0.07, "labelled": 0.31, "composition": 0.15, "codec": 0.15, "other": 0.32}
CODECS_ALONE = {"codec": 1.0}
MOST_SHRUNK = 3.0


@dataclass(frozen=True)
class Picture:
    """What a picture of the set is to be; `damage` is None for a pristine one, at severity 0."""

    content: Content
    index: int
    damage: Damage | None
    severity: float

    @property
    def name(self) -> str:
        return self.damage.name if self.damage else PRISTINE

    @property
    def kind(self) -> str:
        return self.damage.kind if self.damage else PRISTINE

    @property
    def identifier(self) -> str:
        return f"{self.content.name.replace('/', '_')}-{self.index:05d}-{self.name}-{self.severity:.3f}"


def plan_pictures(
    contents: Sequence[Content],
    count: int,
    rng: np.random.Generator,
    shares: Mapping[str, float] = SHARES,
    first: int = 0,
) -> list[Picture]:
    """`count` pictures: damages in fixed shares, spread over the contents, photographs at least half of the time.

    Their indices count up from `first`.
    """
    deck = damage_deck(count, rng, shares)
    turns = {True: _Turns(contents, rng), False: _Turns([c for c in contents if c.colourful] or contents, rng)}
    pictures = []
    for index, damage in enumerate(deck, first):
        content = turns[damage is None or not damage.needs_colour].next(index)
        pictures.append(Picture(content, index, damage, float(rng.random()) if damage else 0.0))
    return pictures


def damage_deck(count: int, rng: np.random.Generator, shares: Mapping[str, float] = SHARES) -> list[Damage | None]:
    """`count` damages, groups of them in the given shares and each of a group as often as the others, shuffled."""
    groups: dict[str, tuple[Damage | None, ...]] = {
        PRISTINE: (None,), "labelled": LABELLED_DAMAGES, "composition": (COMPOSITION,), "codec": CODECS,
        "other": OTHER_DAMAGES,
    }  # fmt: skip
    ideal = {damage: share / len(groups[name]) * count for name, share in shares.items() for damage in groups[name]}
    times = {damage: int(share) for damage, share in ideal.items()}
    by_rest = sorted(ideal, key=lambda damage: (times[damage] - ideal[damage], rng.random()))
    for damage in by_rest[: count - sum(times.values())]:
        times[damage] += 1
    deck = [damage for damage, repeats in times.items() for _ in range(repeats)]
    return [deck[i] for i in rng.permutation(len(deck))]


class _Turns:
    """Contents one after the other, each kind of content in its share."""

    def __init__(self, contents: Sequence[Content], rng: np.random.Generator) -> None:
        photographs = [content for content in contents if content.kind == "photograph"]
        scenes = [content for content in contents if content.kind != "photograph"]
        self._photographs, self._scenes = (
            [kind[i] for i in rng.permutation(len(kind))] for kind in (photographs, scenes)
        )
        self._scene_share = min(0.5, len(scenes) / len(contents)) if photographs else 1.0
        self._given = [0, 0]

    def next(self, index: int) -> Content:
        given = sum(self._given)
        scene = self._given[1] < self._scene_share * (given + 1) - 0.5 if self._photographs else True
        chosen = self._scenes if scene and self._scenes else self._photographs
        place = self._given[scene]
        self._given[scene] += 1
        return chosen[place % len(chosen)]


def crop_at_some_scale(image: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
    """A square of `size` out of the picture shrunk by 1 to 3 (as far as it is large enough), mirrored half the time.

    Smaller pictures are enlarged to `size`. Returns (size, size, 3) of 8 bits.
    """
    shorter = min(image.size)
    shrunk = np.exp(rng.uniform(0, np.log(min(MOST_SHRUNK, max(1.0, shorter / size)))))
    scale = max(size, shorter / shrunk) / shorter
    width, height = (max(size, round(side * scale)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))
    pixels = np.asarray(scaled.crop((left, top, left + size, top + size)))
    return pixels[:, ::-1].copy() if rng.random() < 0.5 else pixels


def spoil(picture: Picture, scene: Image.Image, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The pristine crop of a picture and what its damage makes of it, (size, size, 3) of 8 bits each."""
    rng = np.random.default_rng([seed, zlib.crc32(picture.content.name.encode()), picture.index])
    original = crop_at_some_scale(scene, size, rng)
    return original, picture.damage.function(original, picture.severity, rng) if picture.damage else original


def make_picture(picture: Picture, scene: Image.Image, folder: Path, size: int, seed: int) -> dict:
    """Write the picture into `folder`; its manifest row but for the label, with its `measures`."""
    original, spoiled = spoil(picture, scene, size, seed)
    path = folder / f"{picture.identifier}.png"
    Image.fromarray(spoiled).save(path, compress_level=1)
    return {
        "image": f"{folder.name}/{path.name}",
        "content": picture.content.name,
        "id": picture.identifier,
        "damage": picture.name,
        "kind": picture.kind,
        "severity": round(picture.severity, 4),
        "measures": compare(original, spoiled),
    }


def compare(original: np.ndarray, spoiled: np.ndarray) -> list[float]:
    """The full-reference measures of a picture, then what has changed: what the map to people's scores reads."""
    return [round(value, 5) for value in measure(original, spoiled) + changes(original, spoiled)]
