"""The documents' fenced blocks and commands, and whether a command is one that its program takes.

A block that can't be run where the tests run says so in the line before it, which readers don't see:

    <!-- not run: needs a server -->

Its commands are then still read by their programs, and its Python is still compiled and its imports made.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
SHELLS = ("sh", "bash", "console")
LANGUAGES = (*SHELLS, "python", "yaml", "json", "text")
PROGRAMS = ("mriqa", "python", "make", "pip", "accelerate", "torchrun")
# Programs that this project doesn't install: their words are not looked at.
STRANGERS = ("curl", "openssl", "vllm", "lmms-eval", "pre-commit", "sbatch", "git", "cd")

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n+)?"
    r"(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(rf"`((?:{'|'.join(PROGRAMS)}) [^`\n]+)`")


class BrokenCommandError(AssertionError):
    """A command that its program doesn't take, or that names something that isn't there."""


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, the line where it begins, its language and text, and why it isn't run, if so."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    return blocks_in(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix())


def blocks_in(text: str, page: str) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(text):
        indent = match["indent"]
        lines = [line.removeprefix(indent) for line in match["text"].splitlines()]
        line = text[: match.start("indent")].count("\n") + 1
        found.append(Block(page, line, match["language"], "\n".join(lines) + "\n", match["why"]))
    return found


def commands_of(block: Block) -> list[list[str]]:
    """The commands of a shell block as words: a list of them each, without comments, prompts and environment."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        line = line.removeprefix("$ ")
        loop = re.fullmatch(r"for \w+ in [^;]+; do (.*?) &? *done(?:; wait)?", line)
        lexer = shlex.shlex(loop[1] if loop else line, posix=True, punctuation_chars="&;|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&;|"):
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                found += [words] if words else []
                words = []
            else:
                words.append(word)
    return [words[: words.index(">")] if ">" in words else words for words in found]


def mentions_in(text: str) -> list[list[str]]:
    """Commands within a sentence, as words: they may leave things out (`mriqa score …`)."""
    return [shlex.split(line) for line in _INLINE.findall(re.sub(r"^( *)```.*?^\1```", "", text, flags=re.S | re.M))]


def check_command(words: Sequence[str]) -> None:
    """Have a command's own program read it as it stands. Raises BrokenCommandError where it refuses."""
    program, rest = words[0], list(words[1:])
    try:
        if program == "mriqa":
            name, command, rest = _command(rest)
            command.make_context(name, rest)
        elif program == "make":
            _make(rest)
        elif program == "pip":
            _pip(rest)
        elif program == "python" and rest[0] == "-m":
            _expect(importlib.util.find_spec(rest[1]) is not None, f"there is no module {rest[1]}")
        elif program in ("python", "accelerate", "torchrun"):
            _script(*_launched(program, rest))
        else:
            _expect(program in STRANGERS, f"{program} is no program that the documents' test knows")
    except (Exception, SystemExit) as error:
        raise BrokenCommandError(f"{shlex.join(words)}: {type(error).__name__}: {error}") from error


def check_mention(words: Sequence[str]) -> None:
    """Whether a command that is only mentioned exists, with every option that is named."""
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    if words[0] == "mriqa":
        _, command, _ = _command([word for word in words[1:] if word != "…"])
        known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
        unknown = given - known - {"--help"}
        if unknown:
            raise BrokenCommandError(f"{shlex.join(words)}: there is no option {min(unknown)}")
    elif words[0] in ("make", "pip") or "…" not in words:
        complete = [word for word in words if word != "--help"]
        if complete not in (["accelerate", "launch"],) and complete[:3] != ["accelerate", "launch", "--cpu"]:
            check_command(complete)
    else:
        script = next((word for word in words if word.endswith(".py")), None)
        if script and not (ROOT / script).is_file():
            raise BrokenCommandError(f"{shlex.join(words)}: there is no {script}")


def _command(words: list[str]) -> tuple[str, Any, list[str]]:
    from mriqa.cli import app

    command: Any = typer.main.get_command(app)
    name = "mriqa"
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name, *words = words
        command = command.commands[name]
    return name, command, words


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenCommandError(otherwise)


def _make(words: list[str]) -> None:
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
    _expect(done.returncode == 0, done.stderr)


def _pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for before, word in zip(["", *words], words):
        named = re.search(r"\[([\w,-]+)\]", word)
        if named and word.startswith(("mriqa[", ".[")):
            unknown = set(named[1].split(",")) - set(extras)
            _expect(not unknown, f"there is no extra {unknown}")
        if before == "-c":
            _expect((ROOT / word).is_file(), f"there is no file {word}")


def _launched(program: str, words: list[str]) -> tuple[str, list[str]]:
    """Script and options behind a launcher, as its own parser splits them."""
    if program == "python":
        return words[0], words[1:]
    if program == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        _expect(words[0] == "launch", f"accelerate {words[0]} is not looked at")
        arguments = launch_command_parser().parse_args(words[1:])
        if arguments.config_file:
            _expect((ROOT / arguments.config_file).is_file(), f"there is no {arguments.config_file}")
    else:
        from torch.distributed.run import get_args_parser

        arguments = get_args_parser().parse_args(words)
    return arguments.training_script, arguments.training_script_args


def _script(script: str, options: list[str]) -> None:
    """A recipe reads its options; a benchmark, which has them in its `main`, at least names each of them."""
    path = ROOT / script
    _expect(path.is_file(), f"there is no {script}")
    for word in options:
        if word.endswith(".yaml") and "/" in word:
            _expect((ROOT / word).is_file(), f"there is no {word}")
    if path.parent.name == "recipes":
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))  # as Python does for the script it is asked to run
        importlib.import_module(path.stem).parse_arguments(options)
        return
    source = path.read_text(encoding="utf-8") + (path.parent / "timing.py").read_text(encoding="utf-8")
    for option in (word for word in options if word.startswith("--")):
        _expect(f'"{option}"' in source, f"{script} has no option {option}")


def runs_in(world: Path, words: Sequence[str]) -> bool:
    """Whether a command is cheap and finds all that it names in the world that `document_world` makes."""
    if words[0] != "mriqa" or not set(words).isdisjoint(("--backend", "--engine", "--protocol", "--distortion", "-b")):
        return False
    name, command, rest = _command(list(words[1:]))
    if name not in ("score", "eval", "select", "card", "push", "stability") or (
        name == "push" and "--dry-run" not in rest
    ):
        return False
    given = command.make_context(name, list(rest)).params
    model = given.get("model") or (given.get("models") or ["default"])[0]
    sources = given.get("sources") or given.get("images") or [given.get("manifest") or given.get("run") or ""]
    return (model == "default" or (world / model).exists()) and all(
        source and any(world.glob(str(source).rstrip("/"))) for source in sources
    )
