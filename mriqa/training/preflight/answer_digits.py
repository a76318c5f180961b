"""Whether each character of a score is one token, which the exact readout and the exact estimator need."""

from __future__ import annotations

from mriqa.scoring.prompts import prompt_text
from mriqa.shared_prefix.score_tree import ScoreTree, ScoreTreeError
from mriqa.training.preflight.findings import Finding, left_out, passed, problem
from mriqa.training.preflight.planned_run import PlannedRun


def check_answer_digits(run: PlannedRun) -> Finding:
    """Every score an answer can state, in the model's tokens."""
    if reason := run.answer_format.why_not_listed:
        return left_out(f"The exact readout doesn't apply, since {reason}; scores are read from generated answers.")
    if run.estimator != "exact" and run.arguments.val_readout in ("greedy", "sample"):
        return left_out(f"Validation reads {run.arguments.val_readout} answers, whatever their tokens.")
    tokenizer = run.processor.tokenizer  # type: ignore[attr-defined]  # set by subclasses
    try:
        tree = ScoreTree.build(tokenizer, run.answer_format, prompt_text(run.processor, run.answer_format))
    except ScoreTreeError as error:
        cure = (
            "use --estimator sampled and --val_readout greedy"
            if run.estimator == "exact"
            else "set --val_readout greedy"
        )
        return problem(f"The digits of a score are no single tokens here: an exact score {error}; {cure}.")
    return passed(f"{len(tree.values_S)} scores, each of {tree.score_ids_SD.shape[1]} single-character tokens.")
