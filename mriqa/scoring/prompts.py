"""Images to model inputs: the answer format's messages with the image first, through the model's own chat template.

This is the form in which TRL hands the same messages to the model in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mriqa.answers import AnswerFormat

if TYPE_CHECKING:
    from PIL import Image
    from transformers import BatchFeature, ProcessorMixin


def conversation(answer_format: AnswerFormat, image: Image.Image | None = None) -> list[dict[str, Any]]:
    """The chat messages that ask for one image's score; without an image, with its placeholder only."""
    messages: list[dict[str, Any]] = [
        {"role": message["role"], "content": [{"type": "text", "text": message["content"]}]}
        for message in answer_format.messages()
    ]
    first_user = next(message for message in messages if message["role"] == "user")
    first_user["content"].insert(0, {"type": "image"} if image is None else {"type": "image", "image": image})
    return messages


def prompt_text(processor: ProcessorMixin, answer_format: AnswerFormat) -> str:
    """The text the model continues with its answer, one image placeholder in it."""
    return processor.apply_chat_template(conversation(answer_format), add_generation_prompt=True)


def prompt_batch(processor: ProcessorMixin, answer_format: AnswerFormat, images: Sequence[Image.Image]) -> BatchFeature:
    """Model inputs for B images, padded on the left. Raises ValueError where the processor refuses an image."""
    inputs: Any = processor.apply_chat_template(  # annotated as text, which it is not with return_dict
        [conversation(answer_format, image) for image in images],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    return inputs
