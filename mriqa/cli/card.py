"""`mriqa card`: a model card from what a training run recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import Overwrite

if TYPE_CHECKING:
    from mriqa.hub import CardOptions

RunFolder = Annotated[Path, typer.Argument(help="Output folder of a recipe or of the demo.", show_default=False)]
License = Annotated[
    str | None,
    typer.Option(help="Licence of the weights as the Hub spells it, such as apache-2.0. Default: none is stated."),
]
DataLicense = Annotated[
    list[str] | None,
    typer.Option(help="Licence of a training data set, as NAME=LICENCE; again for more of them."),
]
Evaluations = Annotated[
    list[Path] | None,
    typer.Option("--eval", help="What `mriqa eval --out` wrote for this model; again for more data sets."),
]
Merge = Annotated[bool, typer.Option("--merge", help="The LoRA adapter merged into its base model, not by itself.")]


def card(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: RUN/MODEL_CARD.md.")] = None,
    repo: Annotated[str | None, typer.Option(help="Name on the Hub, for the examples; a push fills it in.")] = None,
    license: License = None,
    data_license: DataLicense = None,
    evaluations: Evaluations = None,
    merge: Merge = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a model card from a training run, to read, complete and push.

    It states base model, data and licences, reward, settings, seeds, versions, evaluation, use and limitations, and
    says so where the run recorded nothing. No network is needed.

    [b]Examples[/b]

      mriqa card outputs/demo

      mriqa card outputs/koniq --eval koniq.json --eval spaq.json --license mit --data-license spaq="see its site"

    Exit code: 0 the card is written; 2 nothing could be done.
    """
    from mriqa.files import write_text
    from mriqa.hub import HubError, check_repo, read_run, write_card
    from mriqa.hub.run import CARD_FILE

    with plain_errors():
        if repo is not None:
            check_repo(repo)
        found = read_run(run)
        target = out or run / CARD_FILE
        if target.is_dir() or (target.exists() and not overwrite):
            raise HubError(f"{target} exists already; name another file (--out), or replace it with --overwrite.")
        text = write_card(found, repo, card_options(license, data_license, evaluations, merge))
        write_text(text, target)
    say(f"Wrote {target}. Read it, and complete what it could not know.")


def card_options(
    license: str | None, data_license: list[str] | None, evaluations: list[Path] | None, merge: bool
) -> CardOptions:
    """The options of a card. Raises HubError where a licence is not NAME=LICENCE."""
    from mriqa.hub import CardOptions, HubError

    pairs = [text.partition("=") for text in data_license or []]
    for name, _, licence in pairs:
        if not (name and licence):
            raise HubError(f"A data set's licence is written as NAME=LICENCE, not {name!r}.")
    return CardOptions(license, {name: licence for name, _, licence in pairs}, tuple(evaluations or ()), merge)
