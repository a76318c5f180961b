"""Qwen2's language model (Yang et al., "Qwen2 Technical Report", 2024, section 2.2) in plain torch, for reading only.

Grouped-query attention with biases on queries, keys and values, rotary positions, SwiGLU and RMSNorm before each part.
Every operation is the one that transformers makes, in the same order, so that the numbers are the same bit by bit.
Names of weights are transformers'.

Legend: N rows, T tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Qwen2Shape:
    """The settings of a Qwen2 configuration that decide what is computed."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rms_norm_eps: float
    rope_theta: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Qwen2Shape:
        """That of a `text_config`. Raises ValueError or KeyError for what this module lacks."""
        rope = config["rope_parameters"]
        head_width = config["hidden_size"] // config["num_attention_heads"]
        if config["model_type"] != "qwen2" or config["hidden_act"] != "silu":
            raise ValueError("its language model is another one")
        if set(config["layer_types"]) != {"full_attention"} or config.get("use_sliding_window"):
            raise ValueError("its layers see a window only")
        if rope["rope_type"] != "default" or config.get("head_dim", head_width) != head_width:
            raise ValueError("its positions or heads are other ones")
        sizes = {field.name: config[field.name] for field in fields(cls) if field.name != "rope_theta"}
        return cls(**sizes, rope_theta=rope["rope_theta"])


class Qwen2(nn.Module):
    """Embeddings (N, T, D) to the hidden states behind the last layer, (N, T, D)."""

    def __init__(self, shape: Qwen2Shape) -> None:
        super().__init__()
        self.head_width = shape.hidden_size // shape.num_attention_heads
        self.rope_theta = shape.rope_theta
        self.embed_tokens = Embedding(shape)
        self.layers = nn.ModuleList(Qwen2Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, hidden_NTD: Tensor, sees_N1TT: Tensor, positions_NT: Tensor) -> Tensor:
        """`sees_N1TT` says what each token sees; positions count from 0."""
        rotation = self._rotation(positions_NT, hidden_NTD.dtype)
        for layer in self.layers:
            hidden_NTD = layer(hidden_NTD, sees_N1TT, rotation)
        return self.norm(hidden_NTD)

    def _rotation(self, positions_NT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (N, 1, T, d), worked out in float32."""
        exponents = torch.arange(0, self.head_width, 2, dtype=torch.float) / self.head_width
        frequencies = (1.0 / self.rope_theta**exponents).to(positions_NT.device)
        frequencies = frequencies[None, :, None].expand(len(positions_NT), -1, 1)
        angles = (frequencies @ positions_NT[:, None, :].float()).transpose(1, 2)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(dtype)[:, None], angles.sin().to(dtype)[:, None]


class Embedding(nn.Module):
    """Token ids (N, T) to vectors (N, T, D).

    torch's own draws its first weights, for which it imports its compiler where the device is "meta".
    """

    def __init__(self, shape: Qwen2Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape.vocab_size, shape.hidden_size))

    def forward(self, ids_NT: Tensor) -> Tensor:
        return F.embedding(ids_NT, self.weight)


class Qwen2Layer(nn.Module):
    """Attention and a gated perceptron, each behind a norm and added to what came in."""

    def __init__(self, shape: Qwen2Shape) -> None:
        super().__init__()
        self.self_attn = Qwen2Attention(shape)
        self.mlp = GatedMLP(shape)
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, hidden_NTD: Tensor, sees_N1TT: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        hidden_NTD = hidden_NTD + self.self_attn(self.input_layernorm(hidden_NTD), sees_N1TT, rotation)
        return hidden_NTD + self.mlp(self.post_attention_layernorm(hidden_NTD))


class Qwen2Attention(nn.Module):
    """Grouped-query attention (Ainslie et al., EMNLP 2023) to the tokens that a mask shows."""

    def __init__(self, shape: Qwen2Shape) -> None:
        super().__init__()
        self.head_width = shape.hidden_size // shape.num_attention_heads
        self.groups = shape.num_attention_heads // shape.num_key_value_heads
        keys = shape.num_key_value_heads * self.head_width
        self.q_proj = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.k_proj = nn.Linear(shape.hidden_size, keys)
        self.v_proj = nn.Linear(shape.hidden_size, keys)
        self.o_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)

    def forward(self, hidden_NTD: Tensor, sees_N1TT: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        queries, keys, values = (
            projection(hidden_NTD).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries, keys = _rotated(queries, *rotation), _rotated(keys, *rotation)
        if self.groups > 1:
            keys, values = keys.repeat_interleave(self.groups, 1), values.repeat_interleave(self.groups, 1)
        attended_NHTd = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=sees_N1TT, scale=self.head_width**-0.5
        )
        return self.o_proj(attended_NHTd.transpose(1, 2).flatten(2))


def _rotated(states_NHTd: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = states_NHTd.chunk(2, dim=-1)
    return states_NHTd * cosines + torch.cat((-second, first), dim=-1) * sines


class GatedMLP(nn.Module):
    """SwiGLU (Shazeer, "GLU Variants Improve Transformer", 2020, equation 6)."""

    def __init__(self, shape: Qwen2Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, hidden_NTD: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(hidden_NTD)) * self.up_proj(hidden_NTD))


class RMSNorm(nn.Module):
    """Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, equation 4; in float32 at least."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, hidden_NTD: Tensor) -> Tensor:
        exact = hidden_NTD.to(torch.float32)
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return self.weight * exact.to(hidden_NTD.dtype)
