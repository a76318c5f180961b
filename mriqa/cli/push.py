"""`mriqa push`: a training run's model to the Hugging Face Hub."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from mriqa.cli.card import DataLicense, Evaluations, License, Merge, RunFolder, card_options
from mriqa.cli.exits import plain_errors, say

if TYPE_CHECKING:
    from mriqa.hub import Plan


def push(
    run: RunFolder,
    repo: Annotated[str, typer.Option(help="Name on the Hub: user/name.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every file, and upload nothing.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it. Default: private.")] = False,
    license: License = None,
    data_license: DataLicense = None,
    evaluations: Evaluations = None,
    merge: Merge = False,
) -> None:
    """Push a training run's model, with its card, to the Hugging Face Hub.

    Uploaded are safetensors weights, configs, tokenizer, mriqa.json, calibration.json, plots and the card, and nothing
    else. The card is MODEL_CARD.md of the run's folder (see `mriqa card`), else one written now. The token is
    huggingface_hub's own.

    [b]Examples[/b]

      mriqa push outputs/demo --repo you/demo-scorer --dry-run

      mriqa push outputs/koniq_lora --repo you/koniq-scorer --merge

    Exit code: 0 uploaded or shown; 2 not, and at most an empty private repository was made.
    """
    from mriqa.hub import HubError, check_repo, merged_model, plan_upload, read_run, write_card
    from mriqa.hub import push as push_files
    from mriqa.hub.model_card import read_card

    with plain_errors():
        check_repo(repo)
        found = read_run(run)
        options = card_options(license, data_license, evaluations, merge)
        stated = license is not None or data_license or evaluations
        card = read_card(found, repo, merge)
        if card is not None and stated:
            raise HubError(
                f"{run} has a card already, so --license, --data-license and --eval would be lost: give them to "
                "`mriqa card --overwrite`."
            )
        card = card or write_card(found, repo, options)
        with merged_model(found) if merge else nullcontext() as merged:
            plan = plan_upload(found, card, merged)
            _show(plan, repo, public)
            if dry_run:
                say("Nothing was uploaded (--dry-run).")
                return
            address = push_files(plan.uploads, repo, public=public)
    say(f"Pushed: {address}")
    say(f"Score with it: mriqa score IMAGES --model {repo}")


def _show(plan: Plan, repo: str, public: bool) -> None:
    from rich.box import SIMPLE_HEAVY
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    table = Table(title=f"{repo} ({'public' if public else 'private'})", title_justify="left", box=SIMPLE_HEAVY)
    table.add_column("file", overflow="fold")
    table.add_column("size", overflow="fold", justify="right")
    table.add_column("what it is", overflow="fold")
    for upload in plan.uploads:
        table.add_row(upload.name, decimal(upload.size), upload.kind)
    total = sum(upload.size for upload in plan.uploads)
    table.add_section()
    table.add_row(f"{len(plan.uploads)} files", decimal(total), "")
    Console().print(table)
    if plan.left_out:
        say(f"Stays here: {', '.join(plan.left_out)}.")
