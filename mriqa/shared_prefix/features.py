"""Features of prompts out of a forward pass that runs anyway, for a head that reads beside the policy.

"last_hidden" is the final hidden state (behind the last norm) at a prompt's last token, the one that the answer's first
token is predicted from. "vision" is the mean, over a picture's tokens, of what the language model is given for them:
the vision tower's output behind the projector.

Whatever follows the prompt in the pass, packed answers or a tree of scores, neither feature sees any of it.
Legend: R rows of the pass, P prompt tokens, T tokens of the pass, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mriqa.shared_prefix.families import core_of

POOLINGS = ("last_hidden", "vision")


class PromptFeatures:
    """What `prompt_features` hands out; `rows_RD` is there once the pass has run.

    Attributes:
        rows_RD: one feature vector for each row of the first pass, part of its graph.
    """

    def __init__(self, prompt_length: int, image_token: int | None) -> None:
        self._prompt_length, self._image_token = prompt_length, image_token
        self._is_image_RP: torch.Tensor | None = None
        self._found_RD: torch.Tensor | None = None

    @property
    def rows_RD(self) -> torch.Tensor:
        if self._found_RD is None:
            raise RuntimeError("No pass of the model has run within `prompt_features`, so there is nothing to read.")
        return self._found_RD

    def read_hidden(self, _module: nn.Module, _args: Any, output: Any) -> None:
        """Hook behind the model without its LM head."""
        if self._found_RD is None:
            self._found_RD = output.last_hidden_state[:, self._prompt_length - 1]

    def note_images(self, _module: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
        """Hook before the model: where its pictures' tokens stand."""
        if self._found_RD is None:
            self._is_image_RP = inputs["input_ids"][:, : self._prompt_length] == self._image_token

    def read_images(self, _module: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
        """Hook before the language model: the mean of what it is given for these tokens."""
        if self._found_RD is None and self._is_image_RP is not None:
            given_RPD = inputs["inputs_embeds"][:, : self._prompt_length].float()
            share_RP = self._is_image_RP / self._is_image_RP.sum(dim=1, keepdim=True).clamp_min(1)
            self._found_RD = (share_RP.to(given_RPD)[:, None] @ given_RPD).squeeze(1)


@contextmanager
def prompt_features(model: nn.Module, pooling: str, prompt_length: int) -> Iterator[PromptFeatures]:
    """Take a feature of each row from the first pass of `model` within the block, gradients included.

    Args:
        model: an image-text model of transformers, bare or wrapped. Sampled answers may follow the pass.
        pooling: "last_hidden" or "vision".
        prompt_length: P, padding on the left included.

    Raises ValueError for an unknown pooling.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"Features of a prompt are one of {', '.join(POOLINGS)}, not {pooling!r}.")
    core: Any = core_of(model)
    found = PromptFeatures(prompt_length, getattr(core.config, "image_token_id", None))
    if pooling == "last_hidden":
        handles = [core.base_model.register_forward_hook(found.read_hidden)]
    else:
        handles = [
            core.base_model.register_forward_pre_hook(found.note_images, with_kwargs=True),
            core.get_decoder().register_forward_pre_hook(found.read_images, with_kwargs=True),
        ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
