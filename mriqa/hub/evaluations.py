"""A run's evaluations: the rows of the card's table, and `EvalResult`s for the metadata's model-index.

An evaluation on held-out data comes from the demo's results.json or from `mriqa eval --out`; the validation that chose
the checkpoint comes from the training log, and is labelled as what it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriqa.hub.data_sources import BROAD, EMBEDDED, broad_settings, validation_name
from mriqa.hub.run import DEMO_RUN, RESULTS_FILE, HubError, Run, read_evaluation

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK, TASK_NAME = "image-text-to-text", "Image quality assessment"
METRICS = {
    "srcc": ("spearmanr", "SRCC"),
    "plcc": ("pearsonr", "PLCC"),
    "plcc_mapped": ("pearsonr_mapped", "PLCC after a fitted logistic"),
    "krcc": ("kendalltau", "KRCC"),
    "rmse": ("rmse", "RMSE after a fitted logistic"),
    "parse_rate": ("parse_rate", "Share of answers that parse"),
}
"""Measure -> metric type and name in the model-index."""


@dataclass(frozen=True)
class Evaluation:
    """Measures (as `mriqa.eval.evaluate_scores` names them) on one data set.

    Attributes:
        dataset: its name.
        split: "test" or "validation", None where it is not known which.
        measures: by name; NaN and null where one could not be had.
        remark: what a reader has to know of it.
        earlier: whether it is of weights before the published ones, shown for comparison.
    """

    dataset: str
    split: str | None
    measures: dict[str, Any]
    remark: str = ""
    earlier: bool = False

    @property
    def label(self) -> str:
        return ", ".join(part for part in (self.dataset, self.split, self.remark) if part)


def evaluations_of(run: Run, files: Sequence[Path]) -> list[Evaluation]:
    """All evaluations: results.json in the run's folder, `files` by `mriqa eval`, and the validation. HubError."""
    found = []
    if "n" in run.results:
        found += _of_file(run.folder / RESULTS_FILE, run)
    elif isinstance(run.results.get(DEMO_RUN), dict):
        data = BROAD if broad_settings(run) else EMBEDDED
        for name, measures in run.results.items():
            remark = "" if name == DEMO_RUN else f"{name.replace('_', ' ')}, for comparison"
            found.append(Evaluation(data, "test", measures, remark, earlier=name != DEMO_RUN))
    elif run.results:
        raise HubError(f"{run.folder / RESULTS_FILE} holds no evaluation that is known; move it away.")
    for file in files:
        found += _of_file(file, run)
    validation = _validation(run)
    return [*found, validation] if validation else found


def eval_results(evaluations: Sequence[Evaluation]) -> list[EvalResult]:
    """What goes to the model-index: every finite measure of the published weights."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASK,
            task_name=TASK_NAME,
            dataset_type=one.dataset.replace(" ", "_"),
            dataset_name=", ".join(part for part in (one.dataset, one.remark) if part),
            dataset_split=one.split,
            metric_type=kind,
            metric_name=name,
            metric_value=float(one.measures[key]),
        )
        for one in evaluations
        if not one.earlier
        for key, (kind, name) in METRICS.items()
        if _finite(one.measures.get(key))
    ]


def for_table(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, Any]]:
    """Rows for `mriqa.eval.markdown_table`; null becomes NaN, which it shows as a dash."""
    return {one.label: {key: _nan(value) for key, value in one.measures.items()} for one in evaluations}


def _of_file(file: Path, run: Run) -> list[Evaluation]:
    measures = read_evaluation(file)
    about = measures.get("settings", {})
    manifest = Path(str(about.get("manifest", file.stem)))
    trained_on = run.path_of("train_manifest")
    remark = "also trained on" if trained_on and manifest.exists() and manifest.samefile(trained_on) else ""
    if measures.get("groups"):
        return [Evaluation(name, None, own, remark) for name, own in measures["groups"].items()]
    return [Evaluation(_dataset_of(file) or manifest.stem, None, measures, remark)]


def _dataset_of(file: Path) -> str | None:
    """The data set's name in the predictions that `mriqa eval` writes beside its measures."""
    predictions = file.with_suffix(".predictions.jsonl")
    if not predictions.is_file():
        return None
    with predictions.open(encoding="utf-8") as lines:
        first = lines.readline()
    return json.loads(first).get("dataset") if first.strip() else None


def _validation(run: Run) -> Evaluation | None:
    """The validation at the published step: the best one, or the last."""
    logged = [entry for entry in run.log.get("history", []) if "eval_srcc" in entry]
    if not logged:
        return None
    best = run.log.get("best_step")
    chosen = next((entry for entry in reversed(logged) if entry.get("step") == best), logged[-1])
    measures = {key: chosen[f"eval_{key}"] for key in METRICS if f"eval_{key}" in chosen}
    name, count = validation_name(run)
    remark = "chose the checkpoint" if best is not None else "last step"
    return Evaluation(name.strip("`"), "validation", {**({"n": count} if count else {}), **measures}, remark)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_nan(item) for item in value]
    return math.nan if value is None else value
