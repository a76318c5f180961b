"""A random model of each family with a few thousand parameters, and prompts with images of different size for it."""

from __future__ import annotations

from typing import Any

import torch

FAMILIES = ("qwen3_vl", "qwen2_5_vl", "qwen2_vl", "fast_vlm", "smolvlm", "idefics3")
PAD, IMAGE, VISION_START, VISION_END, VIDEO, VOCABULARY = 0, 1, 2, 3, 4, 48
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "pad_token_id": PAD,
    "bos_token_id": PAD,
    "eos_token_id": 5,
}
SPECIAL = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}


def build(family: str, attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    """The model in evaluation mode, its weights large enough for images and positions to matter."""
    from transformers import AutoModelForImageTextToText

    config = qwen_config(family) if family.startswith("qwen") else plain_config(family)
    attentions = {"text_config": attention, "vision_config": "eager"}  # the convolutional tower has none
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, attn_implementation=attentions).to(dtype).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight.normal_(0, 1.5 / weight[0].numel() ** 0.5, generator=generator)
            elif name.endswith("bias"):
                weight.normal_(0, 0.1, generator=generator)
            elif "embed" in name:
                weight.normal_(0, 0.3, generator=generator)
    return model


def qwen_config(family: str) -> Any:
    from transformers import AutoConfig

    third = family == "qwen3_vl"
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    text = TEXT | {"rope_parameters": rope | ({"mrope_interleaved": True} if third else {})}
    vision = {"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
    if family == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 1}
    else:
        vision |= {"hidden_size": 32, "intermediate_size": 32, "out_hidden_size": 32}
    if family == "qwen2_5_vl":
        vision |= {"window_size": 16, "fullatt_block_indexes": [1]}
    if third:
        text |= {"head_dim": 16}
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    return AutoConfig.for_model(family, text_config=text, vision_config=vision, tie_word_embeddings=True, **SPECIAL)


def plain_config(family: str) -> Any:
    from transformers import AutoConfig, FastVlmConfig, Qwen2Config

    from mriqa.embedded.lite_tower import LiteTowerConfig, register

    if family == "fast_vlm":
        register()
        return FastVlmConfig(
            vision_config=LiteTowerConfig(grid=2),
            text_config=Qwen2Config(**TEXT),
            image_token_index=IMAGE,
            image_seq_length=4,
            tie_word_embeddings=True,
        )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    text = TEXT | {"model_type": "llama"}
    return AutoConfig.for_model(
        family, text_config=text, vision_config=vision, image_token_id=IMAGE, scale_factor=2, tie_word_embeddings=True
    )


def prompts(family: str, dtype: torch.dtype = torch.float32, n_prompts: int = 3) -> dict[str, Any]:
    """Left-padded inputs of prompts that differ in length, text and image; one image each."""
    generator = torch.Generator().manual_seed(2)

    def words(count: int) -> list[int]:
        return torch.randint(6, VOCABULARY, (count,), generator=generator).tolist()

    def pixels(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    qwen = family.startswith("qwen")
    grids = torch.tensor([[1, 4 + 2 * (row % 2), 4] for row in range(n_prompts)])
    image_tokens = [int(grid.prod()) // 4 if qwen else 4 for grid in grids]
    rows = [
        [*words(2 + row), VISION_START, *[IMAGE] * count, VISION_END, *words(3 - row % 2)]
        for row, count in enumerate(image_tokens)
    ]
    longest = max(map(len, rows))
    input_ids = torch.tensor([[PAD] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": mask}
    if qwen:
        inputs["pixel_values"] = pixels(int(grids.prod(-1).sum()), 3 * 2 * 4 * 4)
        inputs["image_grid_thw"] = grids
        inputs["mm_token_type_ids"] = (input_ids == IMAGE).long()
    elif family == "fast_vlm":
        inputs["pixel_values"] = pixels(n_prompts, 3, 64, 64)
    else:
        inputs["pixel_values"] = pixels(n_prompts, 1, 3, 16, 16)
        inputs["pixel_attention_mask"] = torch.ones(n_prompts, 1, 16, 16, dtype=torch.long)
    return inputs


def completions(n_prompts: int = 3, group: int = 4, length: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded completions (N, G, C) of different length and their mask; the last of each group is masked whole."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(6, VOCABULARY, (n_prompts, group, length), generator=generator)
    lengths = torch.randint(1, length + 1, (n_prompts, group), generator=generator)
    lengths[:, 0], lengths[:, -1] = length, 0
    mask = (torch.arange(length) < lengths[..., None]).long()
    return torch.where(mask.bool(), ids, PAD), mask
