"""The table of checks: what each is called, and whether it needs the trainer. A new check is a file and a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mriqa.training.preflight.answer_digits import check_answer_digits
from mriqa.training.preflight.findings import Finding
from mriqa.training.preflight.image_tokens import check_image_tokens
from mriqa.training.preflight.memory_room import check_memory, check_time
from mriqa.training.preflight.padded_batches import check_padded_batches
from mriqa.training.preflight.planned_run import PlannedRun
from mriqa.training.preflight.prefix_agreement import check_shared_prefix
from mriqa.training.preflight.rating_scale import check_rating_scale
from mriqa.training.preflight.reward_response import check_rewards_move
from mriqa.training.preflight.rollout_agreement import check_rollout
from mriqa.training.preflight.saving import check_saving


@dataclass(frozen=True)
class Check:
    """One check: its name in the table, and what looks at the run."""

    name: str
    look: Callable[[PlannedRun], Finding]


BEFORE_LOADING = (
    Check("scale", check_rating_scale),
    Check("rewards", check_rewards_move),
    Check("digits", check_answer_digits),
    Check("memory", check_memory),
    Check("saving", check_saving),
    Check("time", check_time),
)
ON_THE_TRAINER = (
    Check("image tokens", check_image_tokens),
    Check("padding", check_padded_batches),
    Check("shared prefix", check_shared_prefix),
    Check("rollout", check_rollout),
)
