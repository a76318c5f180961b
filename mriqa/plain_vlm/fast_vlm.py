"""FastVLM (Vasu et al., CVPR 2025) in plain torch, for reading only: a tower, a projector and Qwen2.

It answers what `mriqa.shared_prefix` asks a model of transformers for, and names its weights as transformers does.

Legend: N rows, T tokens, D width, C channels and h w cells of what the tower sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mriqa.embedded.lite_network import LiteStatistics
from mriqa.plain_vlm.qwen2 import Qwen2, Qwen2Shape

TOWERS: dict[str, Callable[..., nn.Module]] = {"mriqa_lite_tower": LiteStatistics}
"""Towers by the `model_type` of their configuration, whose other settings they take by name.

Each maps pixels (N, 3, H, W) to cells (N, C, h, w).
"""
_OF_EVERY_TOWER = ("model_type", "hidden_size", "dtype")


class PlainFastVlm(nn.Module):
    """Tokens and pixels to logits."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises ValueError, KeyError or TypeError for a `config.json` with something that this module lacks."""
        super().__init__()
        vision, text = config["vision_config"], Qwen2Shape.of(config["text_config"])
        if config["model_type"] != "fast_vlm" or vision["model_type"] not in TOWERS:
            raise ValueError("it is no FastVLM, or one with another vision tower")
        if config["vision_feature_select_strategy"] != "full" or config["vision_feature_layer"] != -1:
            raise ValueError("it hands on other features of its tower")
        if config["projector_hidden_act"] != "gelu" or not config["multimodal_projector_bias"]:
            raise ValueError("its projector is another one")
        if not (config["tie_word_embeddings"] and config["text_config"]["tie_word_embeddings"]):
            raise ValueError("its head is not tied to its embeddings")
        of_the_tower = {name: value for name, value in vision.items() if name not in _OF_EVERY_TOWER}
        self.model = nn.ModuleDict(
            {
                "vision_tower": TOWERS[vision["model_type"]](**of_the_tower),
                "multi_modal_projector": Projector(vision["hidden_size"], text.hidden_size),
                "language_model": Qwen2(text),
            }
        )
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.image_token = config["image_token_index"]
        text_config = SimpleNamespace(
            vocab_size=text.vocab_size, layer_types=["full_attention"], _attn_implementation="sdpa"
        )
        self.config = SimpleNamespace(model_type="fast_vlm", get_text_config=lambda: text_config)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head.weight.dtype

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        pixel_values: Tensor,
        logits_to_keep: int,
        use_cache: bool = False,
    ) -> SimpleNamespace:
        """Logits (N, logits_to_keep, vocabulary), as `.logits`; `attention_mask` (N, 1, T, T): what a token sees."""
        language: Any = self.model["language_model"]
        embedded_NTD = language.embed_tokens(input_ids)
        cells_NChw = self.model["vision_tower"](pixel_values)
        images_NTD = self.model["multi_modal_projector"](cells_NChw.flatten(2).permute(0, 2, 1))
        is_image_NT1 = (input_ids == self.image_token)[..., None]
        embedded_NTD = embedded_NTD.masked_scatter(is_image_NT1, images_NTD)
        hidden_NTD = language(embedded_NTD, attention_mask, position_ids)
        return SimpleNamespace(logits=self.lm_head(hidden_NTD[:, -logits_to_keep:]))


class Projector(nn.Module):
    """What the tower sees (N, T, C) to embeddings (N, T, D)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, cells_NTC: Tensor) -> Tensor:
        return self.linear_2(F.gelu(self.linear_1(cells_NTC)))
