"""vLLM in colocate mode, given prompts with images as it wants them.

TRL hands vLLM token ids in which each image is already as many image tokens as it has features, and vLLM expands each
of these tokens again, so that the prompt grows (TRL #6294). vLLM wants one image token per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from mriqa.policy.checks import SettingsError


def one_token_per_image(
    prompt_ids: Sequence[Sequence[int]], images: Sequence[Sequence[Any] | None], image_token_id: int
) -> list[list[int]]:
    """The prompts with each run of the image token collapsed to one.

    Raises SettingsError where that doesn't leave one token per image, as with processors that cut an image into tiles.
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
