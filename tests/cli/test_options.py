"""The options of a scorer, as commands get them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from mriqa.cli.options import Overwrite, ScorerOptions, takes_scorer


def command_of(function) -> typer.Typer:
    app = typer.Typer()
    app.command()(takes_scorer(function))
    return app


def test_a_command_gets_what_was_said_and_the_defaults_of_the_rest():
    got = []

    def command(*, name: Annotated[str, typer.Argument()], out: Path | None = None, scorer: ScorerOptions) -> None:
        got.append((name, out, scorer))

    result = CliRunner().invoke(
        command_of(command), ["me", "--out", "x", "-m", "folder", "--readout", "sample", "--crop", "64", "--seed", "3"]
    )
    assert result.exit_code == 0, result.output
    expected = ScorerOptions(model="folder", readout="sample", crop=64, seed=3)
    assert got == [("me", Path("x"), expected)]


def test_an_option_of_the_commands_own_takes_the_place_of_the_shared_one():
    got = []

    def command(*, batch_size: int | None = None, scorer: ScorerOptions, overwrite: Overwrite = False) -> None:
        got.append((batch_size, overwrite, scorer))

    app = command_of(command)
    assert CliRunner().invoke(app, ["--overwrite"]).exit_code == 0
    assert got == [(None, True, ScorerOptions())]
    shown = CliRunner().invoke(app, ["--help"]).output
    places = [
        shown.index(f"--{name} ")
        for name in ("model", "readout", "batch-size", "crop", "overwrite", "trust-remote-code")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("wrong", [["--readout", "best"], ["--temperature", "0"], ["--batch-size", "0"]])
def test_impossible_values_do_not_reach_a_command(wrong):
    def command(*, scorer: ScorerOptions) -> None:
        pytest.fail("called")

    assert CliRunner().invoke(command_of(command), wrong).exit_code == 2
