"""Process each prompt of a rollout once, whatever the number of its completions.

TRL hands its processor every prompt and image G times, once for their tokens and again behind the sampling for what the
update needs. `PromptsOnce` stands where the trainer's processor stands: `process` reads the distinct prompts of a
rollout, and TRL's second call is answered with rows repeated from that.

vLLM in colocate mode wants its prompts in another form, which `one_token_per_image` gives them.

Legend: N distinct prompts, P prompt tokens, R rows (N times G completions).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature, ProcessorMixin
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from mriqa.errors import SettingsError

TEXT_INPUTS = ("input_ids", "attention_mask")


def process_prompts(
    processor: ProcessorMixin, rows: Sequence[Mapping[str, Any]], chat_options: Mapping[str, Any] | None = None
) -> dict[str, torch.Tensor]:
    """What a model reads of the prompts and images of data set rows (N): left-padded tensors, on CPU."""
    conversations = [prepare_multimodal_messages(row["prompt"], images=[row["image"]]) for row in rows]
    return _process(processor, conversations, chat_options)


def _process(
    processor: ProcessorMixin, conversations: Sequence[Any], chat_options: Mapping[str, Any] | None
) -> dict[str, torch.Tensor]:
    options: dict[str, Any] = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
    padding = {"padding": True, "padding_side": "left"}
    batch: Any = processor.apply_chat_template(
        list(conversations), tokenize=True, processor_kwargs=padding, **options, **(chat_options or {})
    )
    return dict(batch)


class PromptsOnce:
    """A trainer's processor, which answers TRL's call behind the sampling from the prompts that were processed before.

    Whatever else is asked of it goes to the model's own processor.

    Args:
        processor: the model's own, for an architecture whose image tensors come one row, or one grid, per image.
        place: moves a tensor to where the model is.
        chat_options: of the chat template.
        images_per_row: whether TRL's call gets the images' tensors repeated too, which copies all their pixels.

    Attributes:
        prompts: what the processor returned for the N distinct prompts of this rollout, left-padded.
        prompt_of_R: the distinct prompt of each row.
        images_of_N: the images of each distinct prompt.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        place: Callable[[Any], Any],
        chat_options: Mapping[str, Any] | None = None,
        images_per_row: bool = False,
    ):
        self._processor: Any = processor
        self._place, self._chat_options = place, chat_options
        self.images_per_row = images_per_row
        self.images_of_N: list[list[Image.Image]] = []
        self.prompts: dict[str, torch.Tensor] = {}
        self.prompt_of_R: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def process(self, conversations: Sequence[Any]) -> list[list[int]]:
        """Read the prompts of a rollout's R rows, each distinct one once; token ids of each row, without padding."""
        distinct, self.prompt_of_R = distinct_conversations(conversations)
        batch = _process(self._processor, distinct, self._chat_options)
        ids_N = [
            ids_P[mask_P.bool()].tolist()
            for ids_P, mask_P in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        self.prompts = {name: self._place(tensor) for name, tensor in batch.items()}
        self.images_of_N = [_images_of(messages) for messages in distinct]
        return [ids_N[prompt] for prompt in self.prompt_of_R]

    @property
    def images(self) -> list[list[Image.Image]]:
        """The images of each prompt, or of each row where the rows' tensors are repeated."""
        return self.images_of_R if self.images_per_row else self.images_of_N

    @property
    def images_of_R(self) -> list[list[Image.Image]]:
        """The images of each row."""
        return [self.images_of_N[prompt] for prompt in self.prompt_of_R]

    @property
    def group_R(self) -> torch.Tensor | None:
        """The prompt of each row (R,) where images come once per prompt; None where they come once per row."""
        return None if self.images_per_row else torch.tensor(self.prompt_of_R)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The inputs of this rollout's rows but for their text, whatever the arguments, which TRL makes of them."""
        rows = self.tokens_of_rows() | (self.tensors_of_rows() if self.images_per_row else self._image_tensors())
        return BatchFeature(rows)

    def tokens_of_rows(self) -> dict[str, torch.Tensor]:
        """Inputs with an entry per token, such as mm_token_type_ids, of the R rows; not token ids and mask."""
        shape = self.prompts["input_ids"].shape
        kinds = {name: each for name, each in self.prompts.items() if each.shape == shape and name not in TEXT_INPUTS}
        return {name: each[torch.tensor(self.prompt_of_R, device=each.device)] for name, each in kinds.items()}

    def tensors_of_rows(self) -> dict[str, torch.Tensor]:
        """The images' tensors, repeated for the R rows."""
        rows: dict[str, Any] = {}
        counts: dict[str, Any] = {"num_images": [len(images) for images in self.images_of_N]}
        for name, values in split_pixel_values_by_grid({**self._image_tensors(), **counts}).items():
            if isinstance(values, list):
                rows[name] = [values[prompt] for prompt in self.prompt_of_R]
            else:
                rows[name] = values[torch.tensor(self.prompt_of_R, device=values.device)]
        rows.pop("num_images")
        return unsplit_pixel_values_by_grid(rows)

    def _image_tensors(self) -> dict[str, torch.Tensor]:
        shape = self.prompts["input_ids"].shape
        return {name: tensor for name, tensor in self.prompts.items() if tensor.shape != shape}


def distinct_conversations(conversations: Sequence[Any]) -> tuple[list[Any], list[int]]:
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


def _images_of(messages: list[dict[str, Any]]) -> list[Image.Image]:
    return [
        part["image"]
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image"
    ]


def one_token_per_image(
    prompt_ids: Sequence[Sequence[int]], images: Sequence[Sequence[Any] | None], image_token_id: int
) -> list[list[int]]:
    """The prompts with each run of the image token collapsed to one, as vLLM in colocate mode wants them.

    TRL hands vLLM token ids in which each image is already as many image tokens as it has features, and vLLM expands
    each of these tokens again, so that the prompt grows (TRL #6294). Raises SettingsError where collapsing doesn't
    leave one token per image, as with processors that cut an image into tiles.
    """
    collapsed = []
    for ids, pictures in zip(prompt_ids, images, strict=True):
        runs = [(token, 1 if token == image_token_id else len(list(run))) for token, run in groupby(ids)]
        tokens = [token for token, length in runs for _ in range(length)]
        if tokens.count(image_token_id) != len(pictures or ()):
            raise SettingsError(
                f"vLLM in colocate mode can't be given this model's prompts: {len(pictures or ())} images stand in "
                f"{tokens.count(image_token_id)} places of the prompt. Use --vllm_mode server, or leave out --use_vllm."
            )
        collapsed.append(tokens)
    return collapsed
