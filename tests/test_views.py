"""Crops of a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mriqa.views import ViewSettings, views

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def test_whole_picture_by_default():
    (whole,) = views(PICTURE, ViewSettings.from_dict(None))
    assert np.array_equal(np.asarray(whole), PIXELS)


def test_four_corners_and_the_centre():
    found = [np.asarray(view) for view in views(PICTURE, ViewSettings(crop=20, count=5))]
    corners = [PIXELS[:20, :20], PIXELS[:20, 30:], PIXELS[10:, :20], PIXELS[10:, 30:], PIXELS[5:25, 15:35]]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, corners, strict=True))


def test_the_centre_alone():
    (centre,) = views(PICTURE, ViewSettings(crop=20))
    assert np.array_equal(np.asarray(centre), PIXELS[5:25, 15:35])


def test_a_side_shorter_than_the_crop_is_taken_whole_and_no_crop_comes_twice():
    found = [np.asarray(view) for view in views(PICTURE, ViewSettings(crop=40, count=5))]  # of 50 x 30 pixels
    expected = [PIXELS[:, :40], PIXELS[:, 10:], PIXELS[:, 5:45]]
    assert len(found) == 3 and all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert len(views(PICTURE, ViewSettings(crop=64, count=5))) == 1


def test_limit_shrinks_large_pictures_only():
    assert [view.size for view in views(PICTURE, ViewSettings(limit=15))] == [(25, 15)]
    assert [view.size for view in views(PICTURE, ViewSettings(limit=30))] == [(50, 30)]


def test_resizes_first_with_bicubic():
    (resized,) = views(PICTURE, ViewSettings(size=64))
    assert np.array_equal(np.asarray(resized), np.asarray(PICTURE.resize((64, 64), Image.Resampling.BICUBIC)))
    assert [view.size for view in views(PICTURE, ViewSettings(size=64, crop=48, count=5))] == [(48, 48)] * 5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"count": 3}, "count must be 1"),
        ({"count": 5}, "need a crop size"),
        ({"size": 0}, "size must be a number of pixels"),
        ({"crops": 5}, "Unknown view setting 'crops'"),
    ],
)
def test_impossible_settings_are_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        ViewSettings.from_dict(settings)
