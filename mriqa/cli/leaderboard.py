"""`mriqa leaderboard`: the models of many runs of one protocol on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import Overwrite


def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `mriqa eval --protocol` wrote, of one protocol.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write, e.g. leaderboard.html.")],
    overwrite: Overwrite = False,
) -> None:
    """Show the models of many runs side by side, best first, with the significance of their differences.

    Runs of different protocols, or on other pictures, are refused: such numbers never share a table.

    [b]Example[/b]

      mriqa leaderboard outputs/koniq_a outputs/koniq_b --out leaderboard.html
    """
    from mriqa.eval.joined_runs import join_runs, leaderboard_page
    from mriqa.files import write_text
    from mriqa.scoring.jobs.tables import check_output

    with plain_errors():
        check_output(out, overwrite, (".html",))
        page = leaderboard_page(join_runs(runs))
        write_text(page, out)
    say(f"Wrote {out}.")
