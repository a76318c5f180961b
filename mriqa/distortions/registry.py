"""The distortions by name, and `distort`, which applies one to a batch at a continuous severity.

A new distortion is a function in the file of its kind and an entry in the table; or, from outside the package, a
`Distortion` that is handed to `register`.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import difflib

import torch
from torch import Tensor

from mriqa.distortions import blur, brightness, color, compression, noise, sharpness_contrast, spatial
from mriqa.distortions.distortion import Distortion, DistortionError, DistortionFunction
from mriqa.distortions.imagenet_c import CORRUPTIONS
from mriqa.distortions.levels import level_tables


def _kadid(function: DistortionFunction, identity: float, levels: tuple[float, ...] = ()) -> Distortion:
    """A distortion of KADID-10k, its category, levels and ratings out of the published table.

    Levels of its own stand for those that the table leaves open, and are as in KADID-10k's published generator. Those
    carry no ratings: two of these distortions are made another way here, and two are signed, so that they do not grow
    with the level.
    """
    name = function.__name__
    row = level_tables()[name]
    return Distortion(name, row.category, function, identity, levels or row.parameters, None if levels else row.ratings)


TABLE = (
    _kadid(blur.gaussian_blur, identity=0.0),
    _kadid(blur.lens_blur, identity=0.0),
    _kadid(blur.motion_blur, identity=1.0),
    _kadid(color.color_diffusion, identity=0.0),
    _kadid(color.color_shift, identity=0.0),
    _kadid(color.color_quantization, identity=256.0, levels=(64.0, 48.0, 32.0, 16.0, 8.0)),
    _kadid(color.color_saturation_hsv, identity=1.0),
    _kadid(color.color_saturation_lab, identity=1.0),
    _kadid(compression.jpeg2000, identity=1.0),
    _kadid(compression.jpeg, identity=100.0),
    _kadid(noise.white_noise, identity=0.0),
    _kadid(noise.white_noise_color_component, identity=0.0),
    _kadid(noise.impulse_noise, identity=0.0),
    _kadid(noise.multiplicative_noise, identity=0.0),
    _kadid(noise.denoise, identity=0.0, levels=(0.01, 0.03, 0.05, 0.1, 0.15)),
    _kadid(brightness.brighten, identity=0.0),
    _kadid(brightness.darken, identity=0.0),
    _kadid(brightness.mean_shift, identity=0.0, levels=(0.15, 0.08, 0.0, -0.08, -0.15)),
    _kadid(spatial.jitter, identity=0.0),
    _kadid(spatial.non_eccentricity_patch, identity=0.0),
    _kadid(spatial.pixelate, identity=0.0),
    _kadid(spatial.quantization, identity=256.0),
    _kadid(spatial.color_block, identity=0.0),
    _kadid(sharpness_contrast.high_sharpen, identity=0.0),
    _kadid(sharpness_contrast.contrast_change, identity=-0.2, levels=(0.3, 0.15, 0.0, -0.4, -0.6)),
    # Outside KADID-10k: one sign each of its two signed distortions, so that they grow with the level, and ARNIQA's
    # non-linear contrast. The published levels of `contrast_down` pass through the identity; here they go away from it.
    Distortion("mean_shift_up", "brightness", brightness.mean_shift_up, 0.0, (0.0, 0.08, 0.115, 0.15, 0.185)),
    Distortion("mean_shift_down", "brightness", brightness.mean_shift_down, 0.0, (0.0, 0.08, 0.115, 0.15, 0.185)),
    Distortion(
        "contrast_up", "sharpness_contrast", sharpness_contrast.contrast_up, -0.2, (0.0, 0.15, 0.3, 0.4, 0.6)
    ),
    Distortion(
        "contrast_down", "sharpness_contrast", sharpness_contrast.contrast_down, -0.2, (-0.2, -0.3, -0.4, -0.5, -0.6)
    ),
    Distortion(
        "nonlinear_contrast", "sharpness_contrast", sharpness_contrast.nonlinear_contrast, 0.5,
        (0.4, 0.3, 0.2, 0.1, 0.05),
    ),
)  # fmt: skip

DISTORTIONS: dict[str, Distortion] = {distortion.name: distortion for distortion in (*TABLE, *CORRUPTIONS)}
NAMES: tuple[str, ...] = tuple(name for name in DISTORTIONS if name in level_tables())
"""The 25 of KADID-10k."""
LABELLED: tuple[str, ...] = tuple(name for name in NAMES if DISTORTIONS[name].has_labels)
"""Those of KADID-10k for which its human scores hold."""


def register(distortion: Distortion) -> None:
    """Let a distortion from outside this table be called by its name, in this process.

    Raises:
        DistortionError: the name is taken.
    """
    if distortion.name in DISTORTIONS:
        raise DistortionError(f"There is a distortion {distortion.name!r} already; give yours another name.")
    DISTORTIONS[distortion.name] = distortion


def find(name: str) -> Distortion:
    """The distortion of that name. Raises DistortionError, naming near matches, for an unknown one."""
    if name not in DISTORTIONS:
        near = difflib.get_close_matches(str(name), DISTORTIONS, n=3, cutoff=0.4) or DISTORTIONS
        raise DistortionError(f"There is no distortion {name!r}; did you mean {', '.join(near)}?")
    return DISTORTIONS[name]


def find_labelled(name: str) -> Distortion:
    """The distortion of that name. Raises DistortionError for an unknown one, and one without human scores."""
    distortion = find(name)
    if not distortion.has_labels:
        labelled = [other.name for other in DISTORTIONS.values() if other.has_labels]
        raise DistortionError(f"The distortion {name!r} carries no human scores; those that do are "
                              f"{', '.join(labelled)}.")  # fmt: skip
    return distortion


def parameter(name: str, severity_B: Tensor) -> Tensor:
    """The distortion's own parameter (B,) for severities (B,) in [0, 1], interpolated linearly between levels.

    Raises:
        DistortionError: unknown distortion, or a severity outside [0, 1].
    """
    return find(name).parameter(severity_B)


def mean_mos(name: str, severity: float) -> float:
    """Mean human score (1 to 5, higher is better) at a severity from level 1 (0.2 in KADID-10k) to 1, linear between.

    Raises:
        DistortionError: unknown distortion, one that carries no human scores, or a severity outside.
    """
    return find_labelled(name).mean_mos(severity)


def rater_std(name: str, severity: float) -> float:
    """Mean standard deviation between raters; otherwise as `mean_mos`."""
    return find_labelled(name).rater_std(severity)


@torch.no_grad()
def distort(
    images_BCHW: Tensor, name: str, severity: float | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Distort a batch of images.

    Args:
        images_BCHW: (B, 3, H, W) floats in [0, 1], on any device; left unchanged. No gradient reaches them.
        name: a key of `DISTORTIONS`.
        severity: one number or (B,) numbers in [0, 1]; 0 is undistorted, k / 5 is level k of KADID-10k.
        generator: source of randomness, on the CPU or the images' device; torch's default generator if None.

    Returns:
        (B, 3, H, W) in [0, 1], same dtype and device. Unless the distortion is random, each image's result is
        independent of the others in the batch.

    Raises:
        DistortionError: unknown name; images of the wrong type, shape or range; severities outside [0, 1], too many or
            few.
    """
    distortion = find(name)
    _check_images(images_BCHW)
    # Half precision lacks filters on the CPU and would lose noise of small variance.
    working_BCHW = (images_BCHW if images_BCHW.dtype == torch.float64 else images_BCHW.float()).contiguous()
    severity_B = torch.as_tensor(severity, dtype=working_BCHW.dtype, device=images_BCHW.device)
    if severity_B.ndim == 0:
        severity_B = severity_B.expand(len(images_BCHW))
    if severity_B.shape != images_BCHW.shape[:1]:
        raise DistortionError(
            f"Give one severity, or one for each of the {len(images_BCHW)} images, not shape {tuple(severity_B.shape)}."
        )
    return distortion.function(working_BCHW, distortion.parameter(severity_B), generator).to(images_BCHW.dtype)


def _check_images(images_BCHW: Tensor) -> None:
    if not isinstance(images_BCHW, Tensor) or not images_BCHW.is_floating_point():
        kind = images_BCHW.dtype if isinstance(images_BCHW, Tensor) else type(images_BCHW).__name__
        raise DistortionError(
            f"Images must be a floating-point tensor in [0, 1] (divide 8-bit values by 255), not {kind}."
        )
    if images_BCHW.ndim != 4 or images_BCHW.shape[1] != 3 or images_BCHW.numel() == 0:
        raise DistortionError(
            f"Images must have the shape (B, 3, H, W), none of them 0, not {tuple(images_BCHW.shape)}."
        )
    low, high = (float(bound) for bound in images_BCHW.aminmax())
    if not (low >= 0 and high <= 1):
        raise DistortionError(f"Image values must lie in [0, 1], but range from {low:g} to {high:g}.")
