"""Many images to scores, wherever they lie, and scores to rows of a table, as they come."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriqa.images import ImageError
from mriqa.scoring.jobs.opening import Opener
from mriqa.scoring.jobs.sources import Item
from mriqa.scoring.jobs.tables import TableFile

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score, Scorer

COLUMNS: dict[str, type] = {"image": str, "score": float, "std": float, "error": str, "n_parsed": int}
HEAD_COLUMNS: dict[str, type] = {"head_score": float}
TEXT_COLUMNS: dict[str, type] = {"text": str, "texts": str}


def columns_of(text: bool = False, head: bool = False) -> dict[str, type]:
    """The columns of a table of scores.

    `text` adds the raw answers, one, and all of them as a JSON list; `head` adds a head's second opinion.
    """
    return {**COLUMNS, **(HEAD_COLUMNS if head else {}), **(TEXT_COLUMNS if text else {})}


def to_row(score: Score, text: bool = False) -> dict[str, Any]:
    """A score as a row, NaN as None, with all that `columns_of` may name, but raw answers only with `text`."""
    row: dict[str, Any] = {"image": score.image, "score": score.score, "std": score.std, "error": score.error}
    row = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
    row |= {"n_parsed": score.n_parsed, "head_score": score.head_score}
    if text:
        row |= {"text": score.text, "texts": json.dumps(score.texts, ensure_ascii=False)}
    return row


def score_items(scorer: Scorer, items: Iterable[Item]) -> Iterator[Score]:
    """A score for each item, in order and under its name; an item that can't be opened gets an error."""
    opened: deque[tuple[Item, str]] = deque()  # those handed to the scorer and the bad ones among them, why bad

    def sources(opener: Opener) -> Iterator[Path | bytes]:
        for item in items:
            try:
                source = opener.open(item)
            except ImageError as error:
                opened.append((item, str(error)))
            else:
                opened.append((item, ""))
                yield source

    with Opener() as opener:
        for score in scorer.stream(sources(opener)):
            yield from _bad_ones(opened)
            yield replace(score, image=opened.popleft()[0].name)
        yield from _bad_ones(opened)


def _bad_ones(opened: deque[tuple[Item, str]]) -> Iterator[Score]:
    """The errors at the front of the queue."""
    from mriqa.scoring.scorer import Score

    while opened and opened[0][1]:
        item, reason = opened.popleft()
        yield Score(item.name, math.nan, math.nan, reason)


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
