"""Tiny-batches out of a pool of pristine pictures: crops of R references, their compositions and distorted images.

Everything in a tiny-batch follows from the seed and its number, so neither workers, nor processes, nor a run that was
killed and goes on change what is learned from.

Legend: R references, C groups, L levels, B tiny-batches, N images of a batch, H W pixels of a crop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mriqa.embedded.contents import IMAGE_SUFFIXES, wheel_photographs
from mriqa.images import ImageError, load_image
from mriqa.manifest.formats import SUFFIXES, stream_records
from mriqa.pretrain.compositions import Compositions, CompositionSettings, draw_compositions, stacked
from mriqa.pretrain.graphs.layout import Layout, PretrainError
from mriqa.pretrain.trajectories import distorted_images
from mriqa.views import enlarged

WHEELS = "wheels"
IMAGE_KEYS = ("image", "image_path", "path")


def find_pictures(sources: Iterable[str | Path]) -> list[Path]:
    """Files of a pool, each once: of folders, all pictures below them; of manifests, their images; or single files.

    `wheels` stands for the photographs that come with installed packages. Files are not opened here.

    Raises:
        PretrainError: a source that is not there, or no picture at all.
        ManifestError: a manifest that cannot be read.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if str(source) == WHEELS:
            own = [content.source for content in wheel_photographs() if isinstance(content.source, Path)]
        elif path.is_dir():
            own = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        elif path.suffix.lower() in SUFFIXES:
            own = [_image_of(record.row, path, record.line) for record in stream_records(path)]
        elif path.is_file():
            own = [path]
        else:
            raise PretrainError(f"There is no folder, manifest or picture {source} to learn from.")
        found |= dict.fromkeys(own)
    if not found:
        raise PretrainError("There are no pictures to learn from: name folders or manifests with --images.")
    return list(found)


def _image_of(row: object, manifest: Path, line: int) -> Path:
    values = [row[key] for key in IMAGE_KEYS if row.get(key)] if isinstance(row, dict) else []
    if not values:
        raise PretrainError(f"{manifest} line {line} names no image (none of the keys {', '.join(IMAGE_KEYS)}).")
    return manifest.parent / str(values[0])


@dataclass(frozen=True)
class TinyBatchSettings:
    """What a tiny-batch is.

    Attributes:
        references: R, different pictures where the pool has enough of them.
        crop: side in pixels of the one square crop of each, at a random place; smaller pictures are enlarged to it.
        half_scale: show each reference a second time, cropped from the picture at half its size; R counts twice then.
        compositions: how its distortions are drawn.
        distorted: make the distorted images along with it, in the loader's workers; else they are made later.
        seed: of everything random.
    """

    references: int = 3
    crop: int = 224
    half_scale: bool = False
    compositions: CompositionSettings = field(default_factory=CompositionSettings)
    distorted: bool = True
    seed: int = 0

    @property
    def views(self) -> int:
        """References as the graphs count them: twice as many with `half_scale`."""
        return self.references * (2 if self.half_scale else 1)

    def layout(self, tiny_batches: int) -> Layout:
        """The layout of a batch of so many."""
        return Layout(tiny_batches, self.views, self.compositions.groups, self.compositions.levels)


@dataclass(frozen=True)
class TinyBatch:
    """References (R, 3, H, W) in [0, 1], what is done to them, the result (R, C, L, 3, H, W) where it is made already,
    and what pictures were left out because they could not be read, each with the reason."""

    references: Tensor
    compositions: Compositions
    distorted: Tensor | None
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """B tiny-batches, as `TinyBatch` with a first dimension B."""

    references: Tensor
    compositions: Compositions
    distorted: Tensor | None
    skipped: tuple[str, ...]

    def images(self, device: torch.device | str = "cpu") -> Tensor:
        """(N, 3, H, W) in the order of the layout, distorted on the device where that has not been done yet."""
        references = self.references.to(device, non_blocking=True)
        if self.distorted is None:
            parts = [distorted_images(own, self.compositions.of(i)) for i, own in enumerate(references)]
            distorted = torch.stack(parts)
        else:
            distorted = self.distorted.to(device, non_blocking=True)
        return torch.cat([references.flatten(0, 1), distorted.flatten(0, 3)])

    def pin_memory(self) -> Batch:
        """For the loader: host memory from which an accelerator copies at once."""
        distorted = None if self.distorted is None else self.distorted.pin_memory()
        return Batch(self.references.pin_memory(), self.compositions, distorted, self.skipped)


