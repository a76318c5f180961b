"""A progress bar that shows how the scores do, in place of one long dictionary per step."""

from __future__ import annotations

from typing import Any

from transformers import PrinterCallback, ProgressCallback, Trainer

SHOWN = {
    "loss": "loss",
    "reward": "reward",
    "reward_std": "± ",
    "score/parse_rate": "parsed",
    "score/unique_ratio": "unique",
    "kl": "kl",
    "aux/loss": "aux",
    "eval_srcc": "SRCC",
    "eval_plcc": "PLCC",
}


class ScoreProgress(ProgressCallback):
    """transformers' progress bar, with the few numbers that matter beside it; the whole log goes to the trackers."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or self.training_bar is None or not logs:
            return
        shown = "  ".join(
            f"{label} {logs[key]:.3f}" for key, label in SHOWN.items() if isinstance(logs.get(key), (int, float))
        )
        if any(key.startswith("eval_") for key in logs):
            self.training_bar.write(f"step {state.global_step}: {shown}")
        elif shown:
            self.training_bar.set_postfix_str(shown)


def show_progress(trainer: Trainer) -> None:
    """Put `ScoreProgress` in the place of the Trainer's own progress bar or printer."""
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(ScoreProgress)
