"""The vLLM backend beside the transformers one, where vLLM is installed."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import mriqa

pytest.importorskip("vllm")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
ENGINE = {"enforce_eager": True, "max_model_len": 1024}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, taught_model):
    path = tmp_path_factory.mktemp("vllm") / "model"
    for part in taught_model:
        part.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def engine(folder):
    return mriqa.Scorer.from_pretrained(
        folder, "greedy", backend="vllm", dtype="float32", backend_options=ENGINE, batch_size=64
    )


@pytest.fixture(scope="module")
def many(pictures) -> list[Image.Image]:
    generator = np.random.default_rng(3)
    sizes = [(40, 40), (200, 90), (96, 128), (64, 250), (131, 77)]
    return pictures + [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def test_greedy_scores_equal_those_of_transformers(engine, taught_model, many):
    here = [score.score for score in mriqa.Scorer(*taught_model, readout="greedy", batch_size=3).score(many)]
    there = engine.score(many)
    np.testing.assert_allclose([score.score for score in there], here, atol=1e-3)
    assert all(score.n_parsed == 1 and score.text == score.texts[0] for score in there)
    engine.batch_size = 2
    np.testing.assert_allclose([score.score for score in engine.score(many[::-1])][::-1], here, atol=1e-3)


def test_every_sample_parses_and_their_mean_approaches_the_expected_score(engine, taught_model, many):
    samples = 200
    generation = replace(engine.backend.generation, samples=samples, temperature=1.0)
    sampling = mriqa.Scorer(None, None, batch_size=8, backend=replace(engine.backend, generation=generation))
    exact = mriqa.Scorer(*taught_model, readout="expected").score(many[:2])
    for ours, theirs in zip(sampling.score(many[:2]), exact, strict=True):
        assert ours.n_parsed == samples
        assert abs(ours.score - theirs.score) < 5 * theirs.std / math.sqrt(samples)


def test_a_model_that_says_anything_is_held_to_the_same_answers(tmp_path, many):
    """Random weights: each token is a narrow choice, and every way to split an answer into tokens is open."""
    from mriqa.embedded import build_tiny_qwen3_vl

    path = build_tiny_qwen3_vl(tmp_path)
    here = mriqa.Scorer.from_pretrained(path, "greedy", device="cpu", structured=True).score(many)
    engine = mriqa.Scorer.from_pretrained(path, "greedy", backend="vllm", dtype="float32", backend_options=ENGINE)
    assert [score.text for score in engine.score(many)] == [score.text for score in here]
