"""Many runs of one protocol as one: their models side by side, compared anew on the pictures that all of them have.

Numbers of different protocols never share a table, nor do numbers on other pictures or other human scores: refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mriqa.errors import UserError

from .html_report import run_page
from .run_measures import ScoresOnSet, compare_on_sets

RESULTS = "results.json"


class LeaderboardError(UserError, ValueError):
    """Runs that cannot stand in one table, as one sentence."""


def join_runs(paths: Sequence[str | Path]) -> dict[str, Any]:
    """The results of several runs as those of one run, best model first, with differences between all models.

    Arguments:
        paths: folders of `mriqa eval --protocol`, or their results.json.

    Raises:
        LeaderboardError: a file is missing or no results, or the runs differ in protocol, pictures or human scores.
    """
    read = [(Path(path), read_results(path)) for path in paths]
    if not read:
        raise LeaderboardError("There is no run to show: name folders that `mriqa eval --protocol` wrote.")
    first_path, first = read[0]
    joined: dict[str, Any] = {**first, "models": {}, "runs": [], "measures": {}, "mean": {}, "breakdowns": {}}
    joined |= {"distributions": {}, "audit": _joined_audit([results for _, results in read])}
    for path, results in read:
        _check_alike(first_path, first, path, results)
        names = _free_names(results["models"], joined["models"], path)
        for key in ("models", "measures", "mean", "breakdowns", "distributions"):
            joined[key].update({names[model]: value for model, value in results[key].items()})
        joined["runs"] += [{**run, "model": names[run["model"]]} for run in results["runs"]]
    ranked = sorted(joined["models"], key=lambda model: _rank(joined, model))
    joined["models"] = {model: joined["models"][model] for model in ranked}
    options = {"resamples": first["resamples"], "confidence": first["confidence"], "seed": first["seed"]}
    joined["differences"] = compare_on_sets(_scores(joined), joined["protocol"]["measures"], options)
    return joined


def leaderboard_page(joined: dict[str, Any]) -> str:
    """The page of joined runs: the table, best model first, the comparison and the settings."""
    sets = [each["name"] for each in joined["protocol"]["sets"]]
    sections = [("summary", "Leaderboard", run_page.summary(joined, sets))]
    if len(joined["models"]) > 1:
        sections.append(("comparison", "Comparison of the models", run_page.comparison(joined, sets)))
    sections.append(("settings", "Settings", run_page.settings(joined)))
    return run_page.page(f"Leaderboard: {joined['protocol']['title']}", joined["protocol"]["about"], sections)


def read_results(path: str | Path) -> dict[str, Any]:
    """results.json of a run's folder, or that file itself. Raises LeaderboardError."""
    path = Path(path)
    file = path / RESULTS if path.is_dir() else path
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise LeaderboardError(f"The run {file} can't be read: {reason}.") from error
    if not isinstance(results, dict) or results.get("format") != 1 or "runs" not in results:
        raise LeaderboardError(f"{file} is not what `mriqa eval --protocol` writes: name its folder.")
    return results


def _check_alike(first_path: Path, first: dict[str, Any], path: Path, results: dict[str, Any]) -> None:
    ours, theirs = first["protocol"]["identity"], results["protocol"]["identity"]
    if ours != theirs:
        raise LeaderboardError(
            f"{first_path} was measured under {ours} and {path} under {theirs}: numbers of different protocols never "
            "share a table; give runs of one protocol."
        )
    if _pictures(first) != _pictures(results):
        raise LeaderboardError(
            f"{first_path} and {path} were measured on different pictures or human scores, though under one protocol: "
            "evaluate both on the same manifests."
        )


def _joined_audit(read: Sequence[dict[str, Any]]) -> dict[str, Any]:
    audits = [results["audit"] for results in read]
    shared = {name: max(each["shared"].get(name, 0) for each in audits) for each in audits for name in each["shared"]}
    return {"train": sorted({path for each in audits for path in each["train"]}), "shared": shared}


def _pictures(results: dict[str, Any]) -> dict[str, str]:
    """For each data set a hash of its pictures' ids and human scores."""
    found = {}
    for run in results["runs"]:
        rows = sorted((row["id"], round(row["mos"], 9)) for row in run["predictions"])
        found[run["dataset"]] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return found


def _free_names(models: dict[str, Any], taken: dict[str, Any], path: Path) -> dict[str, str]:
    """A model whose name is taken gets its run's folder behind it."""
    folder = path.name if path.is_dir() or path.name != RESULTS else path.parent.name
    names = {model: f"{model} ({folder})" if model in taken else model for model in models}
    for model, name in names.items():
        if name in taken:
            raise LeaderboardError(f"The model {model!r} of {path} is there twice: name each run once.")
    return names


def _rank(joined: dict[str, Any], model: str) -> tuple[float, str]:
    """Best first, by the mean over data sets or the first data set, of the protocol's first measure."""
    measure = joined["protocol"]["measures"][0]
    first_set = joined["protocol"]["sets"][0]["name"]
    found = joined["mean"][model].get(measure) or joined["measures"][model][first_set][measure]
    if found["value"] is None:
        return math.inf, model
    return (found["value"] if measure in ("rmse", "mae") else -found["value"]), model


def _scores(joined: dict[str, Any]) -> dict[str, ScoresOnSet]:
    sets: dict[str, ScoresOnSet] = {}
    for model in joined["models"]:
        for run in joined["runs"]:
            if run["model"] == model:
                rows = sorted(run["predictions"], key=lambda row: row["id"])
                mos_N = np.array([row["mos"] for row in rows])
                contents = [row["content"] for row in rows]
                pred_N = np.array([math.nan if row["score"] is None else row["score"] for row in rows])
                sets.setdefault(run["dataset"], ScoresOnSet({}, mos_N, contents)).scores[model] = pred_N
    return sets
