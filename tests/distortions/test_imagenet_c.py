"""ImageNet-C's corruptions: every level, what can be worked out by hand, and that each picture has its own draws."""

import numpy as np
import pytest
import torch

from mriqa.distortions import DISTORTIONS, IMAGENET_C, LABELLED, NAMES, DistortionError, distort, mean_mos
from mriqa.distortions.corruptions import enlarged, smeared
from mriqa.distortions.draws import ImageSeeds
from mriqa.distortions.weather import cloud

PAPER = [  # and frost
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression", "speckle_noise",
    "gaussian_blur", "spatter", "saturate",
]  # fmt: skip
WITHOUT_CHANCE = {"gaussian_blur", "defocus_blur", "zoom_blur", "brightness", "saturate", "contrast", "pixelate",
                  "jpeg_compression"}  # fmt: skip
every_corruption = pytest.mark.parametrize("name", IMAGENET_C)


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def short(name):
    return name.removeprefix("imagenet_c_")


def test_all_but_frost_are_there_without_ratings():
    assert sorted(map(short, IMAGENET_C)) == sorted(PAPER)
    assert not set(IMAGENET_C) & set(NAMES) and not set(IMAGENET_C) & set(LABELLED)
    assert all(len(DISTORTIONS[name].levels) == 5 for name in IMAGENET_C)
    with pytest.raises(DistortionError, match="carries no human scores"):
        mean_mos("imagenet_c_fog", 0.5)


@every_corruption
def test_every_level_changes_the_picture_and_level_zero_does_not(photos, name):
    images = photos[:1, :, :48, :64].float()
    before = images.clone()
    assert torch.equal(distort(images, name, 0.0, seeded()), images)
    levels = [distort(images, name, level / 5, seeded()) for level in range(1, 6)]
    for found in levels:
        assert found.shape == images.shape and found.dtype == images.dtype and found.min() >= 0 and found.max() <= 1
        assert (found - images).abs().max() > 0.01 or short(name) == "spatter"  # so few drops that a crop may have none
    assert torch.equal(distort(images, name, 0.44, seeded()), levels[1])  # rounded to a whole level
    assert torch.equal(images, before)


@every_corruption
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 4)])
def test_any_size(name, size):
    images = torch.rand(2, 3, *size, generator=seeded())
    found = distort(images, name, torch.tensor([0.2, 1.0]), seeded())
    assert found.shape == images.shape and bool(found.isfinite().all())


@every_corruption
def test_equal_seeds_give_equal_pictures_whatever_the_batch(photos, name):
    image = photos[:1, :, :32, :40]
    alone = distort(image, name, 0.6, ImageSeeds([7]))
    batch = distort(image.expand(3, -1, -1, -1), name, 0.6, ImageSeeds([3, 7, 7]))
    assert torch.equal(batch[1], alone[0]) and torch.equal(batch[2], alone[0])
    other = torch.equal(batch[0], alone[0])
    assert other == (short(name) in WITHOUT_CHANCE) or short(name) == "spatter"


def test_noise_has_the_published_strength():
    """On grey 0.5: std at level 1 of 0.08; sqrt(0.5 / 60) for shots; a share of 0.03; half of 0.15 for speckles."""
    grey = torch.full((1, 3, 200, 200), 0.5, dtype=torch.float64)
    for name, std in (("gaussian_noise", 0.08), ("shot_noise", (0.5 / 60) ** 0.5), ("speckle_noise", 0.075)):
        found = distort(grey, f"imagenet_c_{name}", 0.2, seeded())
        assert float(found.std()) == pytest.approx(std, rel=0.03) and float(found.mean()) == pytest.approx(
            0.5, abs=2e-3
        )
    found = distort(grey, "imagenet_c_impulse_noise", 0.2, seeded())
    assert float((found != 0.5).double().mean()) == pytest.approx(0.03, rel=0.1)


def test_contrast_and_brightness_by_hand(photos):
    mean = photos.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(distort(photos, "imagenet_c_contrast", 1.0), 0.05 * photos + 0.95 * mean)
    value = distort(photos, "imagenet_c_brightness", 0.6).amax(dim=1)
    torch.testing.assert_close(value, (photos.amax(dim=1) + 0.3).clamp(max=1))


def test_grey_pictures_stay_as_they_are_under_blurs_warps_and_resizing():
    grey = torch.full((1, 3, 40, 40), 0.3, dtype=torch.float64)
    for name in ("gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform"):
        torch.testing.assert_close(distort(grey, f"imagenet_c_{name}", 1.0, seeded()), grey)


def test_defocus_spreads_a_point_over_a_disk():
    point = torch.zeros(1, 3, 41, 41, dtype=torch.float64)
    point[..., 20, 20] = 1
    spread = distort(point, "imagenet_c_defocus_blur", 0.2)[0, 0]
    inside = sum(x * x + y * y <= 9 for x in range(-3, 4) for y in range(-3, 4))
    assert inside == 29 and float(spread.sum()) == pytest.approx(1)
    assert float(spread[20, 20]) == pytest.approx(1 / 29, rel=1e-6) and float(spread[20, 25]) < 1e-9


def test_motion_smears_to_one_side_by_half_a_gaussian():
    line = np.zeros((9, 60))
    line[:, 50] = 1.0
    found = smeared(line, 3, 2.0, 0.0)[4]
    weights = np.exp(-(np.arange(7.0) ** 2) / 8)
    assert found[44:51][::-1] == pytest.approx(weights / weights.sum()) and found[51:].max() == found[:44].max() == 0


def test_enlarging_keeps_the_middle_and_stretches_a_ramp():
    ramp = np.tile(np.arange(11.0), (11, 1))
    assert enlarged(ramp, 2.0)[5] == pytest.approx(5 + (np.arange(11) - 5) / 2)


def test_glass_only_exchanges_pixels():
    from mriqa.distortions.corruptions import glass_blur

    picture = np.random.default_rng(0).random((20, 20, 3))
    found = glass_blur(picture, np.random.default_rng(1), 1e-9, 2, 2)
    assert np.array_equal(np.sort(found.reshape(-1, 3), axis=0), np.sort(picture.reshape(-1, 3), axis=0))
    assert not np.allclose(found, picture)


def test_fog_keeps_the_brightest_value_in_reach_and_a_cloud_fills_its_range():
    clouds = cloud(50, 2.0, np.random.default_rng(0))
    assert clouds.shape == (64, 64) and (clouds.min(), clouds.max()) == (0, 1)
    white = torch.ones(1, 3, 32, 32)
    fogged = distort(white, "imagenet_c_fog", 0.2, seeded())
    assert fogged.min() == pytest.approx(1 / 2.5) and fogged.max() == pytest.approx(1)
