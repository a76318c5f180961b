import pytest
import torch

from mriqa.distortions import noise
from mriqa.distortions.color_spaces import rgb_to_ycbcr

GRAY = torch.full((2, 3, 256, 256), 0.5, dtype=torch.float64)
VARIANCES = torch.tensor([0.001, 0.005], dtype=torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_white_noise_has_the_variance_asked_for():
    added = noise.white_noise(GRAY, VARIANCES, generator()) - GRAY
    torch.testing.assert_close(added.var(dim=(1, 2, 3)), VARIANCES, rtol=0.02, atol=0)
    assert added.mean().abs() < 1e-3
    channels = torch.corrcoef(added[0].flatten(1))
    assert (channels - torch.eye(3)).abs().max() < 0.02


def test_white_noise_color_component_has_the_variance_in_ycbcr():
    result = noise.white_noise_color_component(GRAY, VARIANCES / 5, generator())
    added = rgb_to_ycbcr(result) - rgb_to_ycbcr(GRAY)
    torch.testing.assert_close(added.var(dim=(2, 3)), (VARIANCES / 5)[:, None].expand(2, 3), rtol=0.03, atol=0)


def test_impulse_noise_sets_half_of_its_values_to_each_extreme():
    densities = torch.tensor([0.01, 0.03], dtype=torch.float64)
    result = noise.impulse_noise(GRAY, densities, generator())
    for extreme in (0.0, 1.0):
        shares = (result == extreme).double().mean(dim=(1, 2, 3))
        torch.testing.assert_close(shares, densities / 2, rtol=0.1, atol=0)
    assert ((result == 0.5) | (result == 0) | (result == 1)).all()


def test_multiplicative_noise_scales_with_the_image():
    images = torch.cat([GRAY[:1] / 2, GRAY[1:]])
    result = noise.multiplicative_noise(images, VARIANCES, generator())
    relative = result / images - 1
    torch.testing.assert_close(relative.var(dim=(1, 2, 3)), VARIANCES, rtol=0.02, atol=0)


@pytest.mark.parametrize("side", [64, 61])
def test_denoise_removes_most_noise_from_a_flat_image_and_blurs_a_detailed_one(photos, side):
    flat = GRAY[:, :, :side, :side]
    variances = torch.tensor([0.01, 0.05], dtype=torch.float64)
    left = noise.denoise(flat, variances, generator()) - flat
    assert (left.var(dim=(1, 2, 3)) < 0.06 * variances).all()
    gradients = [image.diff(dim=-1).abs().mean() for image in (noise.denoise(photos, variances, generator()), photos)]
    assert gradients[0] < 0.8 * gradients[1]


def test_dct_basis_is_orthonormal():
    basis = noise._dct_basis(8, GRAY)
    torch.testing.assert_close(basis @ basis.T, torch.eye(64, dtype=torch.float64))
