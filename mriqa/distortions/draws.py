"""Random numbers for distortions: drawn where the generator lives, used where the images live.

A CPU generator therefore gives the same distortion on every device. With no generator, torch's default generator of the
images' device is used. With `ImageSeeds`, each image has draws of its own, whatever else is in the batch.

Legend: B batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class ImageSeeds(torch.Generator):
    """A generator for every image of a batch: images of equal seed get equal draws, made once for all of them.

    Arguments:
        seeds: one for each of the B images.
        device: where the numbers are drawn.
    """

    def __new__(cls, seeds: Sequence[int], device: torch.device | str = "cpu") -> ImageSeeds:
        return super().__new__(cls, device)  # type: ignore[call-arg]  # torch's stub has no __new__

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu"):
        places = {seed: place for place, seed in enumerate(dict.fromkeys(seeds))}
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in places]
        self.place_B = torch.tensor([places[seed] for seed in seeds], device=device)


class Draws:
    """Random numbers (B, …) for the images of a batch, made where and when rows of them are asked for, first to last.

    So a batch that is worked on piece by piece never has all of its numbers in memory at once, and they are those that
    one call for the whole batch gives.
    """

    def __init__(self, function: Callable[..., Tensor], like: Tensor, generator: torch.Generator | None):
        self.function, self.generator = function, generator
        self.shape, self.dtype, self.device = tuple(like.shape), like.dtype, like.device
        self.drawn_on = like.device if generator is None else generator.device
        self.drawn_at_once: Tensor | None = None
        if isinstance(generator, ImageSeeds):
            self.of_each = [self._draw(1, each) for each in generator.generators]
        elif not self._follow_on():
            self.drawn_at_once = self._draw(self.shape[0], generator)

    def __getitem__(self, rows: slice) -> Tensor:
        if isinstance(self.generator, ImageSeeds):
            places = self.generator.place_B[rows].tolist()
            return self.of_each[places[0]] if len(places) == 1 else torch.cat([self.of_each[each] for each in places])
        if self.drawn_at_once is not None:
            return self.drawn_at_once[rows]
        return self._draw(len(range(*rows.indices(self.shape[0]))), self.generator)

    def _draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        shape = (count, *self.shape[1:])
        return self.function(shape, generator=generator, dtype=self.dtype, device=self.drawn_on).to(self.device)

    def _follow_on(self) -> bool:
        """Whether draws for some images and then for others are those for all: torch makes normal ones 16 at a time."""
        return self.drawn_on.type == "cpu" and math.prod(self.shape[1:]) % 16 == 0


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None, images_in: int = 0) -> Tensor:
    """Uniform on [0, 1), in the dtype and on the device of `like`; the images lie along dimension `images_in`."""
    return _draw(torch.rand, shape, like, generator, images_in)


def uniform_as(images_BCHW: Tensor, generator: torch.Generator | None) -> Draws:
    """Uniform on [0, 1), one for every value of the images."""
    return Draws(torch.rand, images_BCHW, generator)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None, images_in: int = 0) -> Tensor:
    """Standard normal, otherwise as `uniform`."""
    return _draw(torch.randn, shape, like, generator, images_in)


def normal_as(images_BCHW: Tensor, generator: torch.Generator | None) -> Draws:
    """Standard normal, one for every value of the images."""
    return Draws(torch.randn, images_BCHW, generator)


def _draw(
    function: Callable[..., Tensor],
    shape: tuple[int, ...],
    like: Tensor,
    generator: torch.Generator | None,
    images_in: int,
) -> Tensor:
    device = like.device if generator is None else generator.device
    if not isinstance(generator, ImageSeeds):
        return function(shape, generator=generator, dtype=like.dtype, device=device).to(like.device)
    single = (*shape[:images_in], 1, *shape[images_in + 1 :])
    drawn = [function(single, generator=each, dtype=like.dtype, device=device) for each in generator.generators]
    return torch.cat(drawn, dim=images_in).index_select(images_in, generator.place_B).to(like.device)
