import itertools

import pytest
import torch

from mriqa.distortions import DISTORTIONS, LABELLED, NAMES, distort

RANDOM = {
    "motion_blur",
    "color_shift",
    "white_noise",
    "white_noise_color_component",
    "impulse_noise",
    "multiplicative_noise",
    "denoise",
    "jitter",
    "non_eccentricity_patch",
    "color_block",
}
# Whole numbers of colours, qualities, levels and pixels, between which nothing is continuous.
WHOLE = {"color_quantization", "jpeg", "quantization", "pixelate"}
SIGNED = {"mean_shift", "contrast_change"}
every_distortion = pytest.mark.parametrize("name", NAMES)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_registry_describes_all_25():
    assert len(DISTORTIONS) == 25
    assert [name for name, distortion in DISTORTIONS.items() if distortion.has_labels] == list(LABELLED)
    assert {distortion.category for distortion in DISTORTIONS.values()} == {
        "blur", "color", "compression", "noise", "brightness", "spatial", "sharpness_contrast",
    }  # fmt: skip


@every_distortion
def test_severity_zero_returns_the_image(photos, name):
    images = photos.float()
    # Quantisation passes through 8 bits, so leave it half a step.
    torch.testing.assert_close(distort(images, name, 0.0, seeded()), images, atol=0.5 / 255 + 1e-4, rtol=0)


@every_distortion
@pytest.mark.parametrize("size", [(33, 47), (1, 1), (5, 70)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_dtype_range_and_input_are_kept_at_any_size(name, size, dtype):
    images = torch.rand(3, 3, *size, generator=seeded()).to(dtype)
    before = images.clone()
    result = distort(images, name, torch.tensor([0.1, 0.5, 1.0]), seeded())
    assert result.shape == images.shape and result.dtype == dtype
    assert result.min() >= 0 and result.max() <= 1
    assert torch.equal(images, before)


@every_distortion
def test_same_seed_same_result_and_other_seed_other_result(photos, name):
    first, again = (distort(photos, name, 0.7, seeded()) for _ in range(2))
    assert torch.equal(first, again)
    other = distort(photos, name, 0.7, torch.Generator().manual_seed(6))
    assert torch.equal(first, other) == (name not in RANDOM)


@every_distortion
def test_each_image_gets_its_own_severity_whatever_its_neighbours(photos, name):
    severities = torch.tensor([0.35, 0.9], dtype=torch.float64)
    both = distort(photos, name, severities, seeded())
    if name in RANDOM:
        equal = distort(photos, name, severities[:1].expand(2), seeded())
        torch.testing.assert_close(both[0], equal[0], atol=1e-7, rtol=0)
    else:
        single = torch.cat([distort(photos[b : b + 1], name, float(severities[b])) for b in range(2)])
        torch.testing.assert_close(both, single, atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SIGNED])
def test_distance_from_the_original_grows_with_severity(photos, name):
    steps = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    errors = [float((distort(photos, name, step, seeded()) - photos).square().mean()) for step in steps]
    # The mildest Gaussian blur, motion blur and Lab saturation of KADID-10k change nothing.
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(errors)), errors
    assert errors[-1] > 5e-4


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE])
def test_small_steps_of_severity_make_small_steps_in_the_image(photos, name):
    severities = torch.linspace(0, 1, 26)
    results = torch.stack([distort(photos, name, float(severity), seeded()) for severity in severities])
    steps = (results[1:] - results[:-1]).square().mean(dim=(1, 2, 3, 4)).sqrt()
    whole = (results - photos).square().mean(dim=(1, 2, 3, 4)).sqrt().max()
    assert steps.max() < 0.6 * whole


def test_wrong_inputs_get_one_clear_sentence(photos):
    with pytest.raises(ValueError, match="no distortion 'jpg'; did you mean .*jpeg"):
        distort(photos, "jpg", 0.5)
    with pytest.raises(ValueError, match=r"Severities must lie in \[0, 1\]"):
        distort(photos, "jpeg", 1.5)
    with pytest.raises(ValueError, match=r"Severities must lie in \[0, 1\]"):
        distort(photos, "jpeg", float("nan"))
    with pytest.raises(ValueError, match="one for each of the 2 images"):
        distort(photos, "jpeg", torch.rand(3))
    with pytest.raises(ValueError, match=r"shape \(B, 3, H, W\)"):
        distort(photos[0], "jpeg", 0.5)
    with pytest.raises(ValueError, match=r"shape \(B, 3, H, W\)"):
        distort(photos[:, :1], "jpeg", 0.5)
    with pytest.raises(ValueError, match="divide 8-bit values by 255"):
        distort((photos * 255).byte(), "jpeg", 0.5)
    with pytest.raises(ValueError, match="must lie in"):
        distort(photos * 255, "jpeg", 0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_distortion
def test_cuda_with_a_cpu_generator_equals_cpu(photos, name):
    severities = torch.tensor([0.5, 1.0])
    on_cpu = distort(photos, name, severities, seeded())
    on_cuda = distort(photos.cuda(), name, severities, seeded()).cpu()
    torch.testing.assert_close(on_cuda, on_cpu, atol=1e-5, rtol=0)
