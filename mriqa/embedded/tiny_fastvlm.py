"""The embedded model that scores: FastVLM's architecture at 1.5 million trainable parameters.

FastVLM (Vasu et al., CVPR 2025) is a convolutional tower, a two-layer projector and a Qwen2 language model, as
transformers builds it. Here the tower is the frozen `LiteTower`, and the language model is a few narrow layers, random
to begin with. Built offline; its tokenizer is trained on the project's own prompts, one token per digit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mriqa.embedded.lite_tower import STATISTICS, LiteTower, LiteTowerConfig, register
from mriqa.embedded.tokenizer import IMAGE_TOKEN, train_tokenizer

if TYPE_CHECKING:
    from transformers import FastVlmConfig, LlavaProcessor, PreTrainedTokenizerFast

IMAGE_SIZE = 384  # pixels; KADID-10k's raters saw 512 x 384, so its distortion levels hold at this scale
GRID = 4  # image tokens along each side


def build_tiny_fastvlm(
    path: str | Path, seed: int = 0, image_size: int = IMAGE_SIZE, grid: int = GRID, hidden_size: int = 192
) -> Path:
    """Write the untrained model, its tokenizer and its processor to the folder ``path``, and return that folder.

    Every image is resized to ``image_size`` squared and becomes ``grid`` squared tokens. The same seed gives the
    same weights. The tower's standardisation is the identity until `LiteTower.standardise` sets it.
    """
    import torch
    from transformers import FastVlmForConditionalGeneration, GenerationConfig

    register()
    path = Path(path)
    tokenizer = train_tokenizer(added_tokens=("<answer>", "</answer>"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FastVlmForConditionalGeneration(_config(tokenizer, grid, hidden_size))
    tower = model.model.vision_tower
    assert isinstance(tower, LiteTower)
    tower.load_imagenet_weights()
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(path)
    _processor(tokenizer, image_size, grid).save_pretrained(path)
    return path


def _config(tokenizer: PreTrainedTokenizerFast, grid: int, hidden_size: int) -> FastVlmConfig:
    from transformers import FastVlmConfig, Qwen2Config

    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=3,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 32,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    return FastVlmConfig(
        vision_config=LiteTowerConfig(grid=grid, hidden_size=STATISTICS),
        text_config=text,
        image_token_index=tokenizer.vocab[IMAGE_TOKEN],
        image_seq_length=grid**2,
        tie_word_embeddings=True,
    )


def _processor(tokenizer: PreTrainedTokenizerFast, image_size: int, grid: int) -> LlavaProcessor:
    from transformers import CLIPImageProcessor, LlavaProcessor

    image_processor = CLIPImageProcessor(
        size={"height": image_size, "width": image_size},
        crop_size={"height": image_size, "width": image_size},
        do_center_crop=False,
        do_rescale=False,  # pixels stay 8-bit, and the tower normalises them, as these two say
        do_normalize=False,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=image_size // grid,
        vision_feature_select_strategy="full",
        image_token=IMAGE_TOKEN,
        chat_template=tokenizer.chat_template,
    )
