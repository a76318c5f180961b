"""Results as tables: in the terminal, and as Markdown for a README or a model card.

A result is a mapping from row name to measures, as `evaluate.evaluate_scores` returns them:
{"warm start": {"srcc": 0.84, "plcc": 0.88}, "after MR-GRPO": {…}}. A list of numbers, one per seed, is
shown as mean ± std; an interval that came with a measure stands below it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mriqa.files import write_text

if TYPE_CHECKING:
    from rich.console import Console

Results = Mapping[str, Mapping[str, Any]]

COLUMNS = {
    "n": "n",
    "parse_rate": "parsed",
    "srcc": "SRCC",
    "plcc": "PLCC",
    "plcc_mapped": "PLCC\nmapped",
    "krcc": "KRCC",
    "rmse": "RMSE",
    "head_srcc": "SRCC\nhead",
    "move_mean": "mean\nmove",
    "move_max": "largest\nmove",
    "srcc_with_plain": "SRCC with\nplain scores",
    "covered": "ratings\ninside",
    "width": "mean\nwidth",
}
"""Measures shown unless others are asked for, in this order, with their headings."""

SHARES = ("parse_rate", "outlier_ratio", "covered")
LOWER_IS_BETTER = ("rmse", "outlier_ratio")
PLAIN = ("n", "parse_rate", "move_mean", "move_max", "srcc_with_plain", "covered", "width")


def cells(results: Results, columns: Sequence[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text (a cell may have two lines); by default every known measure that some row has."""
    keys = _keys(results, columns)
    head = [COLUMNS.get(key, key) for key in keys]
    return head, [[name, *(_number(row, key) for key in keys)] for name, row in results.items()]


def print_table(
    results: Results, title: str = "", columns: Sequence[str] | None = None, console: Console | None = None
) -> None:
    """Print a table of the results; the best value of each measure stands out where there are several rows."""
    from rich.box import SIMPLE_HEAVY
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head, rows = cells(results, columns)
    best = [_best_row(results, key) for key in _keys(results, columns)]
    table = Table(
        title=Text(title, style="bold") if title else None, title_justify="left", header_style="bold", box=SIMPLE_HEAVY
    )
    table.add_column("")
    for heading in head:
        table.add_column(heading, justify="right", no_wrap=True)
    for r, (name, *values) in enumerate(rows):
        table.add_row(
            Text(name), *(Text(value, style="bold green" if r == best[c] else "") for c, value in enumerate(values))
        )
    (console or Console()).print(table)


def markdown_table(results: Results, columns: Sequence[str] | None = None) -> str:
    """The results as a Markdown table."""
    head, rows = cells(results, columns)
    lines = [["", *head], ["---", *["---:"] * len(head)], *rows]
    return "".join(f"| {' | '.join(map(_markdown_cell, line))} |\n" for line in lines)


def write_markdown(
    results: Results, path: str | os.PathLike[str], title: str = "", columns: Sequence[str] | None = None
) -> None:
    """Write the Markdown table, under a heading where there is a title, replacing `path` only once it is complete."""
    heading = f"# {title}\n\n" if title else ""
    write_text(heading + markdown_table(results, columns), path)


def _keys(results: Results, columns: Sequence[str] | None) -> list[str]:
    return list(columns or [key for key in COLUMNS if any(key in row for row in results.values())])


def _markdown_cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def _number(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return "–"
    if isinstance(value, (list, tuple, np.ndarray)):
        return " ± ".join(_one(part, key) for part in mean_and_std(value))
    text = _one(value, key)
    if f"{key}_ci" in row:
        text += "\n" + "–".join(_one(end, key).removeprefix("0") for end in row[f"{key}_ci"])
    return text


def _one(value: float, key: str) -> str:
    if value is None or math.isnan(value):
        return "–"
    if key in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:d}" if isinstance(value, int) else f"{value:.3f}"


def mean_and_std(values: npt.ArrayLike) -> tuple[float, float]:
    """Mean and sample standard deviation (ddof 1; NaN for a single value)."""
    numbers = np.asarray(values, dtype=np.float64)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan


def _best_row(results: Results, key: str) -> int | None:
    means = [float(np.mean(row[key])) if row.get(key) is not None else math.nan for row in results.values()]
    if key in PLAIN or sum(not math.isnan(mean) for mean in means) < 2:
        return None
    return int(np.nanargmin(means) if key in LOWER_IS_BETTER else np.nanargmax(means))
