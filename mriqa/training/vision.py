"""Freeze a vision-language model's vision tower, regularise what it hands on, and set how many pixels it is shown.

A frozen tower was best out of domain in a follow-up by the MR-IQA authors, costs no optimiser state, and is what a
tower with batch normalisation needs: its running statistics must not follow the training batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mriqa.errors import SettingsError
from mriqa.frozen.cached_tower import TOWER_NAMES, vision_towers

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, ProcessorMixin

TOWER_PATTERN = rf".*\b({'|'.join(TOWER_NAMES)})\..*"  # for LoRA's exclude_modules


def freeze_vision(model: PreTrainedModel) -> int:
    """Stop training the vision tower of `model` in place and return how many parameters that froze.

    The tower also stays in evaluation mode whatever `model.train()` says afterwards. Raises SettingsError where no
    tower is found.
    """
    towers = vision_towers(model)
    if not towers:
        raise SettingsError(
            f"freeze_vision found no vision tower in {type(model).__name__} (looked for {', '.join(TOWER_NAMES)}); "
            "leave freeze_vision out for this model."
        )
    for tower in towers:
        tower.requires_grad_(False)
        tower.eval()
        tower.register_forward_pre_hook(_stay_in_evaluation_mode)
    return sum(parameter.numel() for tower in towers for parameter in tower.parameters())


def jitter_features(model: PreTrainedModel, strength: float) -> None:
    """Shift each channel of each image's vision features by N(0, strength²) while `model` trains, in place.

    One shift per image and channel, the same for all its tokens: a model that must bear it reads many channels a
    little instead of a few a lot, as ridge regression does (Bishop, "Training with Noise is Equivalent to Tikhonov
    Regularization", 1995), and holds better on pictures from elsewhere. `strength` is in the features' own unit;
    the embedded tower's are standardised. Raises SettingsError where `model` has no `multi_modal_projector`.
    """
    projectors = [module for name, module in model.named_modules() if name.endswith("multi_modal_projector")]
    if not projectors:
        raise SettingsError(
            f"feature_jitter works on the input of a multi_modal_projector, and {type(model).__name__} has none: "
            "leave feature_jitter out for this model."
        )

    def shift(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        if not module.training:
            return None
        features_BTD = inputs[0]
        shift_B1D = strength * torch.randn_like(features_BTD[:, :1])
        return (features_BTD + shift_B1D, *inputs[1:])

    for projector in projectors:
        projector.register_forward_pre_hook(shift)


def set_pixel_budget(processor: ProcessorMixin, min_pixels: int | None, max_pixels: int | None) -> None:
    """Make a Qwen-VL `processor` resize every image to between `min_pixels` and `max_pixels` pixels, in place.

    The budget is saved with the processor, so the trained model is scored at the size it was trained at. Raises
    SettingsError for processors that don't work by pixel count, and where the minimum exceeds the maximum.
    """
    if min_pixels is None and max_pixels is None:
        return
    image_processor: Any = processor.image_processor  # type: ignore[attr-defined]  # set by subclasses
    size = image_processor.size
    if "Qwen" not in type(image_processor).__name__ or "longest_edge" not in size:
        raise SettingsError(
            f"{type(image_processor).__name__} has no pixel budget, so min_pixels and max_pixels don't apply: leave "
            "them out for this model."
        )
    # transformers keeps Qwen's two pixel counts under these names, although they are areas and not edges.
    low, high = min_pixels or size["shortest_edge"], max_pixels or size["longest_edge"]
    if low > high:
        raise SettingsError(f"min_pixels ({low:,}) is larger than max_pixels ({high:,}): swap or change them.")
    image_processor.size = {"shortest_edge": low, "longest_edge": high}


def _stay_in_evaluation_mode(module: nn.Module, _inputs: Any) -> None:
    if module.training:
        module.eval()
