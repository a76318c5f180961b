"""The 25 distortions of KADID-10k by name, and `distort`, which applies one to a batch at a continuous severity.

Legend: B batch, C channels, H height, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mriqa.distortions import blur, brightness, color, compression, noise, sharpness_contrast, spatial
from mriqa.distortions.levels import IDENTITY, LABELLED, NAMES, check_name, level_tables, parameter

DistortionFunction = Callable[[Tensor, Tensor, torch.Generator | None], Tensor]


@dataclass(frozen=True)
class Distortion:
    """One distortion: `function(images_BCHW, parameter_B, generator)` does not change its input.

    Attributes:
        name: as in KADID-10k's list.
        category: blur, color, compression, noise, brightness, spatial or sharpness_contrast.
        function: (B, 3, H, W) in [0, 1] to the same shape, dtype and range, in the distortion's own parameter.
        identity: the parameter that leaves an image as it is.
        has_labels: whether KADID-10k's human scores hold for it.
    """

    name: str
    category: str
    function: DistortionFunction
    identity: float
    has_labels: bool


def _named(name: str) -> Distortion:
    category = level_tables()[name].category
    modules = (blur, brightness, color, compression, noise, sharpness_contrast, spatial)
    module = next(module for module in modules if module.__name__.endswith(f".{category}"))
    return Distortion(name, category, getattr(module, name), IDENTITY[name], name in LABELLED)


DISTORTIONS: dict[str, Distortion] = {name: _named(name) for name in NAMES}


def distort(
    images_BCHW: Tensor, name: str, severity: float | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Distort a batch of images.

    Args:
        images_BCHW: (B, 3, H, W) floats in [0, 1], on any device; left unchanged.
        name: a key of `DISTORTIONS`.
        severity: one number or (B,) numbers in [0, 1]; 0 is undistorted, k / 5 is level k of KADID-10k.
        generator: source of randomness, on the CPU or the images' device; torch's default generator if None.

    Returns:
        (B, 3, H, W) in [0, 1], same dtype and device. Unless the distortion is random, each image's result is
        independent of the others in the batch.

    Raises:
        ValueError: unknown name; images of the wrong type, shape or range; severities outside [0, 1], too many or few.
    """
    check_name(name)
    _check_images(images_BCHW)
    # Half precision lacks filters on the CPU and would lose noise of small variance.
    working_BCHW = images_BCHW if images_BCHW.dtype == torch.float64 else images_BCHW.float()
    severity_B = torch.as_tensor(severity, dtype=working_BCHW.dtype, device=images_BCHW.device)
    if severity_B.ndim == 0:
        severity_B = severity_B.expand(len(images_BCHW))
    if severity_B.shape != images_BCHW.shape[:1]:
        raise ValueError(
            f"Give one severity, or one for each of the {len(images_BCHW)} images, not shape {tuple(severity_B.shape)}."
        )
    return DISTORTIONS[name].function(working_BCHW, parameter(name, severity_B), generator).to(images_BCHW.dtype)


def _check_images(images_BCHW: Tensor) -> None:
    if not isinstance(images_BCHW, Tensor) or not images_BCHW.is_floating_point():
        kind = images_BCHW.dtype if isinstance(images_BCHW, Tensor) else type(images_BCHW).__name__
        raise ValueError(f"Images must be a floating-point tensor in [0, 1] (divide 8-bit values by 255), not {kind}.")
    if images_BCHW.ndim != 4 or images_BCHW.shape[1] != 3 or images_BCHW.numel() == 0:
        raise ValueError(f"Images must have the shape (B, 3, H, W), none of them 0, not {tuple(images_BCHW.shape)}.")
    low, high = (float(bound) for bound in images_BCHW.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"Image values must lie in [0, 1], but range from {low:g} to {high:g}.")
