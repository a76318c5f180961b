"""Colour distortions of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019).

Every function takes images (B, 3, H, W) in [0, 1], one parameter per image (B,) and a generator, and returns images of
the same shape and dtype in [0, 1]. Legend: B batch, C channels, H height, W width.
"""

import math

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mriqa.distortions.color_spaces import lab_to_rgb, rgb_to_gray, rgb_to_lab
from mriqa.distortions.draws import uniform
from mriqa.distortions.filters import gaussian_smooth

ALL_COLORS = 256


def color_diffusion(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Blur a* and b* with sigma = 1.5 amount + 2 pixels and multiply them by the amount; lightness is kept.

    KADID-10k starts at amount 1. Below it the factor stays 1 and sigma = 3.5 amount, which meets the rule above at 1
    and the identity at 0.
    """
    sigma_B = torch.minimum(1.5 * amount_B + 2, 3.5 * amount_B)
    lab = rgb_to_lab(images_BCHW)
    chroma = gaussian_smooth(lab[:, 1:], sigma_B) * _per_image(amount_B.clamp(min=1))
    return lab_to_rgb(torch.cat([lab[:, :1], chroma], dim=1)).clamp(0, 1)


def color_shift(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Move the green channel by `amount` pixels in a random direction, where the image has edges; 0 is the identity.

    The moved channel is blended in with the smoothed gradient magnitude as weight. KADID-10k rounds the move to whole
    pixels; here it is bilinear, hence continuous in the amount.
    """
    angle_B = 2 * math.pi * uniform((len(images_BCHW),), images_BCHW, generator)
    green = images_BCHW[:, 1:2]
    moved = _translate(green, amount_B * angle_B.cos(), amount_B * angle_B.sin())
    blended = torch.lerp(green, moved, _edge_mask(images_BCHW))
    return torch.cat([images_BCHW[:, :1], blended, images_BCHW[:, 2:]], dim=1).clamp(0, 1)


def color_quantization(images_BCHW: Tensor, colors_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Reduce each image to a palette of its own, with Floyd-Steinberg dithering; 256 colours or more is the identity.

    The palette comes from Pillow's octree, standing in for MATLAB's minimum variance quantisation, so the ratings do
    not carry over. Colour counts are rounded.
    """
    return torch.stack(
        [
            image if colors >= ALL_COLORS else _reduce_palette(image, max(round(colors), 1))
            for image, colors in zip(images_BCHW, colors_B.tolist(), strict=True)
        ]
    )


def color_saturation_hsv(images_BCHW: Tensor, factor_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Multiply the saturation of HSV; 1 is the identity, 0 grey, negative the complementary hue.

    At fixed hue and value V, V - rgb is proportional to saturation, so no conversion is needed.
    """
    value = images_BCHW.amax(dim=1, keepdim=True)
    return (value - _per_image(factor_B) * (value - images_BCHW)).clamp(0, 1)


def color_saturation_lab(images_BCHW: Tensor, factor_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Multiply a* and b* of L*a*b*; 1 is the identity."""
    lab = rgb_to_lab(images_BCHW)
    return lab_to_rgb(torch.cat([lab[:, :1], lab[:, 1:] * _per_image(factor_B)], dim=1)).clamp(0, 1)


def _edge_mask(images_BCHW: Tensor) -> Tensor:
    """(B, 1, H, W) gradient magnitude smoothed with sigma 4, its 1st to 99th percentile stretched to [0, 1]."""
    gray = functional.pad(rgb_to_gray(images_BCHW), (1, 1, 1, 1), mode="replicate")
    slope_x = gray[..., 1:-1, 2:] - gray[..., 1:-1, :-2]
    slope_y = gray[..., 2:, 1:-1] - gray[..., :-2, 1:-1]
    edges = gaussian_smooth(torch.hypot(slope_x, slope_y), images_BCHW.new_full((len(images_BCHW),), 4.0))
    # The mask is smooth, so every fourth pixel is enough for its percentiles and saves most of the sorting.
    sample = edges[..., ::4, ::4].flatten(1)
    low, high = torch.quantile(sample, sample.new_tensor([0.01, 0.99]), dim=1)
    low, high = _per_image(low), _per_image(high)
    return ((edges - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


def _translate(images_BCHW: Tensor, right_B: Tensor, down_B: Tensor) -> Tensor:
    """Move images by a real number of pixels, bilinear, edges replicated."""
    height, width = images_BCHW.shape[2:]
    theta = images_BCHW.new_zeros(len(images_BCHW), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    theta[:, 0, 2] = -2 * right_B / width
    theta[:, 1, 2] = -2 * down_B / height
    grid = functional.affine_grid(theta, list(images_BCHW.shape), align_corners=False)
    return functional.grid_sample(images_BCHW, grid, padding_mode="border", align_corners=False)


def _reduce_palette(image_CHW: Tensor, colors: int) -> Tensor:
    pixels = (image_CHW.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
    image = Image.fromarray(pixels)
    # Median cut takes ten times as long and serves rare colours worse.
    palette = image.quantize(colors, method=Image.Quantize.FASTOCTREE)
    reduced = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")
    return torch.from_numpy(numpy.array(reduced)).permute(2, 0, 1).to(image_CHW) / 255


def _per_image(values_B: Tensor) -> Tensor:
    return values_B[:, None, None, None]
