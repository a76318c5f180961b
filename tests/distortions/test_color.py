import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import color as reference

from mriqa.distortions import color
from mriqa.distortions.color_spaces import lab_to_rgb


def channels_last(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


def test_color_saturation_hsv_multiplies_saturation(photos):
    factors = torch.tensor([0.4, 0.0], dtype=torch.float64)
    hsv = reference.rgb2hsv(channels_last(photos))
    hsv[..., 1] *= factors.numpy()[:, None, None]
    result = color.color_saturation_hsv(photos, factors)
    np.testing.assert_allclose(channels_last(result), reference.hsv2rgb(hsv), atol=1e-9)


def test_color_saturation_lab_multiplies_chroma(photos):
    factors = torch.tensor([0.5, 1.5], dtype=torch.float64)
    lab = reference.rgb2lab(channels_last(photos))
    lab[..., 1:] *= factors.numpy()[:, None, None, None]
    expected = lab_to_rgb(torch.from_numpy(lab).permute(0, 3, 1, 2)).clamp(0, 1)
    torch.testing.assert_close(color.color_saturation_lab(photos, factors), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("amount", "sigma", "factor"), [(0.5, 1.75, 1), (1.0, 3.5, 1), (3.0, 6.5, 3), (12.0, 20, 12)])
def test_color_diffusion_blurs_and_scales_chroma(photos, amount, sigma, factor):
    lab = reference.rgb2lab(channels_last(photos[:1]))
    reach = math.ceil(2 * sigma)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2) * np.clip(2 * sigma + 1 - abs(offsets), 0, 1)
    for axis in (1, 2):
        lab[..., 1:] = ndimage.correlate1d(lab[..., 1:], kernel / kernel.sum(), axis=axis, mode="nearest")
    lab[..., 1:] *= factor
    expected = lab_to_rgb(torch.from_numpy(lab).permute(0, 3, 1, 2)).clamp(0, 1)
    result = color.color_diffusion(photos[:1], torch.tensor([amount], dtype=torch.float64))
    torch.testing.assert_close(result, expected, atol=5e-3, rtol=0)


def test_color_shift_moves_green_alone_and_only_near_edges(photos):
    photos = photos.clone()
    photos[0] = 0.2
    photos[0, :, :, 64:] = 0.8
    shifted = color.color_shift(photos, torch.tensor([6.0, 6.0], dtype=torch.float64), torch.Generator().manual_seed(3))
    assert torch.equal(shifted[:, 0], photos[:, 0]) and torch.equal(shifted[:, 2], photos[:, 2])
    changed = (shifted[0, 1] - photos[0, 1]).abs()
    assert changed[:, 48:80].max() > 0.3
    assert changed[:, :32].max() < 1e-12 and changed[:, 96:].max() < 1e-12


def test_translate_by_whole_pixels_is_a_replicated_shift(photos):
    moved = color._translate(
        photos, torch.tensor([3.0, -2.0], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    )
    expected = [
        ndimage.shift(image.numpy(), (0, *shift), order=0, mode="nearest")
        for image, shift in zip(photos, [(1, 3), (0, -2)], strict=True)
    ]
    np.testing.assert_allclose(moved.numpy(), expected, atol=1e-9)


def test_color_quantization_leaves_as_many_colors_as_asked(photos):
    reduced = color.color_quantization(photos, torch.tensor([8.0, 64.0], dtype=torch.float64))
    counts = [len(torch.unique(image.flatten(1), dim=1).T) for image in reduced]
    assert counts[0] <= 8 < counts[1] <= 64
    errors = (reduced - photos).square().mean(dim=(1, 2, 3)).sqrt()
    assert errors[1] < errors[0] < 0.15
