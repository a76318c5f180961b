"""The Scorer as users call it: order, batches, broken images, saved settings."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

import mriqa
from mriqa.answers import load_format
from mriqa.models import ModelError, save_scoring_settings


@pytest.fixture(scope="module")
def saved(tmp_path_factory, taught_model):
    folder = tmp_path_factory.mktemp("saved") / "model"
    for part in taught_model:
        part.save_pretrained(folder)
    return folder


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


def test_hostile_images_get_their_own_errors_and_stop_nothing(tmp_path, taught_model, pictures):
    generator = np.random.default_rng(1)
    sound = tmp_path / "sound.png"
    pictures[0].save(sound)
    truncated = tmp_path / "truncated.jpg"
    truncated.write_bytes(encoded(pictures[1], "JPEG")[:2000])
    (tmp_path / "empty.png").touch()
    good = {
        0: sound,
        2: pictures[1],
        4: encoded(pictures[2]),
        6: Image.new("RGB", (1, 1)),
        8: Image.fromarray(generator.integers(0, 65536, (40, 40), dtype=np.uint16)),
        9: Image.new("CMYK", (40, 60)),
        10: pictures[0].convert("P"),
    }
    bad = {
        1: truncated,
        3: tmp_path / "empty.png",
        5: tmp_path / "missing.png",
        7: Image.new("RGB", (1000, 1)),  # too thin a strip for Qwen's image processor
        11: b"not an image",
    }
    images = [{**good, **bad}[number] for number in range(12)]
    model, processor = taught_model
    scores = mriqa.Scorer(model, processor, batch_size=4).score(images)
    assert len(scores) == 12
    for number in good:
        assert 1 <= scores[number].score <= 5 and scores[number].std > 0 and scores[number].error is None
    for number in bad:
        assert math.isnan(scores[number].score) and math.isnan(scores[number].std)
        assert scores[number].error and "\n" not in scores[number].error
    assert scores[0].image == str(sound) and scores[2].image == "image 2"
    assert "empty.png" in scores[3].error and "processor" in scores[7].error

    alone = mriqa.Scorer(model, processor, batch_size=1).score(list(good.values()))
    together = [scores[number].score for number in good]
    np.testing.assert_allclose([score.score for score in alone], together, atol=1e-4)


def test_nothing_to_score_is_no_error(taught_model):
    assert mriqa.Scorer(*taught_model).score([]) == []


def test_a_single_image_outside_a_list_is_refused(taught_model):
    with pytest.raises(TypeError, match="list of images"):
        mriqa.Scorer(*taught_model).score("photo.jpg")


def test_from_pretrained_scores_as_saved(saved, taught_model, pictures):
    views = {"size": 160, "crop": 96, "count": 5}
    thinking = load_format("thinking")
    save_scoring_settings(saved, thinking, views)
    scorer = mriqa.Scorer.from_pretrained(saved, device="cpu")
    assert (scorer.answer_format, scorer.readout_name, scorer.views.count) == (thinking, "greedy", 5)

    scorer = mriqa.Scorer.from_pretrained(saved, device="cpu", answer_format="non_thinking", batch_size=3)
    big = pictures[1].resize((160, 160), Image.Resampling.BICUBIC)
    crops = [big.crop((x, y, x + 96, y + 96)) for x, y in ((0, 0), (64, 0), (0, 64), (64, 64), (32, 32))]
    each = mriqa.Scorer(*taught_model).score(crops)
    (score,) = scorer.score([pictures[1]])
    mean = np.mean([one.score for one in each])
    assert score.score == pytest.approx(mean, abs=1e-5)
    second_moment = np.mean([one.std**2 + one.score**2 for one in each])
    assert score.std == pytest.approx(math.sqrt(second_moment - mean**2), abs=1e-4)

    (saved / "mriqa.json").unlink()
    plain = mriqa.Scorer.from_pretrained(saved, device="cpu")
    assert plain.answer_format == load_format("non_thinking") and plain.views.count == 1


def test_broken_saved_views_name_the_file(saved):
    save_scoring_settings(saved, load_format("thinking"), {"count": 7})
    with pytest.raises(ModelError, match=r"mriqa.json: .*count must be 1"):
        mriqa.Scorer.from_pretrained(saved)
    (saved / "mriqa.json").unlink()


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"samples": 0}, {"temperature": 0.0}, {"readout": "best"}])
def test_impossible_options_are_one_sentence(taught_model, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        mriqa.Scorer(*taught_model, **option)
