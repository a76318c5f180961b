"""Keep the base model's weights in 4 bits while an adapter trains, by bitsandbytes.

The method is QLoRA (Dettmers et al., NeurIPS 2023).

Weights are NF4 with double quantisation, and each product is computed in `dtype`. The vision tower and the LM head keep
their precision: they are small beside the rest, and the tower's features are cached where it is frozen.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from mriqa.errors import SettingsError
from mriqa.frozen.cached_tower import TOWER_NAMES

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

    from mriqa.training.config import RunArguments

HEAD = "lm_head"


def four_bit(arguments: RunArguments) -> BitsAndBytesConfig | None:
    """How `load_in_4bit` loads the model; None where it isn't asked for.

    Raises SettingsError without LoRA, CUDA or bitsandbytes.
    """
    if not arguments.load_in_4bit:
        return None
    if arguments.lora_r == 0:
        raise SettingsError(
            "load_in_4bit keeps weights that can't be trained: train an adapter beside them, --lora_r 64."
        )
    if not torch.cuda.is_available():
        raise SettingsError("load_in_4bit needs a GPU with CUDA, and there is none here: leave out --load_in_4bit.")
    if find_spec("bitsandbytes") is None:
        raise SettingsError("load_in_4bit needs bitsandbytes: pip install 'mriqa[quantised]', or leave it out.")
    return settings(arguments.dtype)


def settings(dtype: str) -> BitsAndBytesConfig:
    """4-bit NF4 with double quantisation, computing in `dtype`."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[*TOWER_NAMES, HEAD],  # the name is from 8 bits; it is heeded in 4 bits as well
    )


def quantised_device() -> str:
    """The card of this process, where weights have to be as they are quantised."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
