import numpy as np
import torch
from skimage import color

from mriqa.distortions import color_spaces


def channels_last(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


def test_rgb_to_lab_agrees_with_scikit_image(photos):
    np.testing.assert_allclose(
        channels_last(color_spaces.rgb_to_lab(photos)), color.rgb2lab(channels_last(photos)), atol=2e-3
    )


def test_lab_to_rgb_agrees_with_scikit_image_inside_and_outside_the_gamut(photos):
    lab = color_spaces.rgb_to_lab(photos)
    np.testing.assert_allclose(color_spaces.lab_to_rgb(lab).numpy(), photos.numpy(), atol=1e-5)
    lab[:, 1:] *= 1.5
    expected = color.lab2rgb(channels_last(lab))
    np.testing.assert_allclose(channels_last(color_spaces.lab_to_rgb(lab).clamp(0, 1)), expected, atol=1e-3)


def test_every_gray_survives_the_way_to_lab_and_back_in_float32():
    grays = torch.linspace(0, 1, 1001).expand(1, 3, 1, 1001)
    torch.testing.assert_close(color_spaces.lab_to_rgb(color_spaces.rgb_to_lab(grays)), grays, atol=2e-5, rtol=0)


def test_ycbcr_agrees_with_scikit_image(photos):
    ycbcr = color_spaces.rgb_to_ycbcr(photos)
    np.testing.assert_allclose(channels_last(ycbcr) * 255, color.rgb2ycbcr(channels_last(photos)), atol=1e-9)
    torch.testing.assert_close(color_spaces.ycbcr_to_rgb(ycbcr), photos)


def test_conversions_leave_their_input_alone(photos):
    for convert in (
        color_spaces.rgb_to_lab,
        color_spaces.lab_to_rgb,
        color_spaces.rgb_to_ycbcr,
        color_spaces.ycbcr_to_rgb,
    ):
        before = photos.clone()
        convert(photos)
        assert torch.equal(photos, before)
