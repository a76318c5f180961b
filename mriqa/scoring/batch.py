"""Score many images into a table, a row each, as the scores come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriqa.scoring.tables import TableFile

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score

COLUMNS: dict[str, type] = {"image": str, "score": float, "std": float, "error": str}


def to_row(score: Score) -> dict[str, Any]:
    """A score as a row of the output table."""
    return {"image": score.image, "score": score.score, "std": score.std, "error": score.error}


def write_scores(
    scores: Iterable[Score],
    out: str | Path,
    *,
    overwrite: bool = False,
    more: Iterable[Mapping[str, Any]] | None = None,
    more_columns: Mapping[str, type] | None = None,
) -> Iterator[Score]:
    """Write each score to `out` (.jsonl, .csv or .parquet) as it passes by: columns image, score, std, error.

    `more` holds a mapping per score with further columns, whose types are `more_columns`. The file is complete, and
    under its name, once the iterator is exhausted. Raises OutputError where `out` exists and is not to be
    overwritten, or cannot be written.
    """
    rows = iter(more) if more is not None else None
    with TableFile(out, {**COLUMNS, **(more_columns or {})}, overwrite) as table:
        for score in scores:
            table.write({**to_row(score), **(next(rows) if rows else {})})
            yield score
