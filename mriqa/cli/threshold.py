"""`--fail-under`: pictures that score too low end the command with exit code 1, as checks before a commit do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import typer

from mriqa.cli.exits import say


@dataclass
class Threshold:
    """Counts the scores below `least`; None lets all pass. Pictures without a score are no affair of it."""

    least: float | None
    n_below: int = 0
    worst: tuple[float, str] = (math.inf, "")

    def see(self, image: str, score: float | None) -> None:
        if self.least is not None and score is not None and score < self.least:
            self.n_below += 1
            self.worst = min(self.worst, (score, image))

    def see_table(self, path: Path) -> None:
        """All rows of a table that `mriqa score --out` wrote."""
        if self.least is None:
            return
        from mriqa.manifest.formats import stream_records

        for record in stream_records(path):
            score = record.row["score"]
            self.see(record.row["image"], None if score in (None, "") else float(score))

    def enforce(self) -> None:
        """Say what is below and end the command with 1, where anything is."""
        if self.n_below:
            score, image = self.worst
            say(f"{self.n_below} images score below {self.least:g}; the lowest: {image}: {score:.2f}")
            raise typer.Exit(1)
