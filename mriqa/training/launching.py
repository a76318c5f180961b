"""What every training recipe's command line does: options from YAML and arguments, refusals as one sentence."""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from trl import TrlParser

from mriqa.errors import SettingsError, UserError

USAGE = "%(prog)s [--config FILE.yaml] [--OPTION VALUE ...]"
ENVIRONMENT = "env"  # TRL's key for environment variables

RETIRED = {
    "vision_features": "a frozen tower's outputs lie in vision_cache now, which is filled by itself",
}
"""Options that an earlier version wrote into its resolved_config.yaml, and why they are passed over."""


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Keep the layout of the description, and show defaults."""


class OptionParser(TrlParser):
    """TRL's parser, for YAML files of earlier versions too."""

    def set_defaults_with_config(self, **config: Any) -> Any:
        for name, reason in RETIRED.items():
            if config.pop(name, None) is not None:
                warnings.warn(f"The option {name} is not used any more and passed over: {reason}.", stacklevel=2)
        return super().set_defaults_with_config(**config)


def parse(options: tuple[type, ...], description: str | None, argv: Sequence[str] | None) -> tuple[Any, ...]:
    """One object of each dataclass from the command line and the YAML file that its `--config` names.

    Raises SettingsError for what cannot be right.
    """
    first = ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    chosen, rest = first.parse_known_args(argv)
    if chosen.config is not None:
        known = {option.name for group in options for option in fields(group)}
        check_config(chosen.config, known | set(RETIRED))
        rest = ["--config", chosen.config, *rest]
    classes: Any = options
    parser = OptionParser(classes, usage=USAGE, description=description, formatter_class=HelpFormatter)
    try:
        return parser.parse_args_and_config(rest)
    except (ValueError, OSError) as error:
        raise SettingsError(str(error)) from error


def check_config(file: str, names: Collection[str]) -> None:
    """SettingsError unless the YAML file can be read and gives values to options of these names only."""
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"The configuration {file} cannot be read ({reason}).") from error
    if not isinstance(content, dict):
        raise SettingsError(f"The configuration {file} has to hold options, each as NAME: VALUE on a line.")
    for name in content:
        if name not in names and name != ENVIRONMENT:
            nearest = get_close_matches(str(name), names, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise SettingsError(f"{file} gives an option {name!r}, which this recipe does not have.{hint}")


def exit_code(run: Callable[[], Any]) -> int:
    """0 when `run` is through, 2 with one sentence on stderr where it raises a UserError.

    A process group that `run` has started is ended: its threads must not outlive the interpreter, which then aborts now
    and then although all is done.
    """
    try:
        run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    distributed = sys.modules.get("torch.distributed")  # a recipe that has no use for torch need not wait for it
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
    return 0
