"""The `mriqa` command: score images, evaluate a model, select what to train on; a module of this package for each.

torch and transformers are imported inside the commands, so that `mriqa --help` answers at once. Errors that a user can
cure end the command with one sentence and exit code 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from mriqa import __version__
from mriqa.cli.calibrate import calibrate
from mriqa.cli.card import card
from mriqa.cli.check import check
from mriqa.cli.data_sets import data
from mriqa.cli.demo_page import demo
from mriqa.cli.duel import gmad
from mriqa.cli.evaluate import evaluate
from mriqa.cli.find_leaks import audit_manifests
from mriqa.cli.leaderboard import leaderboard
from mriqa.cli.preferences import preferences
from mriqa.cli.push import push
from mriqa.cli.score import score
from mriqa.cli.score_moves import stability
from mriqa.cli.select import select
from mriqa.cli.serve import serve

app = typer.Typer(
    help="Score the quality of images with vision-language models, and measure how well that agrees with people.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the `mriqa` command and of `python -m mriqa`."""
    # Importing torch and gradio makes a million objects that stay; looking for garbage among them after every 700 new
    # ones, as Python does, takes a fifth of the start.
    gc.set_threshold(50_000)
    app(prog_name="mriqa")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options before the command; the application's own help text stands above."""


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


app.command()(score)
app.command("eval")(evaluate)
app.command()(leaderboard)
app.command()(gmad)
app.command()(stability)
app.command()(calibrate)
app.add_typer(data, name="data")
app.command("audit")(audit_manifests)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(check)
app.command()(select)
app.command("ppr")(preferences)
app.command()(serve)
app.command()(demo)
app.command()(card)
app.command()(push)
