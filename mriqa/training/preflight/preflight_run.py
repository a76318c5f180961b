"""Run the checks and say what they found: one line where all is well, the table and a refusal where it isn't."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console

from mriqa.choices import check_choice
from mriqa.errors import SettingsError, UserError
from mriqa.training.preflight.check_table import BEFORE_LOADING, ON_THE_TRAINER, Check
from mriqa.training.preflight.findings import Finding, PreflightError, print_table, problem, problems_of
from mriqa.training.preflight.planned_run import PlannedRun

if TYPE_CHECKING:
    from mriqa.policy.run_trainer import RunTrainer

MODES = ("refuse", "warn", "off")


class Preflight:
    """The checks of one run, in their two stages.

    Args:
        run: what is about to be trained.

    Raises SettingsError for a `preflight` that is none of `MODES`.
    """

    def __init__(self, run: PlannedRun) -> None:
        self.run, self.mode = run, run.arguments.preflight
        check_choice("preflight", self.mode, MODES, SettingsError)
        self.findings: list[Finding] = []
        self._seconds = 0.0

    def before_loading(self) -> None:
        """The checks that need no weights. Raises PreflightError for a problem, unless told to warn only."""
        self._look(BEFORE_LOADING)

    def before_training(self, trainer: RunTrainer) -> None:
        """The checks on the trainer, and one line where nothing was found. Raises as `before_loading`."""
        self.run.trainer = trainer
        self._look(ON_THE_TRAINER)
        if self.findings and not problems_of(self.findings) and PartialState().is_main_process:
            memory = next(finding.sentence for finding in self.findings if finding.check == "memory")
            print(f"Pre-flight: {len(self.findings)} checks in {self._seconds:.0f} s, no problem. {memory}")

    def _look(self, checks: Sequence[Check]) -> None:
        if self.mode == "off":
            return
        began = time.monotonic()
        found = [look_at(self.run, check) for check in checks]
        self.findings += found
        self._seconds += time.monotonic() - began
        everywhere: list[Finding] = gather_object(problems_of(found))  # all processes stop, or none
        if not everywhere:
            return
        if PartialState().is_main_process:
            print_table(
                [finding for finding in self.findings if finding not in everywhere] + everywhere, Console(stderr=True)
            )
        if self.mode == "refuse":
            raise PreflightError(everywhere)


def look_at(run: PlannedRun, check: Check) -> Finding:
    """What a check found; one that could not be made is a problem, whatever kept it from it."""
    try:
        return replace(check.look(run), check=check.name)
    except UserError:
        raise
    except Exception as error:  # a model's or a user's own code: the run would fail in the same place
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return replace(
            problem(f"This could not be checked, because it failed: {reason.rstrip('.')}."), check=check.name
        )
