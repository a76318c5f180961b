"""Which architectures can read a prompt once for many continuations, and how each of them counts positions.

What it takes: the language model lets a ready 4-D attention mask through, takes `position_ids`, and writes no more than
the prompt's image tokens with image features. Each family below was compared with its ordinary forward. Rotary
positions need not begin at 0, so the plain families count the tokens and not the padding; Qwen-VL's have three axes
(M-RoPE, Wang et al., "Qwen2-VL", 2024, section 2.1), and the model itself lays the image out on them.
Legend: N prompts, P prompt tokens, K suffix tokens, Q tokens of a pass, T tokens that they may see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = ("sdpa", "eager")  # flash attention takes no mask of one's own


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        name: `model_type` of its configuration.
        three_axes: whether a position has a temporal, a vertical and a horizontal part.
    """

    name: str
    three_axes: bool

    def positions(self, core: PreTrainedModel, prompts: Mapping[str, Any], depths_NK: torch.Tensor) -> torch.Tensor:
        """Positions of prompt and suffix tokens, (N, P + K), or (3, N, P + K) where they have three axes."""
        mask_NP = prompts["attention_mask"]
        positions = (mask_NP.long().cumsum(-1) - 1).clamp_min(0)
        if self.three_axes:
            positions = self._prompt_axes(core, prompts, positions)
        # Text goes on behind the largest position on any axis.
        last_N = positions.masked_fill(mask_NP == 0, -1).amax(-1).view(-1, len(mask_NP)).amax(0)
        behind = last_N[:, None] + 1 + depths_NK
        return torch.cat([positions, behind.expand(*positions.shape[:-1], -1)], dim=-1)

    def _prompt_axes(self, core: PreTrainedModel, prompts: Mapping[str, Any], plain_NP: torch.Tensor) -> torch.Tensor:
        if prompts.get("image_grid_thw") is None:
            return plain_NP.expand(3, -1, -1)
        base: Any = core.base_model
        positions_3NP, _ = base.get_rope_index(
            input_ids=prompts["input_ids"],
            mm_token_type_ids=prompts["mm_token_type_ids"],
            image_grid_thw=prompts["image_grid_thw"],
            attention_mask=prompts["attention_mask"],
        )
        return positions_3NP


FAMILIES = {
    family.name: family
    for family in (
        Family("qwen3_vl", three_axes=True),
        Family("qwen2_5_vl", three_axes=True),
        Family("qwen2_vl", three_axes=True),
        Family("fast_vlm", three_axes=False),
        Family("smolvlm", three_axes=False),
        Family("idefics3", three_axes=False),
    )
}


def family_of(model: Any) -> Family | None:
    """The family of a model, bare or wrapped, or None where its prompts can't be shared; see `why_not_shared`."""
    return FAMILIES[core_of(model).config.model_type] if why_not_shared(model) is None else None


def why_not_shared(model: Any) -> str | None:
    """Why the prompts of `model` can't be shared, in a few words; None where they can."""
    config: Any = core_of(model).config
    if config.model_type not in FAMILIES:
        return f"{config.model_type} is not one of the known architectures ({', '.join(FAMILIES)})"
    text_config = config.get_text_config()
    if text_config._attn_implementation not in ATTENTION:
        return f"{text_config._attn_implementation} attention takes no mask of our own; use {' or '.join(ATTENTION)}"
    if any(kind != "full_attention" for kind in getattr(text_config, "layer_types", None) or ()):
        return "some of its layers see a sliding window only"
    if any(getattr(adapter, "is_prompt_learning", False) for adapter in _adapters(model)):
        return "its adapter puts tokens of its own before the prompt"
    return None


def as_attention_mask(core: PreTrainedModel, sees_NQT: torch.Tensor) -> torch.Tensor:
    """What each of Q tokens sees of T, as the (N, 1, Q, T) mask that the attention of the model takes."""
    text_config: Any = core.config.get_text_config()
    if text_config._attn_implementation == "sdpa":
        return sees_NQT[:, None]
    additive = torch.zeros(sees_NQT.shape, dtype=core.dtype, device=sees_NQT.device)
    return additive.masked_fill_(~sees_NQT, torch.finfo(core.dtype).min)[:, None]


def core_of(model: Any) -> PreTrainedModel:
    """The transformers model inside wrappers for parallel training, compilation and PEFT."""
    model = _without_parallel_wrappers(model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _adapters(model: Any) -> list[Any]:
    return list(getattr(_without_parallel_wrappers(model), "peft_config", {}).values())


def _without_parallel_wrappers(model: Any) -> Any:
    while hasattr(model, "module") or hasattr(model, "_orig_mod"):
        model = model.module if hasattr(model, "module") else model._orig_mod
    return model
