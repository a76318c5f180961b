"""From a model's folder to a model and a processor in plain torch, where everything in the folder is known."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mriqa.plain_vlm.fast_vlm import PlainFastVlm
from mriqa.plain_vlm.processor import PlainProcessor, PlainTokenizer

_log = logging.getLogger(__name__)

_SETTINGS = ("config.json", "processor_config.json", "tokenizer_config.json")
# Further files that change what a model, its tokenizer or its processor is.
_CHANGES = ("adapter_config.json", "added_tokens.json", "special_tokens_map.json", "preprocessor_config.json")
_TIED = "model.language_model.embed_tokens.weight"


def load_plain(folder: Path) -> tuple[PlainFastVlm, PlainProcessor] | None:
    """The model on the CPU in float32 and its processor, or None where `mriqa.models.load_vlm` has to load them.

    That is so for every other architecture, tower, processor or tokenizer, and for a folder that is broken: the
    ordinary loader says how.
    """
    try:
        config, processor_settings, tokenizer_settings = (_read(folder / name) for name in _SETTINGS)
        if changes := [name for name in _CHANGES if (folder / name).exists()]:
            raise ValueError(f"it has a file {changes[0]}")
        tokenizer = PlainTokenizer(folder / "tokenizer.json", tokenizer_settings)
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        processor = PlainProcessor(tokenizer, template, processor_settings)
        processor.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}], add_generation_prompt=True)
        with torch.device("meta"):
            model = PlainFastVlm(config)
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"] = weights[_TIED]
        model.load_state_dict(weights, assign=True)
    except Exception as error:  # whatever is wrong or missing, the ordinary loader finds it, and has a sentence for it
        _log.debug("%s is read by transformers: %s", folder, error)
        return None
    return model.to(torch.float32).requires_grad_(False).eval(), processor


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
