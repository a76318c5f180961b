"""What a run of recipes/conord.py measures and writes: a result.json in each split, results.json and results.md.

Legend: N items, R numbers in a rank.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mriqa.eval import metrics
from mriqa.files import write_json, write_text
from mriqa.training.conord_recipe.conord_options import DISTANCES
from mriqa.training.conord_recipe.conord_runs import RESULT_FILE, ConOrdRun

MEASURES = ("srcc", "plcc", "mae", "angular_mae")

Measured = dict[str, float]
"""Measures by their names."""
Spread = dict[str, float | None]
"""Mean and standard deviation of seconds, and how many times they were taken."""
UnderCorruption = dict[str, dict[int, Measured]]
"""Measures by corruption and level."""


def measures(predicted: Tensor, ranks: Tensor, distance: str, same_scale: bool = True) -> Measured:
    """SRCC and PLCC of scalar ranks, the mean absolute error of all, and the mean angle of directions in degrees.

    Arguments:
        predicted, ranks: (N,), or (N, R) for vector ranks, float64.
        distance: the option of that name.
        same_scale: whether both are on one scale; there is no error otherwise.
    """
    error = {"mae": float((predicted - ranks).abs().mean())} if same_scale else {}
    if ranks.ndim == 1:
        x, y = predicted.numpy(), ranks.numpy()
        return {"srcc": metrics.srcc(x, y), "plcc": metrics.plcc(x, y), **error}
    if distance != "angular":
        return error
    pairs_N2R = torch.stack([predicted, ranks], dim=1)
    angles = [float(DISTANCES[distance](pair_2R)[0, 1]) for pair_2R in pairs_N2R]
    return {**error, "angular_mae": statistics.fmean(angles)}


def result_of_test(
    run: ConOrdRun,
    name: str,
    test_N: Tensor,
    predicted: Tensor,
    corrupted: dict[tuple[str, int], Tensor],
    seconds: Sequence[float] = (),
) -> dict[str, Any]:
    """A test's measures and predictions, its measures under each corruption and level, and how long it took.

    Arguments:
        name: of the test.
        test_N: places of its items.
        predicted: their ranks.
        corrupted: their ranks after a corruption at a level.
        seconds: that the test took, each time that it was timed.
    """
    ranks, distance, same_scale = run.ranks[test_N], run.options.distance, name in run.same_scale
    under: UnderCorruption = {}
    for (corruption, level), found in corrupted.items():
        under.setdefault(corruption, {})[level] = measures(found, ranks, distance, same_scale)
    ids = [run.rows[place].id for place in test_N.tolist()]
    return {
        **measures(predicted, ranks, distance, same_scale),
        "items": len(test_N),
        **({"corruptions": under} if under else {}),
        **({"test_seconds": list(seconds)} if seconds else {}),
        "predictions": [
            {"id": identifier, "rank": rank, "predicted": prediction}
            for identifier, rank, prediction in zip(ids, ranks.tolist(), predicted.tolist(), strict=True)
        ],
    }


def write_result(run: ConOrdRun, seed: int, tests: dict[str, dict[str, Any]], about: dict[str, Any]) -> None:
    """Write a split's result.json, which marks the split as done, and print its measures.

    Arguments:
        tests: `result_of_test` of each test.
        about: what else there is to say of the split, the history of its epochs among it.
    """
    spread = spread_of(seconds_of_epochs(about))
    result = {"seed": seed, "epoch_seconds": spread and spread["mean"], **about, "tests": tests}
    write_json(result, run.split_folder(seed) / RESULT_FILE)
    for name, measured in tests.items():
        shown = [f"{measure.upper()} {measured[measure]:.3f}" for measure in MEASURES if measure in measured]
        print(f"split {seed}, {name}: {', '.join(shown)}")


def summarise(run: ConOrdRun) -> dict[str, Any]:
    """Write results.json and results.md and print the tables: the median over the splits first, then the costs."""
    splits = [json.loads((run.split_folder(seed) / RESULT_FILE).read_text(encoding="utf-8")) for seed in run.seeds]
    tests: dict[str, dict[str, Any]] = {}
    for name in splits[0]["tests"]:
        measured = [{"seed": split["seed"], **split["tests"][name]} for split in splits]
        for one in measured:
            one.pop("predictions")
        tests[name] = {"median": medians(measured), "splits": measured}
    cost = costs(splits)
    summary = {"encoder": run.options.encoder, "loss": run.options.loss, **cost, "tests": tests}
    write_json(summary, run.folder / "results.json")
    text = table(tests) + "\n" + cost_table(cost)
    if run.options.corruptions:
        text += "\n" + corruption_table(tests)
    write_text(text, run.folder / "results.md")
    print(text)
    return summary


def medians(measured: Sequence[Measured]) -> dict[str, float | None]:
    """The median over the splits of each measure; None where it is undefined in all."""
    found = {name: values_of(measured, name) for name in MEASURES if name in measured[0]}
    return {name: statistics.median(values) if values else None for name, values in found.items()}


def values_of(measured: Sequence[Measured], name: str) -> list[float]:
    """A measure in each split that it is defined in."""
    return [one[name] for one in measured if one[name] is not None]


def table(tests: dict[str, dict[str, Any]]) -> str:
    """Markdown: each measure of each test, as median, and as mean ± standard deviation over the splits."""
    lines = ["| test | measure | median | mean ± std | splits |", "|---|---|---|---|---|"]
    for test, found in tests.items():
        for name, median in found["median"].items():
            values = values_of(found["splits"], name)
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            mean = f"{statistics.fmean(values):.3f}{spread}" if values else "undefined"
            middle = "undefined" if median is None else f"{median:.3f}"
            lines.append(f"| {test} | {name.upper()} | {middle} | {mean} | {len(values)} |")
    return "\n".join(lines) + "\n"


def seconds_of_epochs(split: dict[str, Any]) -> list[float]:
    """How long each epoch of a split took; an earlier version did not keep it."""
    return [epoch["seconds"] for epoch in split["history"] if "seconds" in epoch]


def spread_of(seconds: Sequence[float]) -> Spread | None:
    """Mean and standard deviation, None of a single value; None where there are no values."""
    if not seconds:
        return None
    std = statistics.stdev(seconds) if len(seconds) > 1 else None
    return {"mean": statistics.fmean(seconds), "std": std, "times": len(seconds)}


def costs(splits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What training and testing cost, over all splits: Tables 21, 22 and 25 of the paper.

    Arguments:
        splits: their result.json.

    Returns:
        `parameters` of the network, `epoch_seconds` over all epochs, `test_seconds` over all times of each test.
    """
    tests = {
        name: spread_of([time for split in splits for time in split["tests"][name].get("test_seconds", [])])
        for name in splits[0]["tests"]
    }
    return {
        "parameters": splits[0].get("parameters"),
        "epoch_seconds": spread_of([time for split in splits for time in seconds_of_epochs(split)]),
        "test_seconds": {name: spread for name, spread in tests.items() if spread},
    }


