"""Colour distortions of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019).

Every function takes images (B, 3, H, W) in [0, 1], one parameter per image (B,) and a generator, and returns images of
the same shape and dtype in [0, 1]. Legend: B batch, C channels, H height, W width, N values.
"""

import math

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mriqa.distortions.color_spaces import lab_to_rgb, rgb_to_gray, rgb_to_lab
from mriqa.distortions.draws import uniform
from mriqa.distortions.eight_bits import through_pictures
from mriqa.distortions.filters import gaussian_smooth
from mriqa.distortions.pieces import in_pieces

ALL_COLORS = 256


@in_pieces
def color_diffusion(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Blur a* and b* with sigma = 1.5 amount + 2 pixels and multiply them by the amount; lightness is kept.

    KADID-10k starts at amount 1. Below it the factor stays 1 and sigma = 3.5 amount, which meets the rule above at 1
    and the identity at 0.
    """
    sigma_B = torch.minimum(1.5 * amount_B + 2, 3.5 * amount_B)
    lab = rgb_to_lab(images_BCHW)
    lab[:, 1:] = gaussian_smooth(lab[:, 1:], sigma_B).mul_(_per_image(amount_B.clamp(min=1)))
    return lab_to_rgb(lab)


def color_shift(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Move the green channel by `amount` pixels in a random direction, where the image has edges; 0 is the identity.

    The moved channel is blended in with the smoothed gradient magnitude as weight. KADID-10k rounds the move to whole
    pixels; here it is bilinear, hence continuous in the amount.
    """
    angle_B = 2 * math.pi * uniform((len(images_BCHW),), images_BCHW, generator)
    return _shift_green(images_BCHW, amount_B * angle_B.cos(), amount_B * angle_B.sin())


def color_quantization(images_BCHW: Tensor, colors_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Reduce each image to a palette of its own, with Floyd-Steinberg dithering; 256 colours or more is the identity.

    The palette comes from Pillow's octree, standing in for MATLAB's minimum variance quantisation, so the ratings do
    not carry over. Colour counts are rounded.
    """
    return through_pictures(images_BCHW, _reduce_palette, colors_B, colors_B < ALL_COLORS)


@in_pieces
def color_saturation_hsv(images_BCHW: Tensor, factor_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Multiply the saturation of HSV; 1 is the identity, 0 grey, negative the complementary hue.

    At fixed hue and value V, V - rgb is proportional to saturation, so no conversion is needed.
    """
    value = images_BCHW.amax(dim=1, keepdim=True)
    below_BCHW = (value - images_BCHW).mul_(_per_image(factor_B))
    return torch.sub(value, below_BCHW, out=below_BCHW)


@in_pieces
def color_saturation_lab(images_BCHW: Tensor, factor_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Multiply a* and b* of L*a*b*; 1 is the identity."""
    lab = rgb_to_lab(images_BCHW)
    lab[:, 1:] *= _per_image(factor_B)
    return lab_to_rgb(lab)


@in_pieces
def _shift_green(images_BCHW: Tensor, right_B: Tensor, down_B: Tensor) -> Tensor:
    green = images_BCHW[:, 1:2]
    shifted_BCHW = images_BCHW.clone()
    shifted_BCHW[:, 1:2] = torch.lerp(green, _translate(green, right_B, down_B), _edge_mask(images_BCHW))
    return shifted_BCHW


def _edge_mask(images_BCHW: Tensor) -> Tensor:
    """(B, 1, H, W) gradient magnitude smoothed with sigma 4, its 1st to 99th percentile stretched to [0, 1]."""
    gray = functional.pad(rgb_to_gray(images_BCHW), (1, 1, 1, 1), mode="replicate")
    slope_x = gray[..., 1:-1, 2:] - gray[..., 1:-1, :-2]
    slope_y = gray[..., 2:, 1:-1] - gray[..., :-2, 1:-1]
    edges = gaussian_smooth(torch.hypot(slope_x, slope_y), images_BCHW.new_full((len(images_BCHW),), 4.0))
    # The mask is smooth, so every fourth pixel is enough for its percentiles and saves most of the sorting.
    ordered = edges[..., ::4, ::4].flatten(1).sort(dim=1).values
    low, high = (_per_image(_quantile(ordered, share)) for share in (0.01, 0.99))
    return edges.sub_(low).div_((high - low).clamp_(min=1e-6)).clamp_(0, 1)


def _quantile(ordered_BN: Tensor, share: float) -> Tensor:
    last = ordered_BN.shape[1] - 1
    below = int(share * last)
    return torch.lerp(ordered_BN[:, below], ordered_BN[:, min(below + 1, last)], share * last - below)


def _translate(images_BCHW: Tensor, right_B: Tensor, down_B: Tensor) -> Tensor:
    """Move images by a real number of pixels, bilinear, edges replicated."""
    height, width = images_BCHW.shape[2:]
    reach = 1 + int(torch.maximum(right_B.abs(), down_B.abs()).max())
    padded_BCHW = functional.pad(images_BCHW, (reach,) * 4, mode="replicate")
    moved = []
    for image, right, down in zip(padded_BCHW, right_B.tolist(), down_B.tolist(), strict=True):
        left, top = math.floor(reach - right), math.floor(reach - down)
        window = image[:, top : top + height + 1, left : left + width + 1]
        rows = torch.lerp(window[:, :-1], window[:, 1:], reach - down - top)
        moved.append(torch.lerp(rows[..., :-1], rows[..., 1:], reach - right - left))
    return torch.stack(moved)


def _reduce_palette(picture: Image.Image, colors: float) -> Image.Image:
    # Median cut takes ten times as long and serves rare colours worse.
    palette = picture.quantize(max(round(colors), 1), method=Image.Quantize.FASTOCTREE)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _per_image(values_B: Tensor) -> Tensor:
    return values_B[:, None, None, None]
