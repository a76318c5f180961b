"""Filtering with one kernel per image, edges replicated.

Legend: B batch, C channels, H height, W width, K kernel side (odd).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


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


def gaussian_smooth(images_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Gaussian filter with one standard deviation (pixels) per image; sigma 0 leaves the image as it is.

    The kernel reaches to 2 sigma, as KADID-10k's does. A tap fades in as 2 sigma approaches it, so that the
    result is continuous in sigma.
    """
    reach_B = 2 * sigma_B
    radius = math.ceil(float(reach_B.max()))
    taps_K = torch.arange(-radius, radius + 1, dtype=images_BCHW.dtype, device=images_BCHW.device)
    weights_BK = torch.exp(-0.5 * (taps_K / sigma_B.clamp(min=1e-3)[:, None]) ** 2)
    weights_BK = weights_BK * (reach_B[:, None] + 1 - taps_K.abs()).clamp(0, 1)
    weights_BK = weights_BK / weights_BK.sum(dim=1, keepdim=True)
    return correlate(correlate(images_BCHW, weights_BK[:, None, :]), weights_BK[:, :, None])
