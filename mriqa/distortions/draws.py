"""Random numbers for distortions: drawn where the generator lives, used where the images live.

A CPU generator therefore gives the same distortion on every device. With no generator, torch's default generator of the
images' device is used.
"""

import torch
from torch import Tensor


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform on [0, 1), in the dtype and on the device of `like`."""
    device = like.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal, in the dtype and on the device of `like`."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=device).to(like.device)
