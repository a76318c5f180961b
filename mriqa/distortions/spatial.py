"""Spatial distortions of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019).

Every function takes images (B, 3, H, W) in [0, 1], one parameter per image (B,) and a generator, and returns images of
the same shape and dtype in [0, 1]. Patches and blocks have KADID-10k's size in pixels (its images are 512 x 384), less
where the image is smaller. A fractional number of them means that the last one is blended in with that fraction.

Legend: B batch, C channels, H height, W width, P patches, L values of an image in one row, V the 256 8-bit
values, E the 257 edges between them, S pixels of a patch.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mriqa.distortions.draws import normal, uniform
from mriqa.distortions.pieces import in_pieces

JITTER_ROUNDS = 5
PATCH_SIDE, PATCH_REACH = 16, 8
BLOCK_SIDE = 32
ALL_VALUES = 256


def jitter(images_BCHW: Tensor, amount_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Scatter pixels: five rounds of Gaussian offsets of `amount` pixels each, bilinear; 0 is the identity."""
    batch, _, height, width = images_BCHW.shape
    upright = torch.eye(2, 3, dtype=images_BCHW.dtype, device=images_BCHW.device)[None]
    grid_BHW2 = functional.affine_grid(upright, [1, 1, height, width], align_corners=False).expand(batch, -1, -1, -1)
    pixel_2 = 2 / images_BCHW.new_tensor([width, height])
    step_B112 = amount_B[:, None, None, None] * pixel_2
    for _ in range(JITTER_ROUNDS):
        offsets_BHW2 = normal((batch, height, width, 2), images_BCHW, generator)
        images_BCHW = _scatter(images_BCHW, offsets_BHW2, step_B112, grid_BHW2)
    return images_BCHW


@in_pieces
def _scatter(images_BCHW: Tensor, offsets_BHW2: Tensor, step_B112: Tensor, grid_BHW2: Tensor) -> Tensor:
    source_BHW2 = (offsets_BHW2 * step_B112).add_(grid_BHW2)
    return functional.grid_sample(images_BCHW, source_BHW2, padding_mode="border", align_corners=False)


