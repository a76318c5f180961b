"""`mriqa check`: look at a training run before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mriqa.cli.exits import plain_errors, say


def check(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="The run's YAML file, as recipes/mr_grpo.py takes it.", show_default=False)
    ] = None,
) -> None:
    """Pre-flight of a training run: is anything wrong with data, settings, model or memory? Nothing is trained.

    Give it what you would give recipes/mr_grpo.py: a --config, and any of that recipe's options, which go first
    (`python recipes/mr_grpo.py --help` lists them). Every run makes the same checks before its first update.

    It compares the log-probabilities of a few pictures of mixed sizes: alone and in a padded batch, behind a shared
    prompt and behind their own, as they are sampled (by vLLM, too) and as the update reads them. It counts image
    tokens, tries the rewards on good and bad answers, looks at scores and digits, tries to write to the output folder,
    and estimates memory and time.

    [b]Examples[/b]

      mriqa check --config recipes/configs/qwen3_vl_2b_koniq_lora.yaml

      mriqa check --config my.yaml --model my/model --per_device_train_batch_size 16

    Exit code: 0 nothing is wrong; 1 a problem was found; 2 it could not be found out.
    """
    from rich.console import Console

    options = [*(("--config", str(config)) if config else ()), *context.args]
    with plain_errors():
        from transformers.utils import logging

        from mriqa.training.preflight.findings import print_table, problems_of
        from mriqa.training.preflight.policy_check import check_policy

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        findings = check_policy(options, "mriqa check")
    print_table(findings, Console())
    if problems := problems_of(findings):
        say(f"{len(problems)} of {len(findings)} checks found a problem.")
        raise typer.Exit(1)
    print(f"{len(findings)} checks, no problem.")
