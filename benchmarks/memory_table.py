"""Which model fits which card, from the pre-flight's estimate: the table of docs/scale.md.

    python benchmarks/memory_table.py

Nothing is loaded and no accelerator is needed: the models are configurations only. Estimated are rollouts of 8 pictures
of 196,608 pixels, 6 answers of at most 32 tokens each, gradient checkpointing, bfloat16 mixed precision: in full fine-
tuning on float32 weights with a reference model, with LoRA (rank 64, the tower frozen) on bfloat16 or 4-bit weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from grpo_sides import QWEN3_VL_2B
from real_size import QWEN2_5_VL_3B

from mriqa.training.config import RunArguments
from mriqa.training.preflight.memory_estimate import GIB, estimate_memory
from mriqa.training.preflight.model_shape import ModelShape
from mriqa.training.preflight.pass_shape import PassShape

CARDS = (16, 24, 32, 48, 80, 141)  # GiB
SPARE = 0.9  # of a card; the rest is CUDA's own and what its allocator can't use
GROUP, PICTURES, ANSWER, IMAGE_TOKENS, TEXT_TOKENS = 6, 8, 32, 192, 80
PATCHES = 4 * IMAGE_TOKENS

QWEN3_VL_4B = {
    "text": QWEN3_VL_2B["text"]
    | {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    "vision": QWEN3_VL_2B["vision"] | {"out_hidden_size": 2560},
}
QWEN2_5_VL_7B = {
    "text": QWEN2_5_VL_3B["text"]
    | {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "vision": QWEN2_5_VL_3B["vision"] | {"out_hidden_size": 3584},
}
MODELS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "Qwen3-VL-2B": ("qwen3_vl", QWEN3_VL_2B, True),
    "Qwen2.5-VL-3B": ("qwen2_5_vl", QWEN2_5_VL_3B, True),
    "Qwen3-VL-4B": ("qwen3_vl", QWEN3_VL_4B, True),
    "Qwen2.5-VL-7B": ("qwen2_5_vl", QWEN2_5_VL_7B, False),
}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"dtype": "float32"},
    "LoRA": {"dtype": "bfloat16", "lora_r": 64, "freeze_vision": True},
    "QLoRA": {"dtype": "bfloat16", "lora_r": 64, "freeze_vision": True, "load_in_4bit": True},
}


def peak(model: str, method: str, pictures: int) -> float:
    """GiB at most, with so many pictures in a micro-batch."""
    from transformers import AutoConfig

    family, sizes, tied = MODELS[model]
    config = AutoConfig.for_model(
        family, text_config=sizes["text"], vision_config=sizes["vision"], tie_word_embeddings=tied
    )
    arguments = RunArguments(model=model, **METHODS[method])
    behind = GROUP * (ANSWER - 1)
    passes = PassShape(
        rows=pictures,
        tokens=IMAGE_TOKENS + TEXT_TOKENS + behind,
        read=behind + 1,
        shared=True,
        images=pictures,
        patches=PATCHES,
        pixels=PATCHES * 1536,
        prompt_tokens=IMAGE_TOKENS + TEXT_TOKENS,
        sampled=GROUP * PICTURES,
        sampled_images=PICTURES,
        completion=ANSWER,
    )
    run = SimpleNamespace(
        bf16=True,
        fp16=False,
        use_cpu=False,
        beta=0.02,
        gradient_checkpointing=True,
        gradient_accumulation_steps=PICTURES // pictures,
    )
    return estimate_memory(ModelShape(Path(), config, arguments), passes, arguments, run).peak / GIB


def card_for(size: float) -> str:
    """The smallest card with room for so many GiB."""
    return next((f"{card} GiB" for card in CARDS if size <= SPARE * card), "several")


def main() -> int:
    """Print the table."""
    print("| model | method | 1 picture at a time | card | 8 at a time | card |\n|---|---|--:|---|--:|---|")
    for model in MODELS:
        for method in METHODS:
            sizes = [peak(model, method, pictures) for pictures in (1, PICTURES)]
            cells = " | ".join(f"{size:.1f} GiB | {card_for(size)}" for size in sizes)
            print(f"| {model} | {method} | {cells} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
