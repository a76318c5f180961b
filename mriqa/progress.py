"""How far long work is: a bar on stderr, so that stdout stays clean for results, and what is due now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")
NOTE_EVERY = 60.0  # seconds between lines where there is no terminal to draw a bar on


class Bar:
    """How far something is; from `progress_bar`. With `unit` also a line on stderr every minute, for a log."""

    def __init__(self, progress: Progress, task: TaskID, unit: str | None = None) -> None:
        self._progress, self._task, self._unit = progress, task, unit
        self._due = every(NOTE_EVERY)

    def advance(self) -> None:
        """One more is done."""
        self._progress.advance(self._task)
        self._note()

    def move_to(self, completed: int) -> None:
        """So many are done, by whomever."""
        self._progress.update(self._task, completed=completed)
        self._note()

    def _note(self) -> None:
        if self._unit is not None and self._due():
            task = next(task for task in self._progress.tasks if task.id == self._task)
            done = f"{task.completed:,.0f} of {task.total:,.0f} {self._unit}"
            print(f"{task.description}: {done}", file=sys.stderr, flush=True)

    def describe(self, description: str) -> None:
        """Show another description from now on."""
        self._progress.update(self._task, description=description)


@contextmanager
def progress_bar(
    total: int, completed: int = 0, description: str = "Scoring", unit: str = "images", shown: bool = True
) -> Iterator[Bar]:
    """A bar from `completed` to `total` with speed and time left.

    Where stderr is no terminal, a line a minute says how far it is. Nothing is shown where `shown` is False: in all
    processes of a run but one.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f} {unit}/s", style="progress.data.speed")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as progress:
        noted = unit if shown and not console.is_terminal else None
        yield Bar(progress, progress.add_task(description, total=total, completed=completed), noted)


def with_progress(items: Iterable[Item], total: int, description: str = "Scoring") -> Iterator[Item]:
    """Hand the items on while a bar counts them."""
    with progress_bar(total, description=description) as bar:
        for item in items:
            yield item
            bar.advance()


def every(seconds: float) -> Callable[[], bool]:
    """A function that returns True when this much time has passed since it last did, or since it was made."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        last = time.monotonic()
        return True

    return due
