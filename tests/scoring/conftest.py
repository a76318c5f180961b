"""A random Qwen3-VL taught to answer in the right form, in seconds, and pictures of several shapes."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Noise of different shapes, so that prompts differ in length and a batch of them is padded."""
    generator = np.random.default_rng(0)
    sizes = [(50, 200), (96, 96), (300, 100)]
    return [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


@pytest.fixture(scope="session")
def taught_model(tmp_path_factory, pictures):
    """(model, processor) that states scores around 3.4 with a standard deviation around 0.6, whatever it sees."""
    from mriqa.answers import load_format
    from mriqa.embedded import build_tiny_qwen3_vl
    from mriqa.models import load_vlm
    from mriqa.scoring.prompts import prompt_batch

    folder = build_tiny_qwen3_vl(tmp_path_factory.mktemp("taught") / "model")
    model, processor = load_vlm(folder, device="cpu")
    answer_format = load_format("non_thinking")
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.model.language_model.parameters(), lr=6e-3)
    model.requires_grad_(False)
    model.model.language_model.requires_grad_(True)
    copies = 4
    prompt = prompt_batch(processor, answer_format, pictures * copies)
    for _ in range(70):
        scores = (3.4 + 0.6 * torch.randn(3 * copies, generator=generator)).clamp(1, 5).tolist()
        answers = [answer_format.format(score) + "<|im_end|>" for score in scores]
        ids = processor.tokenizer(answers, add_special_tokens=False, return_tensors="pt")["input_ids"]
        inputs = {
            **prompt,
            "input_ids": torch.cat([prompt["input_ids"], ids], 1),
            "attention_mask": torch.cat([prompt["attention_mask"], torch.ones_like(ids)], 1),
            "mm_token_type_ids": torch.cat([prompt["mm_token_type_ids"], torch.zeros_like(ids)], 1),
        }
        logits = model(**inputs, logits_to_keep=ids.shape[1] + 1).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model, processor
