"""What commands on features share: the options of encoders, and the features of pictures as they ask for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mriqa.selection.mixture.choice import FeaturesOf

ContentEncoder = Annotated[
    str,
    typer.Option(
        "--encoder",
        help="Features: lite0, resnet50, resnet50_pooled, swin_b, swin_b_stage4, timm:NAME, vlm:FOLDER, levels:FOLDER, "
        "shamisa:FOLDER or FILE.py:FUNCTION.",
    ),
]
Cache = Annotated[Path, typer.Option(help="Folder where features are kept, so that the next run takes seconds.")]
EncoderBatch = Annotated[int, typer.Option("--batch-size", min=1, help="Images that go through the encoder together.")]


def features_by_role(
    encoders: dict[str, str], cache: Path, resize: int | None, crop: int | None, batch_size: int, device: str | None
) -> FeaturesOf:
    """A function from pictures and a role to the features (N, D) of the role's encoder, which is loaded when needed."""
    from mriqa.features import Encoder, extract, load_encoder

    loaded: dict[str, Encoder] = {}

    def features_of(images: Any, role: str) -> Any:
        if role not in loaded:
            loaded[role] = load_encoder(encoders[role], device)
        encoder = loaded[role]
        look = encoder.views
        if resize is not None:
            look = replace(look, size=resize)
        if crop is not None:
            look = replace(look, crop=crop, count=5)
        return extract(images, encoder, cache=cache, look=look, batch_size=batch_size)

    return features_of
