"""A random Qwen3-VL of less than one million parameters, built offline in a second or two.

It scores nothing sensibly; it exists so that every code path meant for the real Qwen3-VL (chat template, image
tokens, multimodal rotary positions, deepstack features, left padding, vLLM) can be tested without a download.
The architecture is transformers' own; only the sizes are ours. Its byte-level BPE tokenizer is trained on the
prompts and answers of `mriqa.answers`, with every digit a token of its own, as in Qwen's tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mriqa.embedded.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLProcessor

PATCH, MERGE = 16, 2  # one language token sees a cell of 32×32 pixels


def build_tiny_qwen3_vl(path: str | Path, seed: int = 0, image_size: int = 96) -> Path:
    """Write a random Qwen3-VL, its tokenizer and its processor to the folder `path`, and return that folder.

    It reloads through `AutoProcessor` and `AutoModelForImageTextToText`. Images are resized to between 64² and
    `image_size`² pixels, whatever their shape. The same seed gives the same weights.
    """
    import torch
    from transformers import GenerationConfig, Qwen3VLForConditionalGeneration

    path = Path(path)
    tokenizer = train_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(_config(tokenizer))
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(path)
    _processor(tokenizer, image_size).save_pretrained(path)
    return path


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    from transformers import Qwen3VLConfig

    def token_id(token: str) -> int:
        return tokenizer.get_vocab()[token]

    hidden, head = 64, 32  # vLLM's attention kernels need heads of at least 32
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": head,
        "max_position_embeddings": 4096,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 500000.0,
            "mrope_section": [8, 4, 4],
            "mrope_interleaved": True,
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": hidden,
        "intermediate_size": 128,
        "num_heads": hidden // head,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "out_hidden_size": hidden,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def _processor(tokenizer: PreTrainedTokenizerFast, image_size: int) -> Qwen3VLProcessor:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    budget = {"shortest_edge": 64**2, "longest_edge": image_size**2}  # both are pixel counts in Qwen's processors
    shared = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2, "size": budget}
    half = [0.5, 0.5, 0.5]
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shared, image_mean=half, image_std=half),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**shared, image_mean=half, image_std=half),
        chat_template=tokenizer.chat_template,
    )
