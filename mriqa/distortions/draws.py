"""Random numbers for distortions: drawn where the generator lives, used where the images live.

A CPU generator therefore gives the same distortion on every device. With no generator, torch's default generator of the
images' device is used. With `ImageSeeds`, each image has draws of its own, whatever else is in the batch.

Legend: B batch.
"""

from __future__ import annotations

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


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None, images_in: int = 0) -> Tensor:
    """Uniform on [0, 1), in the dtype and on the device of `like`; the images lie along dimension `images_in`."""
    return _draw(torch.rand, shape, like, generator, images_in)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None, images_in: int = 0) -> Tensor:
    """Standard normal, otherwise as `uniform`."""
    return _draw(torch.randn, shape, like, generator, images_in)


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
