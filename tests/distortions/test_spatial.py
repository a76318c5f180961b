import numpy as np
import pytest
import torch
from skimage.filters import threshold_multiotsu

from mriqa.distortions import spatial


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_jitter_moves_pixels_by_the_offsets_of_five_rounds():
    ramp = torch.arange(200.0).double().expand(2, 3, 200, 200) / 200
    amounts = torch.tensor([0.5, 1.0], dtype=torch.float64)
    moved = (spatial.jitter(ramp, amounts, seeded()) - ramp)[..., 20:-20] * 200
    # On a ramp, bilinear sampling turns offsets into values; averaging neighbours makes later rounds add less.
    spread = moved.std(dim=(1, 2, 3))
    assert (spread > amounts).all() and (spread < amounts * 5**0.5).all()
    assert moved.mean().abs() < 0.02


def test_pixelate_is_a_nearest_neighbour_shrink_and_enlargement(photos):
    strengths = (0.1, 0.5)
    result = spatial.pixelate(photos, torch.tensor(strengths, dtype=torch.float64))
    for image, coarse, strength in zip(photos.numpy(), result.numpy(), strengths, strict=True):
        scale = 0.95 - strength**0.6
        small_height, small_width = round(96 * scale), round(128 * scale)
        for row, column in [(0, 0), (17, 101), (50, 64), (95, 127)]:
            small_row, small_column = (2 * row + 1) * small_height // 192, (2 * column + 1) * small_width // 256
            source_row = int((small_row + 0.5) * 96 / small_height)
            source_column = int((small_column + 0.5) * 128 / small_width)
            np.testing.assert_array_equal(coarse[:, row, column], image[:, source_row, source_column])


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_quantization_thresholds_equal_scikit_images_multi_otsu(photos, levels):
    values = (photos[0].numpy() * 255).round().astype(np.uint8)
    thresholds = threshold_multiotsu(values, levels)
    classes = np.digitize(values, thresholds, right=True)
    expected = np.choose(classes, [values[classes == level].mean() / 255 for level in range(levels)])
    result = spatial.quantization(photos[:1], torch.tensor([float(levels)], dtype=torch.float64))
    np.testing.assert_allclose(result[0].numpy(), expected, atol=1e-6)


def test_quantization_leaves_as_many_values_as_asked_image_by_image(photos):
    result = spatial.quantization(photos, torch.tensor([7.0, 20.0], dtype=torch.float64))
    assert [len(image.unique()) for image in result] == [7, 20]


def test_non_eccentricity_patch_copies_whole_patches_from_nearby(photos):
    # Every pixel holds its own position, so that the result says where it came from.
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    positions = (torch.stack([rows, columns, torch.zeros(96, 128)]) / 128).double()[None]
    result = spatial.non_eccentricity_patch(positions, torch.tensor([1.0], dtype=torch.float64), seeded())
    moves = ((result - positions) * 128).round().long()[0, :2]
    touched = (moves != 0).any(dim=0)
    assert touched.sum() == 16 * 16
    found = moves[:, touched]
    assert (found == found[:, :1]).all() and found.abs().max() <= 8


@pytest.mark.parametrize(("name", "side"), [("color_block", 32), ("non_eccentricity_patch", 16)])
def test_patches_add_up_and_a_fraction_fades_in(photos, name, side):
    function = getattr(spatial, name)
    images = photos[:1]
    three, three_half, four = (
        function(images, torch.tensor([count], dtype=torch.float64), seeded()) for count in (3.0, 3.5, 4.0)
    )
    torch.testing.assert_close(three_half, (three + four) / 2)
    assert 0 < ((four - images).abs().amax(dim=1) > 0).sum() <= 4 * side * side


def test_color_block_is_uniform_inside_and_nothing_outside(photos):
    result = spatial.color_block(photos[:1], torch.tensor([1.0], dtype=torch.float64), seeded())
    touched = (result != photos[:1]).any(dim=1)[0]
    assert touched.sum() == 32 * 32
    assert len(result[0][:, touched].unique(dim=1).T) == 1
