"""The auxiliary head that --aux names, put together for the trainer: the head, how it trains, where it is saved.

Legend: R training images, D features.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mriqa.errors import SettingsError
from mriqa.heads.neighbour_head import AuxiliaryHead, HeadScorer
from mriqa.manifest import RatedImage
from mriqa.policy.auxiliary import Auxiliary, check_auxiliary
from mriqa.shared_prefix import core_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NONE, CONORD = "none", "conord"


@dataclass
class AuxiliaryArguments:
    """Options of a head that trains beside the policy; each can also be written with dashes."""

    aux: str = field(
        default=NONE,
        metadata={
            "help": "A head that trains beside the policy and scores beside it afterwards: 'conord' (ordinal contrast "
            "of the pictures of a micro-batch, and nearest neighbours), or 'none'."
        },
    )
    aux_weight: float = field(
        default=0.1, metadata={"help": "Weight of the head's loss beside the policy's; 0 is the same as no head."}
    )
    aux_schedule: str = field(
        default="constant",
        metadata={"help": "How that weight changes: 'constant', or down to 0 by 'linear' or 'cosine'."},
    )
    aux_learning_rate: float = field(
        default=1e-3,
        metadata={"help": "Initial learning rate of the head's own weights; lr_scheduler_type governs it."},
    )
    aux_features: str = field(
        default="last_hidden",
        metadata={
            "help": "What the head reads: 'last_hidden', the model's last hidden state at the prompt's end, or "
            "'vision', the mean of a picture's tokens as the language model is given them."
        },
    )
    aux_gather: bool = field(
        default=False, metadata={"help": "Let the head compare the pictures of all processes, not of each by itself."}
    )


def check_aux(arguments: AuxiliaryArguments, config: Any) -> None:
    """SettingsError for options of a head that can't train; a warning where it has no other picture to compare with."""
    if arguments.aux not in (NONE, CONORD):
        raise SettingsError(f'aux is "{CONORD}" or "{NONE}", not "{arguments.aux}".')
    if not _is_on(arguments):
        return
    check_auxiliary(config, *_settings(arguments))
    compared = config.per_device_train_batch_size * (config.world_size if arguments.aux_gather else 1)
    if compared <= config.num_generations:
        warnings.warn(
            f"A micro-batch holds one picture only ({compared} completions, num_generations {config.num_generations}), "
            "so the auxiliary head has nothing to compare it with and learns from its centre loss alone: raise "
            "per_device_train_batch_size, or use --aux_gather on several processes.",
            stacklevel=2,
        )


def auxiliary_on(
    arguments: AuxiliaryArguments, config: Any, model: PreTrainedModel, rows: Sequence[RatedImage]
) -> Auxiliary | None:
    """The head that the arguments ask for, made for the training images `rows`; None where they ask for none."""
    if not _is_on(arguments):
        return None
    core: Any = core_of(model)
    head = AuxiliaryHead(
        core.config.get_text_config().hidden_size,
        torch.tensor([row.mos for row in rows]),
        gather=arguments.aux_gather,
        seed=config.seed,
    )

    def save(model_dir: Path, features_RD: torch.Tensor, mos_R: torch.Tensor) -> None:
        HeadScorer.build(head, arguments.aux_features, features_RD, mos_R).save(model_dir / arguments.aux)

    return Auxiliary(head, *_settings(arguments), save)


def _is_on(arguments: AuxiliaryArguments) -> bool:
    return arguments.aux != NONE and arguments.aux_weight != 0


def _settings(arguments: AuxiliaryArguments) -> tuple[str, float, str, float]:
    return arguments.aux_features, arguments.aux_weight, arguments.aux_schedule, arguments.aux_learning_rate
