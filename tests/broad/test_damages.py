"""Every damage: repeatable, of 8 bits, hardly there at severity 0 and far from the original at 1."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mriqa.broad.damage_table import DAMAGES, KINDS
from mriqa.broad.damages.exposure import displayed, light
from mriqa.broad.damages.softness import motion

SIDE = 128


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    image = Image.open(Path(str(files("skimage"))) / "data" / "coffee.png").convert("RGB")
    return np.asarray(image.crop((150, 100, 150 + 2 * SIDE, 100 + 2 * SIDE)).resize((SIDE, SIDE)))


def error(spoiled: np.ndarray, original: np.ndarray) -> float:
    return float(np.sqrt(((spoiled.astype(float) - original.astype(float)) ** 2).mean()))


@pytest.mark.parametrize("name", DAMAGES)
def test_grows_with_the_severity_and_repeats_itself(name, photograph):
    damage, before = DAMAGES[name], photograph.copy()
    spoiled = [damage.function(photograph, severity, np.random.default_rng(4)) for severity in (0.0, 0.5, 1.0)]
    again = damage.function(photograph, 0.5, np.random.default_rng(4))
    assert all(one.shape == photograph.shape and one.dtype == np.uint8 for one in spoiled)
    assert np.array_equal(spoiled[1], again)
    assert np.array_equal(photograph, before)
    errors = [error(one, photograph) for one in spoiled]
    assert errors[0] < errors[2] and errors[2] > 8
    assert damage.kind in KINDS


def test_names_are_unique_and_every_labelled_distortion_is_there():
    from mriqa.distortions import LABELLED

    assert {damage.rated for damage in DAMAGES.values() if damage.rated} == set(LABELLED)


def test_light_is_that_of_iec_61966():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert light(pixels)[11, 12, 0] == pytest.approx(0.5028865, abs=1e-6)  # of 188
    assert np.abs(displayed(light(pixels)) * 255 - pixels).max() < 1e-3


def test_motion_spreads_a_point_over_its_length_and_keeps_its_light():
    point = np.zeros((101, 101, 3), np.uint8)
    point[49:52, 49:52] = 255
    spoiled = motion(point, 0.5, np.random.default_rng(0)).astype(float)
    rows, columns = np.nonzero(spoiled[..., 0] > 2)
    assert np.hypot(np.ptp(rows), np.ptp(columns)) == pytest.approx((2.5 * 45) ** 0.5 + 2, abs=3)
    assert spoiled.sum() == pytest.approx(point.sum(), rel=0.05)
