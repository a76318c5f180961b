"""Whether a picture is read in a padded batch as it is alone (TRL #5785: padding that corrupts images)."""

from __future__ import annotations

import torch

from mriqa.policy.prompts_once import process_prompts
from mriqa.training.preflight.agreement import (
    disagreement,
    limit_of,
    own_log_probs,
    placed,
    quiet_passes,
    stated_answers,
)
from mriqa.training.preflight.findings import Finding, passed, problem
from mriqa.training.preflight.planned_run import PlannedRun


def check_padded_batches(run: PlannedRun) -> Finding:
    """Log-probabilities of one answer to each sample: its prompt alone, and all prompts in a padded batch."""
    trainer = run.trainer
    assert trainer is not None
    (answer_C,) = stated_answers(run)
    options = getattr(run.config, "chat_template_kwargs", None)

    def read(rows: list[dict[str, object]]) -> torch.Tensor:
        prompts = placed(trainer, process_prompts(run.processor, rows, options))
        return own_log_probs(trainer.model, prompts, answer_C.to(trainer.accelerator.device).expand(len(rows), -1))

    with quiet_passes(trainer):
        apart, limit = (
            disagreement(torch.cat([read([row]) for row in run.samples]), read(run.samples)),
            limit_of(trainer),
        )
    if apart > limit:
        return problem(
            f"Log-probabilities of an answer differ by {apart:.2g} between a picture alone and in a padded batch, "
            f"where rounding explains {limit:g}, so padding corrupts what the model sees (as in TRL #5785): give it "
            "pictures of one size, or another release of transformers."
        )
    return passed(
        f"{len(run.samples)} pictures of mixed sizes, alone and in a batch: within {apart:.1g} of each other."
    )
