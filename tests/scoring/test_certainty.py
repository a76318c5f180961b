"""How sure a score is: coverage of the intervals, what is strange, and what lies beside the model."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from brightness import Brightness
from PIL import Image, ImageDraw, ImageFilter
from small_calibration import SMALL_CALIBRATION

from mriqa.eval.report import markdown_table
from mriqa.manifest.rows import RatedImage
from mriqa.scoring import Scorer
from mriqa.scoring.calibrating import COVERAGE_COLUMNS, Observed, calibrate, coverage_rows, fit
from mriqa.scoring.certainty import CALIBRATION_FILE, LEVELS, Calibration, CalibrationError
from mriqa.scoring.picture_statistics import STATISTICS, picture_statistics


def observed(n_contents: int, seed: int, each: int = 8, with_std: bool = True) -> Observed:
    """Scores whose errors are normal with deviation sqrt(0.2² + (2 std)²), and a part of which is the content's."""
    random = np.random.default_rng(seed)
    content_N = np.repeat(np.arange(n_contents), each)
    std_N = random.uniform(0.05, 0.35, len(content_N))
    shared_N, own_N = random.standard_normal(n_contents)[content_N], random.standard_normal(len(content_N))
    error_N = np.sqrt(0.2**2 + (2 * std_N) ** 2) * (0.5 * shared_N + 0.75**0.5 * own_N)
    mos_N = random.uniform(2, 4, len(content_N))
    statistics_ND = random.standard_normal((len(content_N), len(STATISTICS)))
    own = std_N if with_std else np.full_like(std_N, math.nan)
    return Observed(mos_N - error_N, own, mos_N, statistics_ND, content_N, "expected")


def test_intervals_hold_on_new_pictures_and_are_wide_where_errors_are():
    found = fit(observed(150, 0))
    new = observed(600, 1)
    spread_N = np.array([found.spread(std, 0.0) for std in new.std_N])
    for level in LEVELS:
        edges_N2 = np.array([found.interval(*pair, level) for pair in zip(new.score_N, spread_N)])
        inside_N = (edges_N2[:, 0] <= new.mos_N) & (new.mos_N <= edges_N2[:, 1])
        assert inside_N.mean() == pytest.approx(level, abs=0.04)
        sure_N = new.std_N < 0.2
        assert inside_N[sure_N].mean() == pytest.approx(inside_N[~sure_N].mean(), abs=0.06)
        assert found.coverage[str(level)]["covered"] == pytest.approx(level, abs=0.06)
    # The formula that the errors were drawn by.
    assert (found.floor, found.gain) == (pytest.approx(0.2, abs=0.08), pytest.approx(2, abs=0.35))


def test_a_model_without_a_spread_gets_one_interval_for_all():
    found = fit(observed(60, 0, with_std=False))
    assert found.gain == 0 and found.spread(math.nan, 0) == found.spread(0.3, 0) == found.floor
    assert found.coverage["0.8"]["covered"] == pytest.approx(0.8, abs=0.08)


def test_strange_pictures_get_the_widest_intervals():
    found = fit(observed(60, 0))
    spreads = [found.spread(0.1, strangeness) for strangeness in (0, 0.3, 1)]
    assert spreads == sorted(spreads) and spreads[-1] == pytest.approx(found.prior)
    assert found.prior >= 1.25 * max(found.spread(std, 0) for std in observed(60, 0).std_N)
    assert found.interval(4.9, found.prior)[1] == 5 and found.interval(1.1, 9.0) == (1, 5)
    with pytest.raises(ValueError, match="none of 0.9"):
        found.interval(3, 1, 0.9)


def test_too_few_pictures_are_one_sentence():
    with pytest.raises(CalibrationError, match="these are 56 of 7"):
        fit(observed(7, 0))


def test_it_is_kept_beside_the_model_and_broken_ones_are_one_sentence(tmp_path):
    assert Calibration.load(tmp_path) is None
    found = SMALL_CALIBRATION
    assert found.save(tmp_path) == tmp_path / CALIBRATION_FILE
    again = Calibration.load(tmp_path)
    page = [Image.new("RGB", (9, 9))]
    assert again == found and again.strangeness(page) == found.strangeness(page)
    kept = json.loads((tmp_path / CALIBRATION_FILE).read_text())
    for broken in ("{", "[]", json.dumps(kept | {"floor": None}), json.dumps({**kept, "familiar": {}})):
        (tmp_path / CALIBRATION_FILE).write_text(broken)
        with pytest.raises(CalibrationError, match="make it again with `mriqa calibrate`"):
            Calibration.load(tmp_path)


