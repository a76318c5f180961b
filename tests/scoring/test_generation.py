"""Generated answers: parsed, averaged, in agreement with the exact distribution, and held to the grammar."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from transformers import GenerationConfig

from mriqa.answers import AnswerFormat, load_format
from mriqa.scoring.scorer import Scorer


def test_sampling_converges_to_the_expected_readout(taught_model, pictures):
    model, processor = taught_model
    saved, model.generation_config = model.generation_config, GenerationConfig(top_k=1, temperature=0.1, do_sample=True)
    try:  # the model's own decoding habits, which would collapse the samples, are not applied
        samples = 300
        options = {"readout": "sample", "seed": 1, "max_new_tokens": 16}
        sampled = Scorer(model, processor, samples=samples, **options).score(pictures[:2])
        few = [Scorer(model, processor, samples=4, **options).score(pictures[:2]) for _ in range(2)]
    finally:
        model.generation_config = saved
    exact = Scorer(model, processor, readout="expected").score(pictures[:2])
    assert few[0] == few[1]
    for ours, theirs in zip(sampled, exact, strict=True):
        assert theirs.std > 0.3
        assert abs(ours.score - theirs.score) < 4 * theirs.std / math.sqrt(samples)
        assert ours.std == pytest.approx(theirs.std, rel=0.15)


def test_greedy_states_the_answer_it_parsed(taught_model, pictures):
    model, processor = taught_model
    scores = Scorer(model, processor, readout="greedy").score(pictures)
    for score in scores:
        assert score.text == f"<answer>{score.score:.2f}</answer>"
        assert math.isnan(score.std) and score.error is None


def test_an_answer_that_does_not_parse_is_nan_and_says_so(taught_model, pictures):
    model, processor = taught_model
    (score,) = Scorer(model, processor, load_format("thinking"), readout="greedy", max_new_tokens=12).score(
        pictures[:1]
    )
    assert math.isnan(score.score) and math.isnan(score.std)
    assert "well-formed" in score.error and score.text


def test_a_model_that_says_anything_states_scores(tmp_path, pictures):
    from mriqa.embedded import build_tiny_qwen3_vl
    from mriqa.models import load_vlm

    model = load_vlm(build_tiny_qwen3_vl(tmp_path), device="cpu")
    free = Scorer(*model, readout="greedy").score(pictures)
    assert all(math.isnan(score.score) for score in free)
    for readout, samples in (("greedy", 1), ("sample", 6)):
        held = Scorer(*model, readout=readout, samples=samples, structured=True).score(pictures)
        assert all(1 <= score.score <= 5 and score.n_parsed == samples for score in held)
        one_by_one = Scorer(*model, readout="greedy", structured=True, batch_size=1).score(pictures)
    assert [s.score for s in one_by_one] == [
        s.score for s in Scorer(*model, readout="greedy", structured=True).score(pictures)
    ]


def test_right_answers_stay_as_they_are(taught_model, pictures):
    free = Scorer(*taught_model, readout="greedy").score(pictures)
    assert Scorer(*taught_model, readout="greedy", structured=True).score(pictures) == free


def test_answers_too_many_to_list_are_free(taught_model, pictures, monkeypatch):
    fine = replace(load_format("non_thinking"), decimals=15)
    monkeypatch.setattr(AnswerFormat, "all_answers", lambda *_: pytest.fail("listed"))
    (score,) = Scorer(*taught_model, fine, readout="sample", samples=2, structured=True).score(pictures[:1])
    assert len(score.texts) == 2
