"""Generated answers: parsed, averaged, and in agreement with the exact distribution."""

from __future__ import annotations

import math

import pytest
from transformers import GenerationConfig

from mriqa.answers import load_format
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
