"""Prompts with images as vLLM wants them, and vLLM itself where it is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mriqa.answers import load_format
from mriqa.errors import SettingsError
from mriqa.models import load_vlm
from mriqa.policy.prompts_once import one_token_per_image

IMAGE = 9


def test_each_run_of_the_image_token_becomes_one() -> None:
    prompts = [[1, 9, 9, 9, 2], [9, 9, 3, 9, 4, 4], [5, 5]]
    images = [["a"], ["b", "c"], None]
    assert one_token_per_image(prompts, images, IMAGE) == [[1, 9, 2], [9, 3, 9, 4, 4], [5, 5]]
    assert one_token_per_image([[1, 9, 2]], [["a"]], IMAGE) == [[1, 9, 2]]
    with pytest.raises(SettingsError, match="1 images stand in 2 places"):
        one_token_per_image([[9, 9, 3, 9]], [["a"]], IMAGE)


def test_vllm_reads_the_prompt_that_transformers_reads(tiny_model: Path, rows: list) -> None:
    """As many prompt tokens, and the same log-probability of the next one, which the expanded prompt misses."""
    pytest.importorskip("vllm")
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    from vllm import LLM, SamplingParams

    from mriqa.scoring.prompts import prompt_batch

    model, processor = load_vlm(tiny_model, device="cpu")
    pictures = [Image.open(row.image).convert("RGB").resize(size) for row, size in zip(rows, [(96, 64), (64, 96)])]
    inputs: Any = prompt_batch(processor, load_format("non_thinking"), pictures)
    with torch.no_grad():
        logits_BV = model(**inputs, logits_to_keep=1).logits[:, -1]
    expected = logits_BV.log_softmax(-1).max(-1)
    expanded = [ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"])]
    image_token = processor.image_token_id  # type: ignore[attr-defined]

    engine = LLM(str(tiny_model), dtype="float32", enforce_eager=True, max_model_len=1024)
    params = SamplingParams(temperature=0, max_tokens=1, logprobs=0)
    for prompts, right in (
        (one_token_per_image(expanded, [[p] for p in pictures], image_token), True),
        (expanded, False),
    ):
        asked = [
            {"prompt_token_ids": ids, "multi_modal_data": {"image": picture}}
            for ids, picture in zip(prompts, pictures, strict=True)
        ]
        answers = engine.generate(asked, params, use_tqdm=False)
        assert ([len(a.prompt_token_ids) for a in answers] == [len(ids) for ids in expanded]) is right
        if right:
            tokens = [a.outputs[0].token_ids[0] for a in answers]
            assert tokens == expected.indices.tolist()
            logps = [a.outputs[0].logprobs[0][token].logprob for a, token in zip(answers, tokens, strict=True)]
            assert logps == pytest.approx(expected.values.tolist(), abs=1e-4)
