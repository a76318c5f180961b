"""docs/reproduce.md: every command in it is read by its program as it stands, and every table and figure has a row."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

from mriqa.training.launching import parse

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"`((?:python|accelerate|mriqa) [^`]+)`", TEXT)))


def command_of(name: str):
    from mriqa.cli import app

    return typer.main.get_command(app).commands[name]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_read_by_its_program(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)
    if words[0] == "mriqa":
        assert command_of(words[1]).make_context(words[1], words[2:])
        return
    place = next(index for index, word in enumerate(words) if re.fullmatch(r"(recipes|benchmarks)/\w+\.py", word))
    assert Path(words[place]).is_file() and all(Path(word).is_file() for word in words if word.endswith(".yaml"))
    if words[place].startswith("recipes/"):
        recipe, options = importlib.import_module(Path(words[place]).stem), words[place + 1 :]
        if recipe.__name__ == "shamisa":
            parse((recipe.PretrainOptions,), recipe.__doc__, options)
        else:
            recipe.parse_arguments(options)


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