def photographs() -> list[Image.Image]:
    """Squares of the photographs in scikit-image, as they are and spoiled by Pillow."""
    from skimage import data

    squares = []
    for name in ("astronaut", "coffee", "chelsea", "rocket", "retina", "immunohistochemistry"):
        whole = Image.fromarray(getattr(data, name)())
        for left, top in ((0, 0), (whole.width - 256, 0), (0, whole.height - 256)):
            squares.append(whole.crop((left, top, left + 256, top + 256)))
    blurred = [square.filter(ImageFilter.GaussianBlur(2)) for square in squares]
    dark = [square.point(lambda level: level // 3) for square in squares]
    random = np.random.default_rng(0)
    noisy = [
        Image.fromarray((np.asarray(square) + random.normal(0, 25, (256, 256, 3))).clip(0, 255).astype(np.uint8))
        for square in squares
    ]
    return [*squares, *blurred, *dark, *noisy]


def strange() -> dict[str, Image.Image]:
    """Blank pages, noise, a screenshot and a drawing, by code of the test's own."""
    random = np.random.default_rng(5)
    screenshot = Image.new("RGB", (512, 384), "#ececec")
    pen = ImageDraw.Draw(screenshot)
    pen.rectangle((0, 0, 512, 28), fill="#3465a4")
    for line in range(20):
        pen.text((20, 40 + 17 * line), "File  Edit  View  0123 lorem ipsum dolor sit amet " * 2, fill="#111")
    drawing = Image.new("RGB", (512, 384), "white")
    pen = ImageDraw.Draw(drawing)
    for k in range(24):
        pen.arc((20 * k, 10 * k, 20 * k + 150, 10 * k + 120), 10 * k, 200 + 9 * k, fill="black", width=3)
    return {
        "white page": Image.new("RGB", (512, 384), "white"),
        "grey page": Image.new("RGB", (300, 300), (127, 127, 127)),
        "noise": Image.fromarray(random.integers(0, 256, (384, 512, 3), np.uint8)),
        "grey noise": Image.fromarray(random.integers(0, 256, (384, 512), np.uint8)).convert("RGB"),
        "patches": Image.fromarray(random.integers(0, 256, (12, 12), np.uint8)).resize((400, 400)).convert("RGB"),
        "screenshot": screenshot,
        "drawing": drawing,
    }


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Scorer:
    """Brightness as a model, checked on photographs whose ratings are brightness and an error of 0.2 points."""
    folder, random = tmp_path_factory.mktemp("rated"), np.random.default_rng(1)
    rows = []
    for number, picture in enumerate(photographs()):
        picture.save(folder / f"{number}.png")
        mos = 1 + 4 * np.asarray(picture).mean() / 255 + 0.2 * random.standard_normal()
        rows.append(RatedImage(folder / f"{number}.png", mos, None, "x", f"content {number % 18}", str(number)))
    scorer = Scorer(None, None, backend=Brightness())
    return Scorer(None, None, backend=scorer.backend, calibration=calibrate(scorer, rows))


def test_blank_pages_noise_screenshots_and_drawings_are_less_certain_than_photographs(calibrated):
    photographed = [score.std for score in calibrated.score(photographs())]
    for name, picture in strange().items():
        (score,) = calibrated.score([picture])
        assert score.std > np.quantile(photographed, 0.9) and score.strangeness > 0.5, name


def test_a_score_comes_with_its_interval_and_rows_with_its_ends(calibrated):
    from mriqa.scoring.jobs.batch import to_row

    picture = photographs()[0]
    (score,), (plain,) = calibrated.score([picture]), calibrated.uncalibrated().score([picture])
    assert score.score == plain.score and plain.interval is None and plain.strangeness is None
    found = calibrated.calibration
    assert score.std == found.spread(plain.std, score.strangeness) != plain.std
    reach = found.multiples["0.8"] * score.std
    assert score.interval == (max(1, score.score - reach), min(5, score.score + reach))
    assert (to_row(score)["low"], to_row(score)["high"]) == score.interval and to_row(plain)["low"] is None
    (refused,) = calibrated.score([b"no picture"])
    assert refused.interval is None and to_row(refused)["low"] is None


def test_another_readout_takes_no_intervals_of_this_one(calibrated):
    other = replace(calibrated.calibration, readout="greedy")
    assert Scorer(None, None, backend=Brightness(), calibration=other).calibration is None


def test_the_table_for_a_card():
    assert markdown_table(coverage_rows(SMALL_CALIBRATION), COVERAGE_COLUMNS).splitlines() == [
        "|  | ratings inside | mean width |",
        "| --- | ---: | ---: |",
        "| 80% interval | 81.2 % | 1.500 |",
    ]


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (31, 33), (2000, 1500)])
def test_statistics_of_any_shape_are_finite(size):
    random = np.random.default_rng(0)
    for pixels in (np.zeros((*size, 3)), random.integers(0, 256, (*size, 3))):
        found = picture_statistics(Image.fromarray(pixels.astype(np.uint8)))
        assert found.shape == (len(STATISTICS),) and np.isfinite(found).all()


def test_statistics_of_pixels_one_can_count():
    """A board of 8 × 8 pixel fields: of 15 neighbours in 16 pixels one differs, and all its edges are straight."""
    board = (np.indices((64, 64)) // 8).sum(axis=0) % 2 * 255
    found = dict(zip(STATISTICS, picture_statistics(Image.fromarray(board.astype(np.uint8)).convert("RGB"))))
    assert found["equal_neighbours"] == pytest.approx(28 / 31)  # of 31 in a tile of 32, three differ
    assert found["colours"] == pytest.approx(math.log10(2)) and found["colour_entropy"] == pytest.approx(1)
    assert (found["commonest_colour"], found["extremes"]) == (0.5, 1)
    assert found["channels_agree"] == pytest.approx(1, abs=0.01) and found["uneven"] == 0
    assert found["straight_edges"] > 0.85  # all but at the corners of the fields
