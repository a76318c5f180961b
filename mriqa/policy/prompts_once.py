"""Process each prompt of a rollout once, whatever the number of its completions.

TRL hands its processor every prompt and image G times, in `_tokenize_prompts` and again behind the sampling.
`PromptsOnce` stands where the processor stands during one rollout: the first call processes the distinct prompts, and
the second one gets rows repeated from that.

Legend: N distinct prompts, P prompt tokens, R rows (N times G completions).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature, ProcessorMixin
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

TEXT_INPUTS = ("input_ids", "attention_mask")


class PromptsOnce:
    """A processor for one rollout of TRL's.

    Args:
        processor: the model's own, for an architecture whose image tensors come one row, or one grid, per image.
        place: moves a tensor to where the model is.
        images_per_row: whether the second call repeats the images' tensors too, which copies all their pixels.

    Attributes:
        prompts: what the processor returned for the N distinct prompts, left-padded; empty before the first call.
        prompt_of_R: the distinct prompt of each row.
    """

    def __init__(self, processor: ProcessorMixin, place: Callable[[Any], Any], images_per_row: bool = True):
        self._processor: Any = processor
        self._place = place
        self.images_per_row = images_per_row
        self._images_of_N: list[int] = []
        self.prompts: dict[str, torch.Tensor] = {}
        self.prompt_of_R: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def apply_chat_template(self, conversation: Any, tokenize: bool = False, **options: Any) -> Any:
        """With `tokenize`, for R conversations: the token ids of each, without padding, and no other input."""
        if not tokenize:
            return self._processor.apply_chat_template(conversation, tokenize=False, **options)
        distinct, self.prompt_of_R = distinct_conversations(conversation)
        batch = self._processor.apply_chat_template(
            distinct,
            tokenize=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
            **options,
        )
        ids_N = [ids_P[mask_P.bool()].tolist() for ids_P, mask_P in zip(*map(batch.get, TEXT_INPUTS), strict=True)]
        self.prompts = {name: self._place(tensor) for name, tensor in batch.items()}
        self._images_of_N = [_count_images(messages) for messages in distinct]
        return {"input_ids": [ids_N[prompt] for prompt in self.prompt_of_R]}

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The inputs of all rows but for their text, once these have been through `apply_chat_template`."""
        if not self.prompts:
            return self._processor(*args, **options)
        rows = self.tokens_of_rows() | (self.images_of_rows() if self.images_per_row else self._images())
        return BatchFeature(rows)

    def tokens_of_rows(self) -> dict[str, torch.Tensor]:
        """Inputs with an entry per token, such as mm_token_type_ids, of the R rows; not token ids and mask."""
        shape = self.prompts["input_ids"].shape
        kinds = {name: each for name, each in self.prompts.items() if each.shape == shape and name not in TEXT_INPUTS}
        return {name: each[torch.tensor(self.prompt_of_R, device=each.device)] for name, each in kinds.items()}

    def images_of_rows(self) -> dict[str, torch.Tensor]:
        """The images' tensors, repeated for the R rows."""
        rows: dict[str, Any] = {}
        counts: dict[str, Any] = {"num_images": self._images_of_N}
        for name, values in split_pixel_values_by_grid({**self._images(), **counts}).items():
            if isinstance(values, list):
                rows[name] = [values[prompt] for prompt in self.prompt_of_R]
            else:
                rows[name] = values[torch.tensor(self.prompt_of_R, device=values.device)]
        rows.pop("num_images")
        return unsplit_pixel_values_by_grid(rows)

    def _images(self) -> dict[str, torch.Tensor]:
        shape = self.prompts["input_ids"].shape
        return {name: tensor for name, tensor in self.prompts.items() if tensor.shape != shape}


def distinct_conversations(conversations: list[Any]) -> tuple[list[Any], list[int]]:
    """(The first of each set of equal conversations, which of these each conversation equals); pixels are compared."""
    digests: dict[int, str] = {}
    place_of: dict[Hashable, int] = {}
    distinct: list[Any] = []
    prompt_of: list[int] = []
    for messages in conversations:
        key = _key(messages, digests)
        if key not in place_of:
            place_of[key] = len(distinct)
            distinct.append(messages)
        prompt_of.append(place_of[key])
    return distinct, prompt_of


def _key(value: Any, digests: dict[int, str]) -> Hashable:
    """Equal for equal content; `digests` remembers pictures, which the rows of one prompt usually share."""
    if isinstance(value, dict):
        return tuple((name, _key(entry, digests)) for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_key(entry, digests) for entry in value)
    if isinstance(value, Image.Image):
        if id(value) not in digests:
            digests[id(value)] = hashlib.blake2b(value.tobytes()).hexdigest()
        return Image.Image, value.mode, value.size, digests[id(value)]
    return value if isinstance(value, (str, int, float, type(None))) else (type(value), id(value))


def _count_images(messages: list[dict[str, Any]]) -> int:
    return sum(
        part["type"] == "image"
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
    )
