"""What a check of the pre-flight says: passed, a problem, or left out, each with one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mriqa.errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

State = Literal["passed", "problem", "left out"]
COLOURS: dict[State, str] = {"passed": "green", "problem": "bold red", "left out": "dim"}


@dataclass(frozen=True)
class Finding:
    """One row of the table; `check` is filled in by whoever ran the check."""

    state: State
    sentence: str
    check: str = ""


class PreflightError(SettingsError):
    """A run that the pre-flight holds back, as one sentence that names each problem."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        problems = problems_of(findings)
        named = " ".join(f"({finding.check}) {finding.sentence}" for finding in problems)
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"The pre-flight found {count}: {named} To train anyway say --preflight warn, or off.")


def passed(sentence: str) -> Finding:
    """Nothing is wrong; the sentence says what was compared."""
    return Finding("passed", sentence)


def problem(sentence: str) -> Finding:
    """Something would go wrong; the sentence names it and the cure."""
    return Finding("problem", sentence)


def left_out(sentence: str) -> Finding:
    """There is nothing to check here, and why."""
    return Finding("left out", sentence)


def problems_of(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.state == "problem"]


def print_table(findings: Sequence[Finding], console: Console) -> None:
    """The one table, a row for each check, problems last, where they are seen."""
    from rich import box
    from rich.table import Table

    table = Table("check", "", "what was found", title="Pre-flight", box=box.SIMPLE, title_justify="left")
    for finding in sorted(findings, key=lambda finding: finding.state == "problem"):
        colour = COLOURS[finding.state]
        table.add_row(finding.check, f"[{colour}]{finding.state}[/]", finding.sentence.replace("[", r"\["))
    console.print(table)