def non_eccentricity_patch(images_BCHW: Tensor, count_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Copy `count` patches of 16 x 16 pixels to places up to 8 pixels away in x and y; 0 is the identity."""
    _batch, _channels, height, width = images_BCHW.shape
    side_y, side_x = min(PATCH_SIDE, height), min(PATCH_SIDE, width)
    weights_BP, draws_BP4 = _plan_patches(count_B, 4, images_BCHW, generator)
    from_y_BP = (draws_BP4[..., 0] * (height - side_y)).round().long()
    from_x_BP = (draws_BP4[..., 1] * (width - side_x)).round().long()
    moves_BP2 = ((2 * draws_BP4[..., 2:] - 1) * PATCH_REACH).round().long()
    to_y_BP = (from_y_BP + moves_BP2[..., 0]).clamp(0, height - side_y)
    to_x_BP = (from_x_BP + moves_BP2[..., 1]).clamp(0, width - side_x)

    owner_BL = _owners(weights_BP, to_y_BP, to_x_BP, (side_y, side_x), (height, width))
    shift_BP = (from_y_BP - to_y_BP) * width + from_x_BP - to_x_BP
    shift_BL = functional.pad(shift_BP, (0, 1)).gather(1, owner_BL)
    source_BL = torch.arange(height * width, device=images_BCHW.device) + shift_BL
    flat_BCL = images_BCHW.flatten(2)
    moved_BCL = flat_BCL.gather(2, source_BL[:, None].expand_as(flat_BCL))
    weight_BL = functional.pad(weights_BP, (0, 1)).gather(1, owner_BL)
    return torch.lerp(flat_BCL, moved_BCL, weight_BL[:, None]).reshape_as(images_BCHW)


def pixelate(images_BCHW: Tensor, strength_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Shrink to 0.95 - strength^0.6 of the size and enlarge again, nearest neighbour both times.

    Below KADID-10k's mildest strength, 0.01, the size runs linearly from that rule to 1 at strength 0, the identity.
    """
    height, width = images_BCHW.shape[2:]
    mildest = 0.01
    slope = (0.05 + mildest**0.6) / mildest
    scale_B = torch.maximum(0.95 - strength_B**0.6, 1 - slope * strength_B)
    rows_BH, columns_BW = _nearest_through(height, scale_B), _nearest_through(width, scale_B)
    if images_BCHW.device.type == "cpu":
        plans = zip(images_BCHW.numpy(), rows_BH.numpy(), columns_BW.numpy())
        # NumPy copies columns four times as fast as torch.
        coarse = [image.take(rows, axis=1).take(columns, axis=2) for image, rows, columns in plans]
        return torch.from_numpy(np.stack(coarse))
    tall = images_BCHW.gather(2, rows_BH[:, None, :, None].expand_as(images_BCHW))
    return tall.gather(3, columns_BW[:, None, None, :].expand_as(images_BCHW))


@in_pieces
def quantization(images_BCHW: Tensor, levels_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Quantise all values to `levels` values by Otsu's criterion; 256 levels is the identity up to 8-bit rounding.

    The thresholds minimise the variance within classes exactly (dynamic programme over the 256-bin histogram of R, G
    and B together). Each class becomes its mean; KADID-10k spaces the classes evenly, which also changes contrast and
    has no identity. Level counts are rounded.
    """
    values_BL = (images_BCHW.flatten(1) * (ALL_VALUES - 1)).round().long()
    values_BL += ALL_VALUES * torch.arange(len(images_BCHW), device=images_BCHW.device)[:, None]
    counts = torch.bincount(values_BL.flatten(), minlength=ALL_VALUES * len(images_BCHW))
    histogram_BV = counts.view(-1, ALL_VALUES).double()
    table_BV = _otsu_table(histogram_BV, levels_B.round().clamp(1, ALL_VALUES).long()).to(images_BCHW)
    return (table_BV / (ALL_VALUES - 1)).flatten()[values_BL].reshape_as(images_BCHW)


def color_block(images_BCHW: Tensor, count_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Cover `count` places with blocks of 32 x 32 pixels, each of one random colour; 0 is the identity."""
    height, width = images_BCHW.shape[2:]
    side_y, side_x = min(BLOCK_SIDE, height), min(BLOCK_SIDE, width)
    weights_BP, draws_BP5 = _plan_patches(count_B, 5, images_BCHW, generator)
    top_BP = (draws_BP5[..., 0] * (height - side_y)).round().long()
    left_BP = (draws_BP5[..., 1] * (width - side_x)).round().long()
    spoiled_BCHW = images_BCHW.clone()
    plans = zip(spoiled_BCHW, draws_BP5[..., 2:, None, None], weights_BP.tolist(), top_BP.tolist(), left_BP.tolist())
    for image, colors_P311, weights, tops, lefts in plans:
        # Where blocks overlap the first is on top: the last, partial one fades in beneath without uncovering others.
        for color_311, weight, top, left in reversed(list(zip(colors_P311, weights, tops, lefts))):
            if weight > 0:
                image[:, top : top + side_y, left : left + side_x].lerp_(color_311, weight)
    return spoiled_BCHW


def _plan_patches(
    count_B: Tensor, numbers: int, like: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Weights (B, P) of the patches, 1 for the first floor(count), and uniform numbers (B, P, numbers) for each.

    Drawn patch by patch, so that from one seed a larger count adds patches to those of a smaller one.
    """
    patches = math.ceil(float(count_B.max()))
    weights_BP = (count_B[:, None] - torch.arange(patches, dtype=like.dtype, device=like.device)).clamp(0, 1)
    return weights_BP, uniform((patches, len(like), numbers), like, generator, images_in=1).transpose(0, 1)


def _owners(
    weights_BP: Tensor, top_BP: Tensor, left_BP: Tensor, sides: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """(B, H * W) number of the patch seen at each pixel, P where there is none.

    Where patches overlap the first is on top: the last, partial one then fades in beneath without uncovering others.
    """
    batch, patches = weights_BP.shape
    height, width = size
    rows = torch.arange(sides[0], device=top_BP.device)[:, None] * width
    columns = torch.arange(sides[1], device=top_BP.device)
    pixels_BPS = (top_BP * width + left_BP)[..., None] + (rows + columns).flatten()
    numbers_P = torch.arange(patches, device=top_BP.device)
    numbers_BP1 = torch.where(weights_BP > 0, numbers_P, patches)[..., None]
    owner_BL = top_BP.new_full((batch, height * width), patches)
    return owner_BL.scatter_reduce(1, pixels_BPS.flatten(1), numbers_BP1.expand_as(pixels_BPS).flatten(1), "amin")


def _nearest_through(length: int, scale_B: Tensor) -> Tensor:
    """(B, length) source position of each pixel after shrinking by `scale` and enlarging again."""
    small_B1 = (length * scale_B.double()).round().clamp(min=1)[:, None]
    centres = torch.arange(length, dtype=torch.float64, device=scale_B.device) + 0.5
    small_centres = torch.floor(centres * small_B1 / length) + 0.5
    return torch.floor(small_centres * length / small_B1).long().clamp(max=length - 1)


def _otsu_table(histogram_BV: Tensor, levels_B: Tensor) -> Tensor:
    """(B, V) mean of the class of each value, for the split into `levels` classes of least variance within classes."""
    values_V = torch.arange(ALL_VALUES, dtype=torch.float64, device=histogram_BV.device)
    moments = torch.stack([histogram_BV, histogram_BV * values_V, histogram_BV * values_V**2])
    sums_3BE = functional.pad(moments.cumsum(dim=-1), (1, 0))
    # Element [b, i, j] speaks of the class of values i .. j - 1.
    mass, first, second = sums_3BE[:, :, None, :] - sums_3BE[:, :, :, None]
    mean_BEE = first / mass.clamp(min=1)
    edges = torch.arange(ALL_VALUES + 1, device=histogram_BV.device)
    spread_BEE = (second - first * mean_BEE).masked_fill(edges[:, None] > edges, math.inf)

    # best[k - 1][b, j]: the least spread of the values below j in k classes.
    best = [spread_BEE[:, 0]]
    for _ in range(int(levels_B.max()) - 1):
        best.append((best[-1][:, :, None] + spread_BEE).amin(dim=1))

    table_BV = torch.zeros_like(histogram_BV)
    end_B1 = torch.full_like(levels_B, ALL_VALUES)[:, None]
    images_B1 = torch.arange(len(levels_B), device=levels_B.device)[:, None]
    for level in range(int(levels_B.max()), 0, -1):
        into_BE = spread_BEE[images_B1[:, 0], :, end_B1[:, 0]]
        start_B1 = (best[level - 2] + into_BE).argmin(dim=1, keepdim=True) if level > 1 else torch.zeros_like(end_B1)
        start_B1 = torch.where(level <= levels_B[:, None], start_B1, end_B1)
        inside_BV = (values_V >= start_B1) & (values_V < end_B1)
        table_BV = torch.where(inside_BV, mean_BEE[images_B1, start_B1, end_B1], table_BV)
        end_B1 = start_B1
    return table_BV
