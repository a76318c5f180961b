"""Many images to scores, wherever they lie, and scores to rows of a table, as they come."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriqa.images import ImageError
from mriqa.scoring.jobs.opening import Opener
from mriqa.scoring.jobs.sources import Item
from mriqa.scoring.jobs.tables import TableFile

if TYPE_CHECKING:
    from mriqa.scoring.jobs.map_folder import MapFolder
    from mriqa.scoring.scorer import Score, Scorer

COLUMNS: dict[str, type] = {"image": str, "score": float, "std": float, "error": str, "n_parsed": int}
INTERVAL_COLUMNS: dict[str, type] = {"low": float, "high": float}
MAP_COLUMNS: dict[str, type] = {"map": str}
HEAD_COLUMNS: dict[str, type] = {"head_score": float}
TEXT_COLUMNS: dict[str, type] = {"text": str, "texts": str}


def columns_of(text: bool = False, head: bool = False, interval: bool = False, maps: bool = False) -> dict[str, type]:
    """The columns of a table of scores.

    `text` adds the raw answers, one, and all of them as a JSON list; `head` a head's second opinion; `interval` the
    ends of the interval of a calibrated model; `maps` the file name of the picture's map.
    """
    more = ((interval, INTERVAL_COLUMNS), (head, HEAD_COLUMNS), (text, TEXT_COLUMNS), (maps, MAP_COLUMNS))
    return {**COLUMNS, **{name: kind for wanted, columns in more if wanted for name, kind in columns.items()}}


def score_rows(
    scorer: Scorer, items: Sequence[Item], text: bool = False, maps: MapFolder | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each item, in order, its map being made and named if there is a folder for maps."""
    scores = score_items(scorer, items)
    if maps is None:
        yield from (to_row(score, text) for score in scores)
    else:
        yield from (to_row(score, text) | {"map": name} for score, name in maps.rows(scorer, items, scores))


def to_row(score: Score, text: bool = False) -> dict[str, Any]:
    """A score as a row, NaN as None, with all that `columns_of` may name but maps; raw answers only with `text`."""
    row: dict[str, Any] = {"image": score.image, "score": score.score, "std": score.std, "error": score.error}
    row = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
    low, high = score.interval or (None, None)
    row |= {"n_parsed": score.n_parsed, "head_score": score.head_score, "low": low, "high": high}
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
