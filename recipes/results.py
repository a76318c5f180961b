"""Measure every table of docs/results.md again: `make results`.

    python recipes/results.py                                   # what is missing, at most three hours
    python recipes/results.py --only transfer rewards
    python recipes/results.py --fresh rewards                   # measure a finished table again
    python recipes/results.py --quick --page outputs/results/quick.md

recipes/configs/results.yaml lists the tables, each with the command that makes it. Commands run one after another, each
in a folder of its own under --output, with its output in log.txt. A finished table is kept until its command changes or
--fresh names it; a command that was stopped, by the time limit or otherwise, goes on where it can. A table whose data
isn't here is left out and the page says so. After each table the page is written whole: what stands between its two
marks is replaced, with date, commit and command of each table, and the rest stays as it is.

`{data}` in a command is --data, `{out}` the command's own folder, and `{all}` that of all tables.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from mriqa.choices import check_choice
from mriqa.errors import SettingsError
from mriqa.files import remove_folder, write_json, write_text
from mriqa.training.launching import exit_code

ROOT = Path(__file__).resolve().parents[1]
TABLES = ROOT / "recipes" / "configs" / "results.yaml"
BEGIN, END = "<!-- `make results` writes what follows -->", "<!-- `make results` ends here -->"
GRACE = 20.0  # seconds for a command to end in order


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        name: of its folder, and for --only.
        title: heading on the page.
        command: what makes it, with `{data}`, `{out}` and `{all}`.
        file: the markdown table that the command writes, in its folder.
        needs: files or folders without which it can't be made, with the same words.
        about: a paragraph above the table.
        quick: a command in the place of `command` with --quick.
    """

    name: str
    title: str
    command: str
    file: str = "results.md"
    needs: tuple[str, ...] = ()
    about: str = ""
    quick: str = ""


@dataclass(frozen=True)
class Made:
    """When and from what a table was made; kept beside it."""

    command: str
    commit: str
    date: str
    minutes: float


