"""Noise distortions of KADID-10k (Lin, Hosu, Saupe, QoMEX 2019).

Every function takes images (B, 3, H, W) in [0, 1], one parameter per image (B,) and a generator, and returns images of
the same shape and dtype in [0, 1]. Variances are on the [0, 1] scale and 0 is the identity.

Legend: B batch, C channels, H height, W width, S pixels of a block, F frequencies, L blocks.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from mriqa.distortions.color_spaces import rgb_to_ycbcr, ycbcr_to_rgb
from mriqa.distortions.draws import normal_as, uniform_as
from mriqa.distortions.pieces import in_pieces


def white_noise(images_BCHW: Tensor, variance_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add Gaussian noise to R, G and B."""
    return _add(images_BCHW, normal_as(images_BCHW, generator), variance_B)


def white_noise_color_component(
    images_BCHW: Tensor, variance_B: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Add Gaussian noise to Y, Cb and Cr (studio range over 255)."""
    return _add_to_ycbcr(images_BCHW, normal_as(images_BCHW, generator), variance_B)


def impulse_noise(images_BCHW: Tensor, density_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Salt and pepper: each value of each channel becomes 0 or 1, with probability density / 2 each."""
    return _replace(images_BCHW, uniform_as(images_BCHW, generator), density_B)


def multiplicative_noise(images_BCHW: Tensor, variance_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Speckle: multiply each value by 1 + n, n uniform with mean 0 and the given variance, as MATLAB's imnoise does."""
    return _multiply(images_BCHW, uniform_as(images_BCHW, generator), variance_B)


def denoise(images_BCHW: Tensor, variance_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add Gaussian noise, then remove it channel by channel, which leaves a smooth image with remnants of noise.

    KADID-10k removes it with the network DnCNN. Here 8 x 8 blocks, on two grids half a block apart, are thresholded at
    three standard deviations in the DCT domain (Yu and Sapiro, "DCT image denoising", IPOL 2011), so the ratings do
    not carry over.
    """
    noise = normal_as(images_BCHW, generator)
    return _clean(_add(images_BCHW, noise, variance_B), variance_B)


@in_pieces
def _add(images_BCHW: Tensor, noise_BCHW: Tensor, variance_B: Tensor) -> Tensor:
    return (noise_BCHW * variance_B.sqrt()[:, None, None, None]).add_(images_BCHW)


@in_pieces
def _add_to_ycbcr(images_BCHW: Tensor, noise_BCHW: Tensor, variance_B: Tensor) -> Tensor:
    added = noise_BCHW * variance_B.sqrt()[:, None, None, None]
    return ycbcr_to_rgb(added.add_(rgb_to_ycbcr(images_BCHW)))


@in_pieces
def _replace(images_BCHW: Tensor, draws_BCHW: Tensor, density_B: Tensor) -> Tensor:
    # As numbers, 0 or 1, and not as masks, for which torch has slower loops.
    density = density_B[:, None, None, None]
    is_salt, is_noise = draws_BCHW.clone().ge_(density / 2), draws_BCHW.clone().lt_(density)
    return torch.lerp(images_BCHW, is_salt, is_noise)


@in_pieces
def _multiply(images_BCHW: Tensor, draws_BCHW: Tensor, variance_B: Tensor) -> Tensor:
    factors = (draws_BCHW - 0.5).mul_((12 * variance_B).sqrt()[:, None, None, None]).add_(1)
    return factors.mul_(images_BCHW)


@in_pieces
def _clean(noisy_BCHW: Tensor, variance_B: Tensor) -> Tensor:
    height, width = noisy_BCHW.shape[2:]
    side, grids = 8, (0, 4)
    # A margin of one block all round, and then up to whole blocks, so that every grid of blocks covers the image.
    margins = (side, side + -width % side, side, side + -height % side)
    padded = functional.pad(noisy_BCHW, margins, mode="replicate")
    rows, columns = padded.shape[2] - side, padded.shape[3] - side
    basis_FS = _dct_basis(side, noisy_BCHW)
    threshold_B111 = 3 * variance_B.sqrt()[:, None, None, None]
    total = torch.zeros_like(padded)
    for start in grids:
        window = (..., slice(start, start + rows), slice(start, start + columns))
        blocks_BCSL = functional.pixel_unshuffle(padded[window], side).unflatten(1, (-1, side * side)).flatten(3)
        spectra_BCFL = basis_FS @ blocks_BCSL
        spectra_BCFL *= spectra_BCFL.abs() >= threshold_B111
        clean_BCSL = basis_FS.T @ spectra_BCFL
        clean = clean_BCSL.flatten(1, 2).unflatten(2, (rows // side, columns // side))
        total[window] += functional.pixel_shuffle(clean, side)
    return total[..., side : side + height, side : side + width] / len(grids)


def _dct_basis(side: int, like: Tensor) -> Tensor:
    """(side², side²) orthonormal two-dimensional DCT-II, frequencies by pixels of a block, both in row order."""
    steps = torch.arange(side, dtype=like.dtype, device=like.device)
    waves = torch.cos(math.pi / side * (steps + 0.5) * steps[:, None]) * math.sqrt(2 / side)
    waves[0] /= math.sqrt(2)
    return torch.kron(waves, waves)
