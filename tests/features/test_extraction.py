"""Extraction in batches, its cache, and what happens when it is killed or meets a bad picture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mriqa.features import FeatureError, callable_encoder, extract
from mriqa.images import ImageError
from mriqa.views import ViewSettings, views


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Seven pictures of different sizes."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(7)]
    for index, path in enumerate(paths):
        Image.fromarray(generator.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)).save(path)
    return paths


def colours(images):
    return np.stack([np.asarray(image, dtype=np.float64).mean((0, 1)) for image in images])


class Counting:
    def __init__(self):
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        return colours(images)


def test_batches_order_and_views(files, tmp_path):
    counting = Counting()
    features = extract(files, callable_encoder("colours", counting), batch_size=3)
    assert counting.batches == [3, 3, 1] and features.dtype == np.float32
    np.testing.assert_allclose(features, colours([Image.open(f) for f in files]), rtol=1e-6)

    five = ViewSettings(crop=16, count=5)
    seen = extract(files, callable_encoder("colours", colours), look=five, cache=tmp_path / "cache")
    expected = [colours(views(Image.open(file), five)).mean(axis=0) for file in files]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    whole = extract(files, callable_encoder("colours", colours), cache=tmp_path / "cache")
    np.testing.assert_allclose(whole, features)  # features of other views are not found by mistake


def test_the_cache_goes_by_content_and_encoder(files, tmp_path):
    cache = tmp_path / "cache"
    first = extract(files, callable_encoder("colours", Counting()), cache=cache)
    renamed = tmp_path / "renamed.png"
    files[2].rename(renamed)
    Image.new("RGB", (8, 8), (9, 9, 9)).save(files[0])  # another picture under an old name
    counting = Counting()
    again = extract([files[0], files[1], renamed, renamed], callable_encoder("colours", counting), cache=cache)
    assert sum(counting.batches) == 1
    np.testing.assert_array_equal(again, [[9, 9, 9], first[1], first[2], first[2]])
    other = Counting()
    extract(files[3:], callable_encoder("other", other), cache=cache)
    assert sum(other.batches) == 4


def test_a_broken_cache_file_is_computed_again(files, tmp_path):
    cache = tmp_path / "cache"
    first = extract(files, callable_encoder("colours", colours), cache=cache)
    for stored in cache.rglob("*.safetensors"):
        stored.write_bytes(stored.read_bytes()[:10])
    with pytest.warns(UserWarning, match="is broken and computed again"):
        np.testing.assert_array_equal(extract(files, callable_encoder("colours", colours), cache=cache), first)


SLOW = """
import sys, time
import numpy as np
from mriqa.features import callable_encoder, extract
def slow(images):
    time.sleep(0.05)
    return np.stack([np.asarray(i, dtype=float).mean((0, 1)) for i in images])
cache, *files = sys.argv[1:]
extract(files, callable_encoder("colours", slow), cache=cache, batch_size=1)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_killed_job_goes_on_where_it_stopped(files, tmp_path):
    cache = tmp_path / "cache"
    many = [*files]
    for index in range(40):
        many.append(tmp_path / f"more-{index}.png")
        Image.new("RGB", (8, 8), (index, 0, 0)).save(many[-1])
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(cache), *map(str, many)])
    while len(list(cache.rglob("*.safetensors"))) < 5 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() != 0
    counting = Counting()
    features = extract(many, callable_encoder("colours", counting), cache=cache)
    assert 0 < sum(counting.batches) <= len(many) - 5
    np.testing.assert_allclose(features, colours([Image.open(f) for f in many]), rtol=1e-6)


def test_a_bad_picture_names_itself(files, tmp_path):
    files[4].write_bytes(files[4].read_bytes()[:60])
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(ImageError, match=r"4\.png.*truncated or corrupt"):
            extract(files, callable_encoder("colours", colours), cache=cache)
        with pytest.raises(ImageError, match=r"gone\.png.*does not exist"):
            extract([tmp_path / "gone.png"], callable_encoder("colours", colours), cache=cache)


def test_features_that_cannot_be_used(files):
    with pytest.raises(FeatureError, match="There are no pictures"):
        extract([], callable_encoder("colours", colours))
    with pytest.raises(FeatureError, match=r"shape \(3,\) for 7 pictures"):
        extract(files, callable_encoder("one row", lambda images: np.zeros(3)))
    with pytest.raises(FeatureError, match=r"NaN or infinity for .*0\.png"):
        extract(files, callable_encoder("nan", lambda images: np.full((len(images), 2), np.nan)))
    with pytest.raises(FeatureError, match=r"gives 3 features for .*4\.png and 4 for others"):
        extract(files, callable_encoder("varying", lambda images: np.zeros((len(images), len(images)))), batch_size=4)
