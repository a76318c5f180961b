"""What the commands have in common when something goes wrong: one sentence on stderr, and the exit codes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mriqa.errors import UserError

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score


def say(sentence: str) -> None:
    typer.echo(sentence, err=True)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the errors that a user can cure into one sentence on stderr and exit code 2."""
    try:
        yield
    except UserError as error:
        say(f"Error: {error}")
        raise typer.Exit(2) from None


@contextmanager
def terminated_in_order() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end the command as an exception would: what is open gets closed."""

    def stop(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def told_when_stopped(sentence: str) -> Iterator[None]:
    """Say a sentence where Ctrl-C or SIGTERM (in `terminated_in_order`) ends what stands in here."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say(sentence)
        raise


def exit_by_errors(scores: list[Score], out: Path | None) -> None:
    if out is not None:
        say(f"Wrote {out}.")
    failed = [score for score in scores if score.error]
    if failed:
        say(f"{len(failed)} of {len(scores)} images have no score; the first: {failed[0].image}: {failed[0].error}")
        raise typer.Exit(1)
