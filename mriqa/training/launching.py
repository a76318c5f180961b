"""What every training recipe's command line does: options from YAML and arguments, refusals as one sentence."""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import Any

from trl import TrlParser

from mriqa.errors import UserError
from mriqa.policy.checks import SettingsError

USAGE = "%(prog)s [--config FILE.yaml] [--OPTION VALUE ...]"

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
    classes: Any = options
    parser = OptionParser(classes, usage=USAGE, description=description, formatter_class=HelpFormatter)
    try:
        return parser.parse_args_and_config(argv)
    except (ValueError, OSError) as error:
        raise SettingsError(str(error)) from error


def exit_code(run: Callable[[], Any]) -> int:
    """0 when `run` is through, 2 with one sentence on stderr where it raises a UserError."""
    try:
        run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
