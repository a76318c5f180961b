"""Whether answers behind one shared copy of their prompt have the probabilities that they have behind their own.

Legend: N prompts, G answers of each, C answer tokens.
"""

from __future__ import annotations

import torch

from mriqa.policy.prompts_once import process_prompts
from mriqa.shared_prefix import Suffix, suffix_log_probs, why_not_shared
from mriqa.training.preflight.agreement import (
    disagreement,
    limit_of,
    own_log_probs,
    placed,
    quiet_passes,
    stated_answers,
)
from mriqa.training.preflight.findings import Finding, left_out, passed, problem
from mriqa.training.preflight.planned_run import PlannedRun

SCORES = (1.37, 4.52)


def check_shared_prefix(run: PlannedRun) -> Finding:
    """Two answers to each sample: both behind one prompt of a padded batch, and each by the model's own forward."""
    trainer = run.trainer
    assert trainer is not None
    if run.estimator == "supervised":
        return left_out("The warm start doesn't share prompts.")
    reason = why_not_shared(trainer.model)
    if reason or not run.config.shared_prefix:
        return left_out(f"Prompts aren't shared: {reason or 'shared_prefix is off'}.")
    device = trainer.accelerator.device
    answers = stated_answers(run, SCORES)
    length = min(map(len, answers))
    answers_GC = torch.stack([ids[:length] for ids in answers]).to(device)
    options = getattr(run.config, "chat_template_kwargs", None)
    prompts = placed(trainer, process_prompts(run.processor, run.samples, options))
    answers_NGC = answers_GC.expand(len(run.samples), -1, -1)
    with quiet_passes(trainer):
        suffix = Suffix.chains(answers_NGC, torch.ones_like(answers_NGC))
        shared_NK, _ = suffix_log_probs(trainer.model, prompts, suffix)
        own = [own_log_probs(trainer.model, prompts, ids_C.expand(len(run.samples), -1)) for ids_C in answers_GC]
        own_NGC = torch.stack(own, dim=1)
        apart, limit = disagreement(shared_NK.view_as(own_NGC), own_NGC), limit_of(trainer)
    if apart > limit:
        return problem(
            f"Behind a shared prompt an answer's log-probabilities differ by {apart:.2g} from the model's own forward, "
            f"where rounding explains {limit:g}: set --shared_prefix false."
        )
    return passed(f"{len(SCORES)} answers behind one prompt and behind their own: within {apart:.1g} of each other.")