def read_tables(path: Path) -> list[Table]:
    """The tables of a YAML list. SettingsError where it is none."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        tables = [Table(**{**entry, "needs": tuple(entry.get("needs", ()))}) for entry in entries]
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        known = ", ".join(field.name for field in fields(Table))
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path} has to be a list of tables with some of {known} ({reason}).") from error
    names = [table.name for table in tables]
    if len(set(names)) < len(names) or not names:
        raise SettingsError(f"{path} has to list tables, each under a name of its own, not {names}.")
    return tables


class Run:
    """One pass over the tables: what is kept, made, left out, failed or still to be made."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.tables = read_tables(arguments.tables)
        for name in [*(arguments.only or []), *(arguments.fresh or [])]:
            check_choice("table", name, [table.name for table in self.tables], SettingsError)
        self.ends = time.monotonic() + 3600 * arguments.hours
        self.commit = commit_of(ROOT)
        self.states: dict[str, str] = {}

    def folder(self, table: Table) -> Path:
        return self.arguments.output / ("quick" if self.arguments.quick else "full") / table.name

    def command(self, table: Table) -> str:
        return table.quick if self.arguments.quick and table.quick else table.command

    def words(self, text: str, table: Table) -> str:
        """The text with real paths."""
        places = {
            "{data}": self.arguments.data,
            "{out}": self.folder(table) / "run",
            "{all}": self.folder(table).parent,
        }
        for word, place in places.items():
            text = text.replace(word, str(place))
        return text

    def kept(self, table: Table) -> Made | None:
        """What is known of a finished table; None where there is none, or one of another command."""
        try:
            made = Made(**json.loads((self.folder(table) / "made.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        whole = (self.folder(table) / "run" / table.file).is_file()
        return made if whole and made.command == self.command(table) else None

    def missing(self, table: Table) -> list[str]:
        return [path for path in (self.words(need, table) for need in table.needs) if not Path(path).exists()]

    def make(self, table: Table) -> str:
        """Make a table unless it is kept; how it stands now, in words for the page."""
        if self.kept(table) is not None:
            return "kept"
        missing = self.missing(table)
        if missing:
            return f"not measured: {os.path.relpath(missing[0], ROOT)} isn't here"
        left = self.ends - time.monotonic()
        if left <= 0:
            return "not measured yet: the time was up"
        folder = self.folder(table)
        begun = folder / "begun.txt"
        if folder.exists() and not (begun.is_file() and begun.read_text(encoding="utf-8") == self.command(table)):
            remove_folder(folder)  # of another command
        write_text(self.command(table), begun)
        command = shlex.split(self.words(self.command(table), table))
        command = [sys.executable, *command[1:]] if command[0] == "python" else command
        print(f"{table.name}: {shlex.join(command)}", flush=True)
        started = time.monotonic()
        code = run_for(command, left, folder / "log.txt")
        if code is None:
            spent = (time.monotonic() - started) / 60
            return f"not finished yet: stopped after {spent:.0f} minutes, and goes on next time"
        if code or not (folder / "run" / table.file).is_file():
            return f"failed: see {os.path.relpath(folder / 'log.txt', ROOT)}"
        minutes = round((time.monotonic() - started) / 60, 1)
        made = Made(self.command(table), self.commit, f"{date.today()}", minutes)
        write_json(asdict(made), folder / "made.json")
        return "made"

    def all(self) -> int:
        """Make what is missing and write the page after each table; how many tables failed."""
        for table in self.tables:
            if table.name in (self.arguments.fresh or []) and self.folder(table).exists():
                remove_folder(self.folder(table))
        for table in self.tables:
            if self.arguments.only and table.name not in self.arguments.only:
                continue
            self.states[table.name] = self.make(table)
            print(f"{table.name}: {self.states[table.name]}", flush=True)
            self.write_page()
        return sum(state.startswith("failed") for state in self.states.values())

    def write_page(self) -> None:
        """Replace what stands between the marks of the page, or append it with them."""
        page: Path = self.arguments.page
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        before, begin, rest = text.partition(BEGIN)
        if begin and END not in rest:
            raise SettingsError(f"{page} has the line {BEGIN} and not {END}: put that behind the tables.")
        after = rest.partition(END)[2] if begin else "\n"
        if not begin and before:
            before = before.rstrip("\n") + "\n\n"
        write_text(f"{before}{BEGIN}\n\n{self.sections()}{END}{after}", page)

    def sections(self) -> str:
        """The tables in markdown, each with how, when and from what it was made."""
        parts = []
        for table in self.tables:
            made = self.kept(table)
            lines = [f"## {table.title}", ""] + ([table.about.strip(), ""] if table.about else [])
            if made is None:
                state = self.states.get(table.name, "not measured yet")
                lines += [f"**{state[0].upper()}{state[1:]}.**", "", "```sh", self.command(table), "```", ""]
            else:
                content = (self.folder(table) / "run" / table.file).read_text(encoding="utf-8")
                lines += [f"Measured on {made.date} at commit {made.commit}, in {made.minutes:g} minutes, by"]
                lines += ["", "```sh", made.command, "```", "", demoted(content).strip(), ""]
            parts.append("\n".join(lines))
        return "\n".join(parts) + "\n"


def demoted(text: str) -> str:
    """Markdown whose headings stand below those of the tables."""
    return "\n".join(f"#{line}" if line.startswith("##") else f"##{line}" if line.startswith("# ") else line
                     for line in text.splitlines())  # fmt: skip


def run_for(command: Sequence[str], seconds: float, log: Path) -> int | None:
    """The exit code of a command, or None where its time was up and it was stopped, with all that it started."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as out:
        try:
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, start_new_session=True
            )
        except OSError as error:
            print(f"{command[0]} can't be started: {error}", file=out)
            return 1
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:  # also where somebody pressed Ctrl-C
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def commit_of(folder: Path) -> str:
    """The short name of the commit that is checked out, and whether files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        name = git("rev-parse", "--short=10", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name} with changes" if changed else name


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the runner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=TABLES, help="YAML list of tables (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="make these alone")
    parser.add_argument("--fresh", nargs="+", metavar="NAME", help="make these again")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "results", help="folder of the tables")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md", help="page to write")
    parser.add_argument("--hours", type=float, default=3.0, help="time for all (default 3)")
    parser.add_argument("--quick", action="store_true", help="miniature commands, to see that all works")
    arguments = parser.parse_args(argv)
    if not arguments.hours > 0:
        parser.error(f"--hours must be above 0, not {arguments.hours}")
    for name in ("data", "output", "page"):
        setattr(arguments, name, getattr(arguments, name).resolve())
    if arguments.quick and arguments.page == parser.get_default("page"):
        arguments.page = arguments.output / "quick" / "results.md"  # no miniature's figures among the documents
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when no table failed, 1 when one did, 2 with one sentence for settings that won't do."""
    arguments: Any = parse_arguments(argv)
    failed: list[int] = []
    code = exit_code(lambda: failed.append(Run(arguments).all()))
    return code or int(failed[0] > 0)


if __name__ == "__main__":
    sys.exit(main())
