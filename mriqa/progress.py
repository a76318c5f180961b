"""How far long work is: a bar on stderr, so that stdout stays clean for results, and what is due now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")


class Bar:
    """How far something is; from `progress_bar`."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self) -> None:
        """One more is done."""
        self._progress.advance(self._task)

    def move_to(self, completed: int) -> None:
        """So many are done, by whomever."""
        self._progress.update(self._task, completed=completed)

    def describe(self, description: str) -> None:
        """Show another description from now on."""
        self._progress.update(self._task, description=description)


@contextmanager
def progress_bar(
    total: int, completed: int = 0, description: str = "Scoring", unit: str = "images", shown: bool = True
) -> Iterator[Bar]:
    """A bar from `completed` to `total` with speed and time left.

    Nothing is drawn where stderr is no terminal, or where `shown` is False: in all processes of a run but one.
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
        yield Bar(progress, progress.add_task(description, total=total, completed=completed))


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
