"""Prompts and pictures to model inputs, as transformers' LlavaProcessor makes them.

Legend: N prompts, P prompt tokens, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import tokenizers
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from torch import Tensor

from mriqa.plain_vlm.pictures import LOOKS

# Settings that are read, and others that change nothing here. With any other a folder is not for this module.
_PROCESSOR_KEYS = {
    *("image_processor", "image_token", "num_additional_image_tokens", "patch_size", "processor_class"),
    "vision_feature_select_strategy",
}
_TOKENIZER_KEYS = {
    *("backend", "eos_token", "extra_special_tokens", "is_local", "local_files_only", "max_length", "model_max_length"),
    *("pad_to_multiple_of", "pad_token", "pad_token_type_id", "padding_side", "processor_class", "tokenizer_class"),
}


class PlainInputs(dict[str, Tensor]):
    """Tensors by name."""

    def to(self, device: torch.device, dtype: torch.dtype) -> PlainInputs:
        """All on `device`, and those of floating point as `dtype`."""
        return PlainInputs(
            (name, tensor.to(device, dtype if tensor.is_floating_point() else None)) for name, tensor in self.items()
        )


class PlainTokenizer:
    """A `tokenizer.json`. Raises ValueError or KeyError for a `tokenizer_config.json` that changes it."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        if settings["tokenizer_class"] not in ("TokenizersBackend", "PreTrainedTokenizerFast"):
            raise ValueError("its tokenizer is another one")
        if other := set(settings) - _TOKENIZER_KEYS:
            raise ValueError(f"its tokenizer has the setting {min(other)}")
        self.inner = tokenizers.Tokenizer.from_file(str(path))
        self.inner.no_truncation()
        self.inner.no_padding()
        self.pad_token_id = self.inner.token_to_id(settings["pad_token"])

    def __call__(self, texts: str | Sequence[str], add_special_tokens: bool = True) -> dict[str, Any]:
        """Token ids, as "input_ids"."""
        if isinstance(texts, str):
            return {"input_ids": self.inner.encode(texts, add_special_tokens=add_special_tokens).ids}
        rows = self.inner.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        return {"input_ids": [row.ids for row in rows]}


class PlainProcessor:
    """A tokenizer, a chat template and what becomes of pictures.

    Args:
        tokenizer: of the prompts.
        template: the chat template, in Jinja.
        settings: its `processor_config.json`.

    Raises ValueError or KeyError for settings that ask for something else than this class does.
    """

    def __init__(self, tokenizer: PlainTokenizer, template: str, settings: Mapping[str, Any]) -> None:
        self.tokenizer = tokenizer
        # A name that the template has and this class doesn't know is an error, not empty text.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        self.template = environment.from_string(template)
        pictures = settings["image_processor"]
        _check(settings)
        self.look = LOOKS[pictures["image_processor_type"]](pictures)
        cells = math.prod(side // settings["patch_size"] for side in self.look.size)
        self.image_token = settings["image_token"]
        self.image_tokens = self.image_token * (cells + settings.get("num_additional_image_tokens", 0))

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        add_generation_prompt: bool,
        tokenize: bool = False,
        **_: Any,
    ) -> Any:
        """One conversation as text, or with `tokenize` several with a picture in each as `PlainInputs`.

        Those are input_ids and attention_mask (N, P), padded on the left, and pixel_values (N, 3, H, W). Further
        arguments ask for this form and change nothing.
        """
        if not tokenize:
            return self.template.render(messages=conversation, add_generation_prompt=add_generation_prompt)
        texts = [self.apply_chat_template(one, add_generation_prompt) for one in conversation]
        rows = self.tokenizer([text.replace(self.image_token, self.image_tokens) for text in texts])["input_ids"]
        longest = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        pictures = [
            part["image"]
            for messages in conversation
            for message in messages
            for part in message["content"]
            if part["type"] == "image"
        ]
        return PlainInputs(
            input_ids=torch.tensor([[pad] * (longest - len(row)) + row for row in rows]),
            attention_mask=torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
            pixel_values=torch.stack([self.look(picture) for picture in pictures]),
        )


def _check(settings: Mapping[str, Any]) -> None:
    if other := set(settings) - _PROCESSOR_KEYS:
        raise ValueError(f"its processor has the setting {min(other)}")
    if settings["processor_class"] != "LlavaProcessor":
        raise ValueError("its processor is another one")
    if settings["vision_feature_select_strategy"] != "full":
        raise ValueError("its processor writes another number of image tokens")
