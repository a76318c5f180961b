"""The embedded model's eye: which parts of a picture it sees, and that the tower takes its strips apart again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mriqa.embedded.eye import TILES, smooth_strip, strip, tiles
from mriqa.embedded.eye_processor import EyeImageProcessor
from mriqa.embedded.lite_network import LiteStatistics, load_trunk, save_trunk, summary
from mriqa.embedded.lite_tower import LiteTower, LiteTowerConfig, imagenet_trunk
from mriqa.embedded.tiny_fastvlm import build_tiny_fastvlm


def ramp(width: int, height: int) -> Image.Image:
    """Red tells the column, green the row, in units of 4 pixels."""
    x, y = np.meshgrid(np.arange(width) // 4, np.arange(height) // 4)
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))


def corners(side: int, picture: Image.Image, limit: int = 10_000) -> list[tuple[int, int]]:
    """Where the crops begin, in pixels of a ramp."""
    return [tuple(4 * channel for channel in crop.getpixel((0, 0))[:2]) for crop in tiles(picture, side, limit)[1:]]


def test_crops_cover_a_picture_of_twice_their_size():
    assert corners(64, ramp(128, 128)) == [(0, 0), (64, 0), (0, 64), (64, 64)]


def test_crops_of_a_large_picture_keep_equal_distances():
    assert corners(64, ramp(320, 200)) == [(64, 24), (192, 24), (64, 112), (192, 112)]


def test_crops_of_a_small_picture_overlap():
    assert corners(64, ramp(96, 64)) == [(0, 0), (32, 0), (0, 0), (32, 0)]


def test_the_first_tile_is_the_whole_picture():
    whole = np.asarray(tiles(ramp(800, 600), 64, 400)[0], dtype=float)
    assert whole.shape == (64, 64, 3)
    assert abs(whole[:, -1, 0].mean() - 198) < 2 and abs(whole[-1, :, 1].mean() - 148) < 2


@pytest.mark.parametrize("size", [(1, 1), (20, 700), (3000, 40), (191, 193), (2000, 1500)])
def test_any_size_makes_a_strip(size):
    pixels_3HW = strip(Image.new("L", size, 90), 192, 672)
    assert pixels_3HW.shape == (3, TILES * 192, 192) and pixels_3HW.dtype == torch.uint8 and (pixels_3HW == 90).all()


def test_the_image_processor_takes_pictures_arrays_and_lists_of_lists():
    processor, picture = EyeImageProcessor(tile=32, limit=96), ramp(100, 80)
    expected = strip(picture, 32, 96)
    found = processor(images=[[picture], [np.asarray(picture)]], return_tensors="pt")["pixel_values"]
    assert found.shape == (2, 3, TILES * 32, 32) and all((each == expected).all() for each in found)
    assert EyeImageProcessor.from_dict(processor.to_dict()).to_dict() == processor.to_dict()


@pytest.mark.parametrize("size", [(150, 97), (30, 200), (64, 64)])
def test_the_smooth_strip_is_the_strip_without_rounding(size):
    noise = np.random.default_rng(3).integers(40, 216, (9, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)
    image_3HW = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().requires_grad_()
    smooth = smooth_strip(image_3HW, 64, 96)
    assert (smooth - strip(picture, 64, 96)).abs().max() < 2
    smooth.sum().backward()
    assert image_3HW.grad.abs().sum() > 0


@pytest.fixture(scope="module")
def strips():
    return torch.randint(0, 256, (2, 3, 3 * 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_strip_is_its_tiles_below_each_other(strips):
    tower, alone = (LiteTower(LiteTowerConfig(grid=2, tile=tile)).eval() for tile in (64, None))
    for each in (tower, alone):
        each.load_imagenet_weights()
    with torch.no_grad():
        found = tower.statistics(strips)
        assert found.shape == (2, 272, 6, 2)
        for place, tile_B3HW in enumerate(strips.split(64, dim=2)):
            own = found[:, :, 2 * place : 2 * place + 2]
            torch.testing.assert_close(own, alone.statistics(tile_B3HW), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("summed_up, shape", [(False, (272, 6, 2)), (True, (816, 1, 1))])
def test_the_network_alone_gives_what_the_tower_gives(strips, summed_up, shape):
    tower = LiteTower(LiteTowerConfig(grid=2, tile=64, summed_up=summed_up)).eval()
    tower.load_imagenet_weights()
    tower.standardise(torch.randn(5, *shape, generator=torch.Generator().manual_seed(1)))
    network = LiteStatistics(2, tile=64, summed_up=summed_up).eval()
    network.load_state_dict(tower.state_dict())
    with torch.no_grad():
        assert network(strips).shape == (2, *shape)
        assert (network(strips) == tower.statistics(strips)).all()


def test_a_strip_summed_up_is_the_whole_and_the_mean_and_spread_of_the_crops(strips):
    cells = LiteStatistics(2, tile=64).eval()(strips).detach()
    found = summary(cells, 2)
    assert found.shape == (2, 816, 1, 1)
    for image, sums in zip(cells.double().numpy(), found[..., 0, 0].numpy()):
        whole, crops = image[:, :2].reshape(272, 4), image[:, 2:].reshape(272, 8)
        np.testing.assert_allclose(sums[:272], whole.mean(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(sums[272:544], crops.mean(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(sums[544:], crops.std(1, ddof=1), rtol=1e-4, atol=1e-5)


def test_a_strip_summed_up_does_not_say_in_which_crop_something_is():
    cells = torch.randn(1, 272, 10, 2, generator=torch.Generator().manual_seed(2))
    moved = torch.cat([cells[:, :, :2], cells[:, :, 2:].roll(4, 2).flip(3)], dim=2)
    torch.testing.assert_close(summary(moved, 2), summary(cells, 2))
    assert not torch.allclose(summary(cells.flip(2), 2), summary(cells, 2))


def test_one_tile_alone_is_not_summed_up(tmp_path):
    with pytest.raises(ValueError, match="give the side of the tiles"):
        LiteStatistics(2, summed_up=True)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="give their side"):
        build_tiny_fastvlm(tmp_path / "model", summed_up=True)


def test_the_gradient_goes_through_a_flat_strip_that_is_summed_up():
    pixels = torch.zeros(1, 3, 128, 64, requires_grad=True)
    LiteStatistics(2, tile=64, summed_up=True)(pixels).sum().backward()
    assert pixels.grad.isfinite().all()


def test_a_strip_of_broken_tiles_is_refused(strips):
    with pytest.raises(ValueError, match="not made of tiles of 50"):
        LiteStatistics(2, tile=50)(strips)


def test_a_network_comes_back_from_its_file(tmp_path):
    trunk = imagenet_trunk()
    save_trunk(trunk, tmp_path / "trunk.safetensors")
    loaded = load_trunk(tmp_path / "trunk.safetensors")
    assert all((tensor == loaded.state_dict()[name]).all() for name, tensor in trunk.state_dict().items())