def cost_table(cost: dict[str, Any]) -> str:
    """Markdown of `costs`: millions of parameters, and seconds as mean ± standard deviation."""
    lines = ["| cost | mean ± std | times |", "|---|---|---|"]
    if cost["parameters"]:
        lines.append(f"| millions of parameters | {cost['parameters'] / 1e6:.1f} | |")
    timed = {"training epoch": cost["epoch_seconds"]}
    timed |= {f"predicting {name}": spread for name, spread in cost["test_seconds"].items()}
    for name, spread in timed.items():
        if spread:
            deviation = "" if spread["std"] is None else f" ± {spread['std']:.3f}"
            lines.append(f"| {name}, s | {spread['mean']:.3f}{deviation} | {spread['times']} |")
    return "\n".join(lines) + "\n"


def corruption_table(tests: dict[str, dict[str, Any]]) -> str:
    """Markdown after Table 19: each measure by severity, the mean over the corruptions and the median of the splits."""
    lines = ["| test | severity | " + " | ".join(name.upper() for name in MEASURES) + " |", "|---" * 6 + "|"]
    for test, found in tests.items():
        levels = sorted({int(level) for levels in found["splits"][0]["corruptions"].values() for level in levels})
        for level in (0, *levels):
            cells = [test, str(level)]
            for name in MEASURES:
                values = [at_level(split, name, level) for split in found["splits"]]
                defined = [value for value in values if value is not None]
                cells.append(f"{statistics.median(defined):.3f}" if defined else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def at_level(split: dict[str, Any], name: str, level: int) -> float | None:
    """A split's measure at a level of corruption, averaged over the corruptions; None where it is undefined."""
    found = [split] if level == 0 else [levels[str(level)] for levels in split["corruptions"].values()]
    values = [one[name] for one in found if one.get(name) is not None]
    return statistics.fmean(values) if values else None
