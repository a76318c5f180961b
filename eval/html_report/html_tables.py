"""Tables of a report, with captions and scopes that a screen reader reads out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

MEASURE_NAMES = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "plcc_mapped": "PLCC mapped",
    "krcc": "KRCC",
    "rmse": "RMSE",
    "mae": "MAE",
    "parse_rate": "parsed",
    "outlier_ratio": "outliers",
}
LOWER_IS_BETTER = ("rmse", "mae", "outlier_ratio")
SHARES = ("parse_rate", "outlier_ratio")


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], rows_of: str = "", words: bool = False
) -> str:
    """An HTML table; cells are HTML already, the first of each row names it. `words`: no numbers, so to the left."""
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in (rows_of, *head))
    body = "".join(
        f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for name, *cells in rows
    )
    label = escape(caption)
    kind = ' class="words"' if words else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table{kind}><caption>{label}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def measure_cell(measure: Mapping[str, Any] | None, name: str, best: bool = False) -> str:
    """A value with its interval below, or a dash that says why there is none."""
    if measure is None:
        return '<span class="none">–</span>'
    if measure["value"] is None:
        return f'<span class="none">–</span><small>{escape(measure["reason"] or "")}</small>'
    text = number(measure["value"], name)
    text = f"<strong>{text}</strong>" if best else text
    if measure.get("low") is not None:
        return f"{text}<small>{number(measure['low'], name)} to {number(measure['high'], name)}</small>"
    return text + (f"<small>{escape(measure['reason'])}</small>" if measure.get("reason") else "")


def number(value: float | None, name: str = "") -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if name in SHARES else f"{value:.3f}".replace("-", "−")


def p_value(p: float | None) -> str:
    if p is None:
        return "–"
    return "&lt; .001" if p < 0.001 else f"{p:.3f}"


def best_of(measures: Mapping[str, Mapping[str, Any] | None], name: str) -> set[str]:
    """The models with the best value; none where fewer than two have one, or all have the same."""
    values = {model: each["value"] for model, each in measures.items() if each and each["value"] is not None}
    if len(set(values.values())) < 2:
        return set()
    best = (min if name in LOWER_IS_BETTER else max)(values.values())
    return {model for model, value in values.items() if value == best}
