"""The map of a picture's quality: where its windows lie, how they are laid together, and what is drawn of it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from brightness import Brightness
from half_spoiled import SPOILERS, half_spoiled
from PIL import Image

from mriqa.scoring import Scorer
from mriqa.scoring.map_drawing import LONGEST, draw_map, overlay
from mriqa.scoring.quality_map import MapSettings, QualityMap, Window, lay_together, place_windows, quality_map


def scorer(views=None, refused: float = 0.0) -> Scorer:
    return Scorer(None, None, backend=Brightness(refused), views=views)


def halves(left: int, right: int, size=(400, 300)) -> Image.Image:
    picture = Image.new("RGB", size, (left,) * 3)
    picture.paste((right,) * 3, (size[0] // 2, 0, *size))
    return picture


@pytest.mark.parametrize("size", [(1, 1), (63, 64), (512, 512), (3, 4000), (6000, 4000), (1921, 1080)])
@pytest.mark.parametrize("most", [1, 7, 64])
def test_windows_cover_the_picture_and_overlap_by_half(size, most):
    width, height = size
    places = place_windows(width, height, MapSettings(most=most))
    assert 1 <= len(places) <= most and len({(place.width, place.height) for place in places}) == 1
    for length, spans in (
        (width, sorted({(place.left, place.width) for place in places})),
        (height, sorted({(place.top, place.height) for place in places})),
    ):
        assert spans[0][0] == 0 and sum(spans[-1]) == length
        assert all(later[0] - earlier[0] <= earlier[1] / 2 + 1 for earlier, later in pairwise(spans))


def test_a_pixel_is_the_mean_of_its_windows_weighted_by_raised_cosines():
    """Against a loop over pixels and windows."""
    random = np.random.default_rng(0)
    windows = [
        Window(place.left, place.top, place.width, place.height, random.uniform(1, 5))
        for place in place_windows(90, 70, MapSettings())
    ]
    windows[3] = Window(*[getattr(windows[3], name) for name in ("left", "top", "width", "height")], math.nan)
    found = lay_together(windows, 90, 70)
    assert found.shape == (70, 90) and found.dtype == np.float32
    for y, x in random.integers(0, (70, 90), (200, 2)):
        total = weight = 0.0
        for one in windows:
            across, down = (x + 0.5 - one.left) / one.width, (y + 0.5 - one.top) / one.height
            if 0 < across < 1 and 0 < down < 1 and not math.isnan(one.score):
                share = (0.5 - 0.5 * math.cos(2 * math.pi * across)) * (0.5 - 0.5 * math.cos(2 * math.pi * down))
                total, weight = total + share * one.score, weight + share
        assert found[y, x] == (
            pytest.approx(total / weight, abs=1e-5) if weight else pytest.approx(math.nan, nan_ok=True)
        )


def test_a_large_map_has_fewer_values_at_the_same_places():
    windows = [Window(0, 0, 2000, 1000, 2.0), Window(2000, 0, 2000, 1000, 4.0)]
    found = lay_together(windows, 4000, 1000)
    assert found.shape == (256, 1024)
    assert np.all(found[:, :512] == 2) and np.all(found[:, 512:] == 4)


def test_the_bad_half_is_where_the_map_is_low():
    found = quality_map(scorer(), halves(51, 204))
    assert found.values_HW.shape == (300, 400)
    assert found.values_HW[:, :100].max() < found.values_HW[:, 300:].min()
    assert found.values_HW[0, 0] == pytest.approx(1.8) and found.values_HW[-1, -1] == pytest.approx(4.2)


def test_windows_reach_the_model_at_their_own_scale_whatever_its_views():
    """A window is continued by its mirror images up to the side of the crops, and neither shrunk nor cut."""
    looking = scorer({"limit": 100, "crop": 448})
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8))
    found = quality_map(looking, picture)
    first, seen = found.windows[0], np.asarray(looking.backend.seen[0])
    assert seen.shape == (448, 448, 3) and first.width == 96
    window = np.asarray(picture)[:96, :96]
    assert (seen[:96, :96] == window).all() and (seen[96:192, :96] == window[::-1]).all()
    assert (seen[:96, 96:192] == window[:, ::-1]).all()


def test_a_picture_that_is_resized_before_it_is_scored_is_mapped_so(tmp_path):
    halves(0, 255, (100, 40)).save(tmp_path / "a.png")
    assert quality_map(scorer({"size": 200}), tmp_path / "a.png").values_HW.shape == (200, 200)


def test_windows_without_a_score_leave_no_mark():
    found = quality_map(scorer(refused=3), halves(20, 255))
    assert found.scored and np.isnan(found.values_HW[:, 0]).all() and (found.values_HW[:, -1] == 5).all()
    assert not quality_map(scorer(refused=3), halves(20, 20)).scored


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="of at least 16 pixels"):
        MapSettings(window=8)


def test_the_map_is_drawn_over_the_picture_from_violet_to_yellow():
    """Colours by viridis' published ends: (68, 1, 84) at the bottom, (253, 231, 37) at the top."""
    picture = halves(100, 100, (300, 200))
    found = quality_map(scorer(), halves(0, 255, (300, 200)))
    drawn = np.asarray(overlay(picture, found)).astype(int)
    grey = np.array([24 + 100 * 231 / 255] * 3)  # 100 of 255 in the overlay's range of greys
    for x, colour in ((0, (68, 1, 84)), (299, (253, 231, 37))):
        np.testing.assert_allclose(drawn[100, x], 0.34 * grey + 0.66 * np.array(colour), atol=3)
    nowhere = QualityMap(np.full((200, 300), np.nan, np.float32), ())
    assert np.ptp(np.asarray(overlay(picture, nowhere))[0, 0].astype(int)) <= 1  # grey


@pytest.mark.parametrize("size", [(512, 512), (3000, 400), (20, 600), (8, 8)])
def test_a_sheet_has_both_pictures_whatever_their_shape(size):
    picture = halves(10, 240, size)
    sheet = draw_map(picture, quality_map(scorer(), picture), 3.0)
    assert 400 < sheet.width <= 2 * LONGEST + 48
    scale = max(192 / max(size), min(1, LONGEST / max(size)))
    width, middle = round(size[0] * scale), 16 + round(size[1] * scale) // 2
    assert sheet.getpixel((17, middle))[0] <= 12 and sheet.getpixel((15 + width, middle))[0] >= 238  # as it is


def test_the_default_model_finds_the_spoiled_half(shared_data):
    """Blur, JPEG and lost resolution by Pillow over one half of photographs."""
    judge = Scorer.from_pretrained(device="cpu")
    found = []
    for number, path in enumerate(sorted(shared_data("photos").glob("*.webp"))[::25]):
        photograph = Image.open(path).convert("RGB")
        for spoil in SPOILERS.values():
            picture, inside_HW = half_spoiled(photograph, spoil, number)
            values_HW = quality_map(judge, picture, MapSettings(most=16)).values_HW
            found.append(values_HW[inside_HW].mean() < values_HW[~inside_HW].mean())
    assert np.mean(found) >= 0.9
