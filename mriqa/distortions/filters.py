"""Filtering with one kernel per image, edges replicated.

On a CPU in single precision each image is filtered with its own kernel by whatever is fastest: sums of shifted copies
for kernels with few entries, products with a banded matrix along rows, oneDNN's channelwise convolution along columns
(whose channels are then the columns, as they lie side by side in memory). Elsewhere one convolution takes all images.

Legend: B batch, C channels, H height, W width, K kernel side (odd), F frequencies, N values of an image in one row.
"""

from __future__ import annotations

import math

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

FEW_ENTRIES = 24
FEW_COPIES = 27
TILE = 16


def correlate(images_BCHW: Tensor, kernels_BKK: Tensor) -> Tensor:
    """Correlate every channel of image b with kernel b; kernel sides are odd and may differ. Shape is kept."""
    batch, channels, height, width = images_BCHW.shape
    rows, columns = kernels_BKK.shape[1:]
    padded = functional.pad(images_BCHW, (columns // 2, columns // 2, rows // 2, rows // 2), mode="replicate")
    return functional.conv2d(
        padded.reshape(1, batch * channels, *padded.shape[2:]),
        kernels_BKK.repeat_interleave(channels, dim=0)[:, None],
        groups=batch * channels,
    ).reshape(batch, channels, height, width)


def correlate_few(images_BCHW: Tensor, kernels_BKK: Tensor) -> Tensor:
    """As `correlate`, for square kernels most of whose entries are 0."""
    if images_BCHW.device.type != "cpu":
        return correlate(images_BCHW, kernels_BKK)
    made_BCHW = torch.empty_like(images_BCHW)
    for image, kernel, made in zip(images_BCHW, kernels_BKK, made_BCHW):
        _add_shifted(image, kernel, made)
    return made_BCHW


def correlate_even(images_BCHW: Tensor, kernels_BKK: Tensor) -> Tensor:
    """As `correlate`, for square kernels that read alike from left to right and from right to left."""
    if not _has_fast_columns(images_BCHW):
        return correlate(images_BCHW, kernels_BKK)
    made_BCHW = torch.empty_like(images_BCHW)
    for image, kernel, made in zip(images_BCHW, kernels_BKK, made_BCHW):
        if int(kernel.count_nonzero()) <= FEW_ENTRIES:
            _add_shifted(image, kernel, made)
        else:
            made.copy_(_through_spectra(image, kernel))
    return made_BCHW


def correlate_lines(images_BCHW: Tensor, taps_BK: Tensor) -> Tensor:
    """Correlate the columns and the rows of image b with taps b, which are odd in number and symmetric."""
    if images_BCHW.device.type != "cpu":
        return correlate(correlate(images_BCHW, taps_BK[:, None, :]), taps_BK[:, :, None])
    made_BCHW = torch.empty_like(images_BCHW)
    for image, taps, made in zip(images_BCHW, taps_BK, made_BCHW):
        unused = (len(taps) - int(taps.count_nonzero())) // 2
        taps = taps[unused : len(taps) - unused]
        if len(taps) * len(image) <= FEW_COPIES:
            _add_shifted_lines(image, taps.tolist(), made)
        elif _has_fast_columns(image):
            _add_banded_lines(image, taps, made)
        else:
            rows = correlate(image[None], taps[None, None, :])
            made.copy_(correlate(rows, taps[None, :, None])[0])
    return made_BCHW


def gaussian_smooth(images_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Gaussian filter with one standard deviation (pixels) per image; sigma 0 leaves the image as it is.

    The kernel reaches to 2 sigma, as KADID-10k's does. A tap fades in as 2 sigma approaches it, so that the
    result is continuous in sigma.
    """
    return correlate_lines(images_BCHW, gaussian_taps(sigma_B))


def gaussian_taps(sigma_B: Tensor) -> Tensor:
    """(B, K) weights from -K // 2 to K // 2 pixels; sums are 1."""
    reach_B = 2 * sigma_B
    radius = math.ceil(float(reach_B.max()))
    taps_K = torch.arange(-radius, radius + 1, dtype=sigma_B.dtype, device=sigma_B.device)
    weights_BK = torch.exp(-0.5 * (taps_K / sigma_B.clamp(min=1e-3)[:, None]) ** 2)
    weights_BK = weights_BK * (reach_B[:, None] + 1 - taps_K.abs()).clamp(0, 1)
    return weights_BK / weights_BK.sum(dim=1, keepdim=True)


def _has_fast_columns(images_BCHW: Tensor) -> bool:
    """Whether `_along_columns` is oneDNN's."""
    is_single = images_BCHW.device.type == "cpu" and images_BCHW.dtype == torch.float32
    return is_single and torch.backends.mkldnn.is_available()


def _add_shifted(image_CHW: Tensor, kernel_KK: Tensor, made_CHW: Tensor) -> None:
    """Into `made_CHW`: copies of the image, shifted to each entry of the kernel that is not 0 and weighted by it."""
    height, width = image_CHW.shape[1:]
    padded = functional.pad(image_CHW[None], (len(kernel_KK) // 2,) * 4, mode="replicate")[0]
    places = [(y, x, w) for y, row in enumerate(kernel_KK.tolist()) for x, w in enumerate(row) if w != 0]
    shifted = [padded[:, y : y + height, x : x + width] for y, x, _ in places]
    torch.mul(shifted[0], places[0][2], out=made_CHW)
    for copy, (_, _, weight) in zip(shifted[1:], places[1:]):
        made_CHW.add_(copy, alpha=weight)


def _add_shifted_lines(image_CHW: Tensor, taps: list[float], made_CHW: Tensor) -> None:
    """As `_add_shifted`, first up and down, then left and right, with the same taps."""
    height, width = image_CHW.shape[1:]
    padded = functional.pad(image_CHW[None], (len(taps) // 2,) * 4, mode="replicate")[0]
    filtered = padded[:, :height] * taps[0]
    for place, weight in enumerate(taps[1:], 1):
        filtered.add_(padded[:, place : place + height], alpha=weight)
    torch.mul(filtered[..., :width], taps[0], out=made_CHW)
    for place, weight in enumerate(taps[1:], 1):
        made_CHW.add_(filtered[..., place : place + width], alpha=weight)


def _through_spectra(image_CHW: Tensor, kernel_KK: Tensor) -> Tensor:
    """Rows as spectra: along them an even kernel is a real factor for each frequency, in which columns are filtered."""
    width = image_CHW.shape[2]
    used = (kernel_KK != 0).any(dim=0).nonzero()
    start = int(used[0])
    kernel_KK = kernel_KK[start : len(kernel_KK) - start, start : len(kernel_KK) - start]
    reach = len(kernel_KK) // 2
    length = next_fast_len(width + 2 * reach, real=True)
    padded = functional.pad(image_CHW[None], (reach, length - width - reach, reach, reach), mode="replicate")[0]
    factors_KF = torch.fft.rfft(functional.pad(kernel_KK, (0, length - len(kernel_KK))).roll(-reach, dims=1)).real
    spectra = torch.view_as_real(torch.fft.rfft(padded)).flatten(2)
    filtered = _along_columns(spectra, factors_KF.repeat_interleave(2, dim=1))
    rows = torch.fft.irfft(torch.view_as_complex(filtered.unflatten(2, (-1, 2))), n=length)
    return rows[..., reach : reach + width]


def _add_banded_lines(image_CHW: Tensor, taps_K: Tensor, made_CHW: Tensor) -> None:
    """As `_add_shifted_lines`, by what pays off for many taps."""
    width = image_CHW.shape[2]
    reach = len(taps_K) // 2
    padded = functional.pad(image_CHW[None], (reach,) * 4, mode="replicate")[0]
    filtered = _along_columns(padded, taps_K[:, None].expand(-1, padded.shape[2]))
    made_CHW.copy_(_along_rows(filtered, taps_K)[..., :width])


def _along_columns(image_CHW: Tensor, taps_KW: Tensor) -> Tensor:
    """(C, H - K + 1, W): every column with its own taps."""
    as_channels = image_CHW.transpose(1, 2)[:, :, None]
    filtered = functional.conv2d(as_channels, taps_KW.T.contiguous()[:, None, None], groups=image_CHW.shape[2])
    return filtered[:, :, 0].transpose(1, 2)


def _along_rows(image_CHW: Tensor, taps_K: Tensor) -> Tensor:
    """(C, H, W), of which the first W - K + 1 columns are the rows with these taps, the others undefined.

    All values stand in one row. A tile of 16 of the result is a product of 16 + K - 1 of them with a banded matrix;
    tiles are taken `apart` at a time, so that those of one product don't overlap.
    """
    flat_N = image_CHW.flatten()
    window = TILE + len(taps_K) - 1
    apart = -(-window // TILE)
    shifted = taps_K.new_zeros(TILE, window + 1)
    shifted[:, : len(taps_K)] = taps_K
    band = shifted.flatten()[: TILE * window].view(TILE, window).T.contiguous()
    made_N = torch.empty_like(flat_N)
    count = max(0, (len(flat_N) - window + TILE) // (TILE * apart))
    for first in range(apart):
        windows = flat_N.as_strided((count, window), (TILE * apart, 1), TILE * first)
        torch.mm(windows, band, out=made_N.as_strided((count, TILE), (TILE * apart, 1), TILE * first))
    done = count * TILE * apart
    if done + len(taps_K) <= len(flat_N):
        rest = flat_N[done:].unfold(0, len(taps_K), 1)
        made_N[done : done + len(rest)] = rest @ taps_K
    return made_N.view_as(image_CHW)
