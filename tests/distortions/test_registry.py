import csv
import itertools
import re
from pathlib import Path

import pytest
import torch

from mriqa.distortions import (
    DISTORTIONS,
    LABELLED,
    NAMES,
    Distortion,
    DistortionError,
    Ratings,
    distort,
    mean_mos,
    parameter,
    rater_std,
    register,
)
from mriqa.embedded.dataset import DatasetSettings

EXTENDING = Path(__file__).parents[2] / "docs" / "extending.md"
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


def test_registry_describes_all_25_as_kadid_10k_does():
    """Names in the order of their numbers, categories, and labels where a parameter is stated for each level."""
    with (Path(__file__).parents[1] / "reference" / "kadid_levels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [DISTORTIONS[name].name for name in NAMES] == list(dict.fromkeys(row["name"] for row in rows))
    assert {name: DISTORTIONS[name].category for name in NAMES} == {row["name"]: row["category"] for row in rows}
    unstated = {row["name"] for row in rows if not row["parameter"]}
    assert unstated == {"color_quantization", "denoise", "mean_shift", "contrast_change"}
    assert {name for name in NAMES if not DISTORTIONS[name].has_labels} == unstated == set(NAMES) - set(LABELLED)


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


def fade(images_BCHW, amount_B, generator=None):
    """A distortion as a user would write one: towards grey."""
    return torch.lerp(images_BCHW, torch.full_like(images_BCHW, 0.5), amount_B[:, None, None, None])


@pytest.fixture
def faded():
    register(Distortion("fade", "brightness", fade, identity=0.0, levels=(0.1, 0.4)))
    yield
    del DISTORTIONS["fade"]


def test_a_distortion_can_be_added_without_ratings(photos, faded):
    torch.testing.assert_close(distort(photos, "fade", 0.0), photos)
    torch.testing.assert_close(distort(photos, "fade", torch.tensor([0.5, 0.75])),
                               torch.stack([0.9 * photos[0] + 0.05, 0.75 * photos[1] + 0.125]))  # fmt: skip
    assert parameter("fade", torch.tensor([1.0])).item() == pytest.approx(0.4)
    assert "fade" not in NAMES and not DISTORTIONS["fade"].has_labels
    for question in (
        lambda: mean_mos("fade", 0.5),
        lambda: rater_std("fade", 0.5),
        lambda: DatasetSettings(distortions=("fade",)),
    ):
        with pytest.raises(DistortionError, match="'fade' carries no human scores; those that do are gaussian_blur"):
            question()
    with pytest.raises(DistortionError, match="'fade' carries no human scores"):
        DISTORTIONS["fade"].mean_mos(0.5)
    with pytest.raises(DistortionError, match="did you mean fade"):
        distort(photos, "fades", 0.5)
    with pytest.raises(DistortionError, match="from undistorted to level 2"):
        distort(photos, "fade", 2.0)
    with pytest.raises(DistortionError, match="a distortion 'fade' already"):
        register(DISTORTIONS["fade"])


def test_ratings_of_an_added_distortion_are_those_at_its_levels():
    rated = Distortion("fade", "brightness", fade, 0.0, (0.1, 0.4), Ratings((4.0, 2.0), (0.5, 0.7)))
    assert (rated.mean_mos(0.5), rated.mean_mos(0.75), rated.mean_mos(1.0)) == (4.0, 3.0, 2.0)
    assert rated.rater_std(0.75) == pytest.approx(0.6)
    with pytest.raises(DistortionError, match=r"in \[0.5, 1\], levels 1 to 2, not 0.4"):
        rated.mean_mos(0.4)


@pytest.mark.parametrize("identity, levels, ratings, says", [
    (0.0, (), None, "needs a finite identity and at least one finite level"),
    (float("nan"), (1.0,), None, "needs a finite identity"),
    (0.0, (1.0, float("inf")), None, "needs a finite identity"),
    (0.0, (1.0, 2.0), Ratings((4.0,), (0.5,)), "has 2 levels, 1 mean scores and 1 deviations"),
    (0.0, (1.0, 2.0), Ratings((4.0, 3.0), (0.5,)), "2 mean scores and 1 deviations"),
    (0.0, (1.0,), Ratings((4.0,), (0.5,)), "rate each of at least two levels"),
])  # fmt: skip
def test_a_distortion_that_cannot_be(identity, levels, ratings, says):
    with pytest.raises(DistortionError, match=says):
        Distortion("fade", "brightness", fade, identity, levels, ratings)


def test_the_distortion_of_the_documentation_distorts():
    section = EXTENDING.read_text().split("## A distortion")[1]
    example = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)[0]
    namespace: dict = {}
    try:
        exec(example, namespace)
        images = torch.zeros(1, 3, 4, 4)
        torch.testing.assert_close(distort(images, "fade", 0.6), torch.full_like(images, 0.2))  # 0.4 of the way to ½
    finally:
        DISTORTIONS.pop("fade", None)
