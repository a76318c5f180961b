"""The embedded model that scores: FastVLM's architecture at 1.3 million trainable parameters.

FastVLM (Vasu et al., CVPR 2025) is a convolutional tower, a two-layer projector and a Qwen2 language model, as
transformers builds it. Here the tower is the frozen `LiteTower`, and the language model is a few narrow layers, random
to begin with. Built offline; its tokenizer is trained on the project's own prompts, one token per digit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mriqa.embedded.eye import TILES
from mriqa.embedded.eye_processor import EyeImageProcessor
from mriqa.embedded.lite_tower import LiteTower, LiteTowerConfig, register
from mriqa.embedded.tokenizer import IMAGE_TOKEN, train_tokenizer

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor, FastVlmConfig, LlavaProcessor, PreTrainedTokenizerFast

    from mriqa.embedded.lite_network import LiteBackbone

IMAGE_SIZE = 384  # pixels; KADID-10k's raters saw 512 x 384, so its distortion levels hold at this scale
GRID = 4  # image tokens along each side


def build_tiny_fastvlm(
    path: str | Path,
    seed: int = 0,
    image_size: int = IMAGE_SIZE,
    grid: int = GRID,
    hidden_size: int = 192,
    tile: int | None = None,
    trunk: LiteBackbone | None = None,
    summed_up: bool = False,
) -> Path:
    """Write the untrained model, its tokenizer and its processor to the folder ``path``, and return that folder.

    The same seed gives the same weights. The tower's standardisation is the identity until `LiteTower.standardise`
    sets it.

    Args:
        path: where to write.
        seed: of the weights.
        image_size: side in pixels that every image is resized to; without meaning where there are tiles.
        grid: image tokens along each side, of the image or of each tile.
        hidden_size: of the language model.
        tile: side in pixels of the tiles that an image is seen in (`mriqa.embedded.eye`); None for one square image.
        trunk: the tower's network; with the ImageNet weights where none is given.
        summed_up: one image token for all tiles (`mriqa.embedded.lite_network.summary`), instead of a grid of each.

    Raises:
        ValueError: summed up without tiles.
    """
    import torch
    from transformers import FastVlmForConditionalGeneration, GenerationConfig

    if summed_up and tile is None:
        raise ValueError("only tiles are summed up: give their side")
    register()
    path = Path(path)
    tokenizer = train_tokenizer(added_tokens=("<answer>", "</answer>"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower_config = LiteTowerConfig(grid=grid, tile=tile, summed_up=summed_up)
        model = FastVlmForConditionalGeneration(_config(tokenizer, tower_config, hidden_size))
    tower = model.model.vision_tower
    assert isinstance(tower, LiteTower)
    if trunk is None:
        tower.load_imagenet_weights()
    else:
        tower.backbone.load_state_dict(trunk.state_dict())
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(path)
    _processor(tokenizer, tower_config, image_size).save_pretrained(path)
    return path


def _config(tokenizer: PreTrainedTokenizerFast, tower: LiteTowerConfig, hidden_size: int) -> FastVlmConfig:
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
        vision_config=tower,
        text_config=text,
        image_token_index=tokenizer.vocab[IMAGE_TOKEN],
        image_seq_length=_tokens(tower),
        tie_word_embeddings=True,
    )


def _tokens(tower: LiteTowerConfig) -> int:
    return 1 if tower.summed_up else tower.grid**2 * (1 if tower.tile is None else TILES)


def _processor(tokenizer: PreTrainedTokenizerFast, tower: LiteTowerConfig, image_size: int) -> LlavaProcessor:
    from transformers import LlavaProcessor

    side = tower.tile or image_size
    # It writes a token for each patch, and some more: a patch that no strip holds leaves those.
    patch_size = TILES * side if tower.summed_up else side // tower.grid
    return LlavaProcessor(
        image_processor=_square_images(image_size) if tower.tile is None else EyeImageProcessor(tile=tower.tile),
        tokenizer=tokenizer,
        patch_size=patch_size,
        num_additional_image_tokens=1 if tower.summed_up else 0,
        vision_feature_select_strategy="full",
        image_token=IMAGE_TOKEN,
        chat_template=tokenizer.chat_template,
    )


def _square_images(image_size: int) -> CLIPImageProcessor:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(
        size={"height": image_size, "width": image_size},
        crop_size={"height": image_size, "width": image_size},
        do_center_crop=False,
        do_rescale=False,  # pixels stay 8-bit, and the tower normalises them, as these two say
        do_normalize=False,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
    )
