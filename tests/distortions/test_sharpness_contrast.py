import numpy as np
import torch
from scipy import interpolate, ndimage
from skimage import color

from mriqa.distortions import sharpness_contrast
from mriqa.distortions.color_spaces import lab_to_rgb


def test_contrast_change_is_the_not_a_knot_spline(photos):
    amounts = (0.3, -0.6)
    result = sharpness_contrast.contrast_change(photos, torch.tensor(amounts, dtype=torch.float64))
    for image, changed, amount in zip(photos.numpy(), result.numpy(), amounts, strict=True):
        knots = [0, 0.25 - amount / 4, 0.5, 0.75 + amount / 4, 1]
        spline = interpolate.CubicSpline([0, 0.3, 0.5, 0.7, 1], knots, bc_type="not-a-knot")
        np.testing.assert_allclose(changed, np.clip(spline(image), 0, 1), atol=1e-7)


def test_high_sharpen_is_unsharp_masking_of_lightness(photos):
    amounts = (1.0, 3.0)
    result = sharpness_contrast.high_sharpen(photos, torch.tensor(amounts, dtype=torch.float64))
    lab = color.rgb2lab(photos.permute(0, 2, 3, 1).numpy())
    for image, amount in zip(lab, amounts, strict=True):
        blurred = ndimage.gaussian_filter(image[..., 0], 3, mode="nearest", radius=6)
        image[..., 0] += amount * (image[..., 0] - blurred)
    expected = lab_to_rgb(torch.from_numpy(lab).permute(0, 3, 1, 2)).clamp(0, 1)
    torch.testing.assert_close(result, expected, atol=5e-3, rtol=0)


def test_one_sided_contrast_is_the_same_curve(photos):
    for function, amount in ((sharpness_contrast.contrast_up, 0.6), (sharpness_contrast.contrast_down, -0.6)):
        amounts = torch.full((2,), amount, dtype=torch.float64)
        assert torch.equal(function(photos, amounts), sharpness_contrast.contrast_change(photos, amounts))


def test_nonlinear_contrast_pulls_towards_the_middle(photos):
    result = sharpness_contrast.nonlinear_contrast(photos, torch.tensor([0.5, 0.05], dtype=torch.float64))
    np.testing.assert_allclose(result[0].numpy(), photos[0].numpy(), atol=1e-12)
    np.testing.assert_allclose(result[1].numpy(), 0.45 + 0.1 * photos[1].numpy(), atol=1e-12)
