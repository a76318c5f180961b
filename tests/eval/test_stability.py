"""How far scores move, with scorers whose moves can be worked out by hand."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import mriqa
from mriqa.distortions import distort
from mriqa.errors import UserError
from mriqa.eval.stability import (
    PICTURE_CHANGES,
    RunChange,
    StabilityError,
    certificate,
    distortion_changes,
    measure_stability,
    read_stability,
    stability_rows,
)
from mriqa.scoring.reading import Reading


class LeftHalf:
    """Scores the brightness of the left half; with the batch's size, or not, on top. Refuses black pictures."""

    readout_name = "expected"

    def __init__(self, of_batch: float = 0.0):
        self.of_batch = of_batch

    def read(self, pictures, seed):
        return [self._one(np.asarray(picture, dtype=float), len(pictures)) for picture in pictures]

    def _one(self, pixels, count):
        left = pixels[:, : max(1, pixels.shape[1] // 2)].mean() / 255
        if pixels.max() == 0:
            return "black."
        return Reading(np.array([1 + 3 * left + self.of_batch * count]), np.array([1.0]), exact=True)


@pytest.fixture
def pictures(tmp_path):
    """Five pictures, the left half of one grey and the right half of another; the edge runs through JPEG's blocks."""
    rng = np.random.default_rng(0)
    paths = []
    for k in range(5):
        pixels = np.zeros((32, 60, 3), dtype=np.uint8)
        pixels[:, :30], pixels[:, 30:] = rng.integers(20, 230, 2)[:, None]
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        paths.append(tmp_path / f"{k}.png")
    return paths


def scorer(of_batch=0.0, **options):
    return mriqa.Scorer(None, None, backend=LeftHalf(of_batch), **options)


def halves(path):
    pixels = np.asarray(Image.open(path), dtype=float)
    return 1 + 3 * pixels[0, 0, 0] / 255, 1 + 3 * pixels[0, -1, 0] / 255


def test_mirroring_moves_a_scorer_of_the_left_half_by_the_difference_of_the_halves(pictures):
    found = measure_stability(scorer(), pictures)
    rows = stability_rows(found)
    assert set(PICTURE_CHANGES) < set(rows) and found["pictures"] == 5 and found["readout"] == "expected"
    left, right = (np.array(each) for each in zip(*map(halves, pictures), strict=True))
    moves = np.abs(left - right)
    mirrored = rows["mirrored"]
    assert mirrored["move_mean"] == pytest.approx(moves.mean()) and mirrored["move_max"] == pytest.approx(moves.max())
    assert mirrored["srcc_with_plain"] == pytest.approx(stats.spearmanr(left, right).statistic)
    change = next(change for change in found["changes"] if change["name"] == "mirrored")
    assert change["worst"] == f"{moves.argmax()}.png" and change["lost"] == 0
    for name in (
        "5 % cut off each side",
        "5 % of mirrored border added",
        "batch size 1 instead of 8",
        "order reversed",
    ):
        assert rows[name]["move_max"] < 1e-9 and rows[name]["srcc_with_plain"] == pytest.approx(1)
    assert 0 < rows["encoded again, JPEG quality 75"]["move_max"] < 0.05  # the edge rings a little, 8 bits round


def test_another_batch_size_and_order_move_a_scorer_that_looks_at_its_batch(pictures):
    """Batches of 4 and 1: alone each loses 0.4 · 3 or nothing; reversed, the first and the last change places."""
    rows = stability_rows(measure_stability(scorer(of_batch=0.1, batch_size=4), pictures))
    assert rows["batch size 1 instead of 4"]["move_mean"] == pytest.approx((4 * 0.3 + 0) / 5)
    assert rows["order reversed"]["move_mean"] == pytest.approx((0.3 + 0.3) / 5)
    assert rows["order reversed"]["move_max"] == pytest.approx(0.3)
    # Alone in its batch, or in one with a wider picture.
    alone = stability_rows(measure_stability(scorer(of_batch=0.1, batch_size=1), pictures))
    assert alone["in a batch with a wider picture (padding)"]["move_mean"] == pytest.approx(0.1)
    assert "batch size 8 instead of 1" in stability_rows(measure_stability(scorer(batch_size=1), pictures))


def test_pictures_without_a_score_take_no_part_and_what_cannot_be_opened_is_told(pictures, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")

    def refuse():
        raise UserError("There is no such backend.")

    more = {"backend x": RunChange(refuse), "brighter": RunChange(lambda: scorer(of_batch=1.0, batch_size=1))}
    listed = [*pictures, tmp_path / "black.png", tmp_path / "broken.png"]
    found = measure_stability(scorer(), listed, more)
    assert found["pictures"] == 5 and {change["n"] for change in found["changes"]} == {5}
    assert found["left_out"] == {"backend x": "There is no such backend."}
    assert stability_rows(found)["brighter"]["move_mean"] == pytest.approx(1)
    with pytest.raises(StabilityError, match="two pictures that have a score"):
        measure_stability(scorer(), listed[-3:])


def test_equal_scores_have_no_rank_correlation(tmp_path):
    for k in range(3):
        Image.new("RGB", (4, 4), (100,) * 3).save(tmp_path / f"{k}.png")
    rows = stability_rows(measure_stability(scorer(), sorted(tmp_path.glob("*.png"))))
    assert rows["mirrored"]["srcc_with_plain"] is None and rows["mirrored"]["move_max"] == 0


@pytest.mark.parametrize("name", PICTURE_CHANGES)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (64, 48)])
def test_changes_take_pictures_of_any_size(name, size):
    changed = PICTURE_CHANGES[name](Image.new("RGB", size, (9, 99, 199)))
    assert changed.mode == "RGB" and min(changed.size) >= 1
    if "cut off" in name and min(size) > 2:
        margin = 2 * max(1, math.floor(0.05 * size[0])) if "5 %" in name else 2
        assert changed.width == size[0] - margin


def test_what_lies_beside_a_model_is_read_or_said_to_be_broken(pictures, tmp_path):
    assert read_stability(tmp_path) is None
    found = measure_stability(scorer(), pictures)
    (tmp_path / "stability.json").write_text(json.dumps(found))
    read = read_stability(tmp_path)
    assert read is not None and stability_rows(read) == stability_rows(found)
    (tmp_path / "stability.json").write_text('{"changes": [{}]}')
    with pytest.raises(StabilityError, match=r"stability.json is broken; write it again with `mriqa stability"):
        read_stability(tmp_path)


class OfAverage(LeftHalf):
    """Scores the mean brightness of the whole picture."""

    def _one(self, pixels, count):
        return Reading(np.array([1 + 4 * pixels.mean() / 255]), np.array([1.0]), exact=True)


def test_a_black_border_darkens_by_its_share_and_the_certificate_names_the_largest_moves(pictures):
    found = measure_stability(mriqa.Scorer(None, None, backend=OfAverage()), pictures)
    plain = np.array([1 + 4 * np.asarray(Image.open(path), float).mean() / 255 for path in pictures])
    kept = 32 * 60 / ((32 + 4) * (60 + 6))
    moved = stability_rows(found)["5 % of black border added"]
    assert moved["move_mean"] == pytest.approx(((plain - 1) * (1 - kept)).mean())
    words = certificate(found)
    assert f"at most {moved['move_max']:.2g} points (5 % of black border added)" in words
    assert words.startswith("The way a model is run moves a score by at most 0 points") and "(3 changes)" in words
    assert certificate({"changes": []}) == ""


def test_distortions_move_scores_by_what_they_do_to_pictures(pictures):
    """Brightening against the same distortion, applied and read by hand."""
    found = measure_stability(scorer(), pictures, distortions=["brighten"])
    changes = {change["name"]: change for change in found["changes"]}
    moves = []
    for level in range(1, 6):
        expected = []
        for path in pictures:
            pixels_BCHW = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].double() / 255
            brighter_BCHW = distort(pixels_BCHW, "brighten", level / 5)
            difference = brighter_BCHW[..., :30].mean() - pixels_BCHW[..., :30].mean()
            expected.append(abs(3 * float(difference)))
        assert changes[f"brighten, level {level}"]["move_mean"] == pytest.approx(np.mean(expected), abs=0.01)
        moves.append(changes[f"brighten, level {level}"]["move_mean"])
    assert moves == sorted(moves) and moves[-1] > 0.1
    assert len(distortion_changes(["kadid", "imagenet_c", "jpeg"])) == 5 * (25 + 18)
    with pytest.raises(StabilityError, match="Unknown distortion .* 'brightn'; did you mean 'brighten'"):
        measure_stability(scorer(), pictures, distortions=["brightn"])