def collate(tiny_batches: Sequence[TinyBatch]) -> Batch:
    """A batch of several tiny-batches."""
    made = [each.distorted for each in tiny_batches if each.distorted is not None]
    return Batch(
        torch.stack([each.references for each in tiny_batches]),
        stacked([each.compositions for each in tiny_batches]),
        torch.stack(made) if made else None,
        tuple(reason for each in tiny_batches for reason in each.skipped),
    )


class TinyBatches(Dataset[TinyBatch]):
    """Tiny-batches by number, without end: each picture is the first reference once in as many as there are pictures.

    Raises:
        PretrainError: a size that cannot be, or, while drawing, not one picture that can be read.
    """

    def __init__(self, pool: Sequence[Path], settings: TinyBatchSettings):
        settings.layout(1)  # refuses sizes below 1
        if settings.crop < 32:
            raise PretrainError(f"Crops must have a side of at least 32 pixels, not {settings.crop}.")
        if not pool:
            raise PretrainError("There are no pictures to learn from.")
        self.pool, self.settings = list(pool), settings
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, number: int) -> TinyBatch:
        settings = self.settings
        generator = torch.Generator().manual_seed(seed_of(settings.seed, 1, number))
        skipped: list[str] = []
        pictures = [self._open(place, skipped) for place in self._places(number, generator)]
        views = [_crop(picture, settings.crop, generator) for picture in pictures]
        if settings.half_scale:
            views += [_crop(_half(picture), settings.crop, generator) for picture in pictures]
        compositions = draw_compositions(settings.compositions, settings.views, generator)
        references = torch.stack(views)
        distorted = distorted_images(references, compositions) if settings.distorted else None
        return TinyBatch(references, compositions, distorted, tuple(skipped))

    def _places(self, number: int, generator: torch.Generator) -> list[int]:
        """R places in the pool: the number's own, then others, no place twice while the pool lasts."""
        size = len(self.pool)
        epoch, index = divmod(number, size)
        if self._order[0] != epoch:
            shuffled = torch.Generator().manual_seed(seed_of(self.settings.seed, 0, epoch))
            self._order = (epoch, torch.randperm(size, generator=shuffled).tolist())
        first = self._order[1][index]
        others = torch.randperm(size - 1, generator=generator)[: self.settings.references - 1].tolist()
        places = [first, *((first + 1 + other) % size for other in others)]
        return [places[each % len(places)] for each in range(self.settings.references)]

    def _open(self, place: int, skipped: list[str]) -> Image.Image:
        """The picture there, or the next after it that can be read."""
        for step in range(len(self.pool)):
            path = self.pool[(place + step) % len(self.pool)]
            try:
                return load_image(path)
            except ImageError as error:
                skipped.append(str(error))
        raise PretrainError(f"None of the {len(self.pool)} pictures can be read; of the first, {skipped[0]}")


def seed_of(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _half(picture: Image.Image) -> Image.Image:
    """At half its size, sides rounded down."""
    size = (max(1, picture.width // 2), max(1, picture.height // 2))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _crop(picture: Image.Image, side: int, generator: torch.Generator) -> Tensor:
    """(3, side, side) in [0, 1] at a random place, the last one included."""
    picture = enlarged(picture, side)
    left, top = (int(torch.randint(length - side + 1, (), generator=generator)) for length in picture.size)
    return pixels(picture.crop((left, top, left + side, top + side)))


def pixels(picture: Image.Image) -> Tensor:
    """(3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
