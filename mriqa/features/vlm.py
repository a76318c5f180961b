"""Features from a vision-language model: what its language model is shown of a picture, averaged over the tokens.

That is the output of the vision tower behind its projector or merger, so it moves while either of them is trained.

Legend: B pictures, T image tokens, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mriqa.features.encoder import Encoder, FeatureError, digest
from mriqa.shared_prefix import core_of


def load_vlm_encoder(path: str | Path, device: str | None = None) -> Encoder:
    """The vision features of a saved model or hub repository. Raises ModelError where there is none."""
    from mriqa.models import load_vlm

    model, processor = load_vlm(path, device=device)
    return vlm_encoder(model, processor, name=f"vlm:{path}")


def vlm_encoder(model: Any, processor: Any, name: str = "vlm") -> Encoder:
    """The vision features of a model as it is now, whatever wraps it; training mode is left as it was.

    The key is a digest of all weights beside the language model, so a model in training is never served old features.

    Raises:
        FeatureError: the model has no image features of its own.
    """
    core: Any = core_of(model)
    if not hasattr(core, "get_image_features"):
        raise FeatureError(f"{type(core).__name__} has no get_image_features, so it is no encoder of pictures.")

    def tokens_of(images: list[Image.Image]) -> list[torch.Tensor]:
        inputs = processor.image_processor(images=images, return_tensors="pt")
        inputs = {key: value.to(core.device) for key, value in inputs.items() if isinstance(value, torch.Tensor)}
        if inputs["pixel_values"].is_floating_point():  # others are for the model to convert
            inputs["pixel_values"] = inputs["pixel_values"].to(core.dtype)
        output = core.get_image_features(**inputs)
        features = getattr(output, "pooler_output", None)
        return list(output.last_hidden_state if features is None else features)

    @torch.no_grad()
    def encode(images: list[Image.Image]) -> torch.Tensor:
        with _in_evaluation_mode(core):
            parts = tokens_of(images)
            if len(parts) != len(images):  # pictures cut into tiles: one at a time, so that its tiles are known
                parts = [torch.cat([tile.flatten(0, -2) for tile in tokens_of([image])]) for image in images]
        return torch.stack([part.flatten(0, -2).float().mean(dim=0) for part in parts]).cpu()

    vision = {key: value for key, value in core.state_dict().items() if not _of_language(key)}
    settings = processor.image_processor.to_dict() if hasattr(processor.image_processor, "to_dict") else {}
    return Encoder(name, digest("vlm", type(core).__name__, sorted(map(str, settings.items())), weights=vision), encode)


def _of_language(weight: str) -> bool:
    return "language_model." in weight or weight.startswith(("lm_head.", "model.text_model."))


@contextmanager
def _in_evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
