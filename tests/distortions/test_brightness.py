import numpy as np
import torch
from numpy.polynomial import polynomial
from skimage import color

from mriqa.distortions import brightness


def fitted_curve(values: np.ndarray, amount: float) -> np.ndarray:
    coefficients = polynomial.polyfit([0, 0.5, 1], [0, 0.5 + amount / 2, 1], 2)
    return np.clip(polynomial.polyval(values, coefficients), 0, 1)


def test_darken_applies_the_curve_to_rgb(photos):
    result = brightness.darken(photos, torch.tensor([0.2, 0.8], dtype=torch.float64))
    for image, darker, amount in zip(photos.numpy(), result.numpy(), (0.2, 0.8), strict=True):
        np.testing.assert_allclose(darker, fitted_curve(image, -amount), atol=1e-9)


def test_brighten_blends_two_parts_rgb_curve_and_one_part_lightness_curve(photos):
    result = brightness.brighten(photos, torch.tensor([0.4, 1.1], dtype=torch.float64))
    for image, brighter, amount in zip(photos.permute(0, 2, 3, 1).numpy(), result, (0.4, 1.1), strict=True):
        lab = color.rgb2lab(image)
        lab[..., 0] = 100 * fitted_curve(lab[..., 0] / 100, amount)
        expected = (2 * fitted_curve(image, amount) + color.lab2rgb(lab)) / 3
        assert np.abs(brighter.permute(1, 2, 0).numpy() - expected).mean() < 1e-4


def test_mean_shift_adds_and_cuts(photos):
    result = brightness.mean_shift(photos, torch.tensor([0.15, -0.15], dtype=torch.float64))
    np.testing.assert_allclose(result[0].numpy(), np.clip(photos[0].numpy() + 0.15, 0, 1))
    np.testing.assert_allclose(result[1].numpy(), np.clip(photos[1].numpy() - 0.15, 0, 1))


def test_one_sided_mean_shifts_move_all_values_by_the_amount():
    images = torch.full((2, 3, 4, 4), 0.5)
    amount = torch.tensor([0.0, 0.185])
    for function, sign in ((brightness.mean_shift_up, 1), (brightness.mean_shift_down, -1)):
        found = function(images, amount)
        assert torch.equal(found[0], images[0])
        assert torch.allclose(found[1], images[1] + sign * 0.185)
