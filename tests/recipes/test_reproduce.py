"""docs/reproduce.md: every command in it is read by its program as it stands, and every table and figure has a row."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from documents import check_command

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"`((?:python|accelerate|mriqa) [^`]+)`", TEXT)))


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_read_by_its_program(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check_command(shlex.split(line))


def numbers(paper: str, kind: str) -> set[int]:
    """The numbers of a paper's tables or figures that have a row; "16, 17" and "2–6" count each."""
    section = TEXT.split(f"## {paper}")[1].split("\n## ")[0]
    found = set()
    for row in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE):
        for group in re.findall(kind + r" ((?:\d+(?:–\d+)?(?:, )?)+)", row):
            for part in group.strip(", ").split(", "):
                first, _, last = part.partition("–")
                found |= set(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize(
    ("paper", "tables", "figures"), [("ConOrd", 25, 18), ("PreSTA", 6, 1), ("Q-Diverse", 4, 6), ("SHAMISA", 0, 11)]
)
def test_every_table_and_figure_has_a_row(paper: str, tables: int, figures: int) -> None:
    assert numbers(paper, "Table") == set(range(1, tables + 1))
    assert numbers(paper, "Fig.") == set(range(1, figures + 1))


def test_every_table_of_shamisa_has_a_row() -> None:
    rows = re.findall(r"^\| (Table [^|]+) \|", TEXT.split("## SHAMISA")[1], re.MULTILINE)
    listed = {number for row in rows for number in re.findall(r"\b[IVX]+\b", row)}
    assert listed == {"I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"}
