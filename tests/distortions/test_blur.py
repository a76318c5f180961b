import math

import numpy as np
import pytest
import torch
from scipy import ndimage, optimize

from mriqa.distortions import blur

# Either precision has ways of its own through the filters, in single precision one for few taps and one for many.
both_precisions = pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 2e-6)])


@both_precisions
@pytest.mark.parametrize("size", [(96, 128), (37, 51), (4, 9), (1, 1)])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1, 2, 2.5, 5, 20])
def test_gaussian_blur_is_scipys_cut_at_two_sigma(photos, sigma, size, dtype, atol):
    radius = math.ceil(2 * sigma)
    images = photos[..., : size[0], : size[1]]
    expected = ndimage.gaussian_filter(
        images.numpy(), (0, 0, sigma, sigma), radius=(0, 0, radius, radius), mode="nearest"
    )
    blurred = blur.gaussian_blur(images.to(dtype), torch.tensor([sigma, sigma], dtype=dtype))
    np.testing.assert_allclose(blurred.numpy(), expected, atol=atol)


def test_gaussian_blur_is_continuous_where_the_kernel_grows(photos):
    below, above = (
        blur.gaussian_blur(photos, torch.full((2,), sigma, dtype=torch.float64)) for sigma in (1.4999, 1.5001)
    )
    assert (below - above).abs().max() < 1e-3


def test_disk_kernels_equal_a_count_of_points_in_the_disk():
    radii = torch.tensor([0.5, 1.0, 2.0, 3.7, 8.0], dtype=torch.float64)
    kernels = blur.disk_kernels(radii).numpy()
    reach, fine = kernels.shape[1] // 2, 64
    points = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    for radius, kernel in zip(radii.numpy(), kernels, strict=True):
        inside = points[:, None] ** 2 + points**2 <= radius**2
        counted = inside.reshape(2 * reach + 1, fine, 2 * reach + 1, fine).sum(axis=(1, 3))
        np.testing.assert_allclose(kernel, counted / counted.sum(), atol=1e-3)


def test_line_kernels_equal_distances_to_a_segment_point_by_point():
    lengths, angles = [1.0, 2.0, 6.0, 10.0], [0.3, 0.0, math.pi / 2, 2.1]
    kernels = blur.line_kernels(
        torch.tensor(lengths, dtype=torch.float64), torch.tensor(angles, dtype=torch.float64)
    ).numpy()
    reach = kernels.shape[1] // 2
    for length, angle, kernel in zip(lengths, angles, kernels, strict=True):
        ends = np.linspace(-(length - 1) / 2, (length - 1) / 2, 20001)
        segment = np.stack([ends * math.cos(angle), ends * math.sin(angle)], axis=1)
        expected = np.zeros_like(kernel)
        for row in range(2 * reach + 1):
            for column in range(2 * reach + 1):
                pixel = np.array([column - reach, reach - row])
                expected[row, column] = max(0, 1 - np.sqrt(((segment - pixel) ** 2).sum(axis=1).min()))
        np.testing.assert_allclose(kernel, expected / expected.sum(), atol=1e-4)
    # MATLAB: fspecial("motion", 2, 0) is [1/4, 1/2, 1/4].
    np.testing.assert_allclose(kernels[1][reach, reach - 1 : reach + 2], [0.25, 0.5, 0.25])


def segment_kernel(length, angle, reach):
    """1 less each pixel's distance to a segment of length - 1 through the centre, where that is positive; sum 1."""
    y, x = np.mgrid[reach : -reach - 1 : -1, -reach : reach + 1].astype(float)
    along = np.clip(x * math.cos(angle) + y * math.sin(angle), -(length - 1) / 2, (length - 1) / 2)
    weights = np.maximum(0, 1 - np.hypot(x - along * math.cos(angle), y - along * math.sin(angle)))
    return weights / weights.sum()


@pytest.mark.parametrize("length", [1.0, 2.0, 5.0, 10.0, 19.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_motion_blur_spreads_a_point_along_a_segment_of_its_length(length, seed):
    """In some direction, which is looked for, the point becomes the kernel of MATLAB's fspecial of that length."""
    reach = 12
    point = torch.zeros(1, 3, 2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    point[..., reach, reach] = 1
    generator = torch.Generator().manual_seed(seed)
    spread = blur.motion_blur(point, torch.tensor([length], dtype=torch.float64), generator).numpy()[0]

    def away(angle):
        return float(np.abs(segment_kernel(length, angle, reach) - spread[0][::-1, ::-1]).max())

    nearest = min(np.linspace(0, math.pi, 721), key=away)
    found = optimize.minimize_scalar(
        away, bounds=(nearest - 0.005, nearest + 0.005), method="bounded", options={"xatol": 1e-9}
    )
    assert found.fun < 1e-6
    np.testing.assert_array_equal(spread, np.broadcast_to(spread[0], spread.shape))


@both_precisions
@pytest.mark.parametrize("size", [(96, 128), (37, 51), (4, 9)])
def test_lens_blur_correlates_with_its_kernels(photos, size, dtype, atol):
    images, radius = photos[..., : size[0], : size[1]], torch.tensor([1.0, 6.0], dtype=torch.float64)
    blurred = blur.lens_blur(images.to(dtype), radius.to(dtype))
    for image, result, kernel in zip(images, blurred, blur.disk_kernels(radius), strict=True):
        expected = [ndimage.correlate(channel.numpy(), kernel.numpy(), mode="nearest") for channel in image]
        np.testing.assert_allclose(result.numpy(), expected, atol=atol)


@both_precisions
def test_motion_blur_correlates_with_its_kernels(photos, dtype, atol):
    lengths = torch.tensor([4.0, 10.0], dtype=dtype)
    blurred = blur.motion_blur(photos.to(dtype), lengths, torch.Generator().manual_seed(2))
    angles = math.pi * torch.rand(2, generator=torch.Generator().manual_seed(2), dtype=dtype)
    for image, result, kernel in zip(photos, blurred, blur.line_kernels(lengths, angles), strict=True):
        expected = [ndimage.correlate(channel.numpy(), kernel.double().numpy(), mode="nearest") for channel in image]
        np.testing.assert_allclose(result.numpy(), expected, atol=atol)


def test_motion_blur_keeps_a_flat_image():
    flat = torch.full((2, 3, 9, 9), 0.25)
    torch.testing.assert_close(blur.motion_blur(flat, torch.tensor([4.0, 10.0])), flat)
