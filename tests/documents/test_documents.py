"""README.md and docs/: every command and every Python block is run, or read by its own program; links lead somewhere.

What is cheap runs, in a folder with tiny models (`document_world`). What isn't is still read by the program it starts:
commands by their parsers, Python by the compiler, its imports made. `test_breaking_an_example_is_noticed` breaks some.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from document_world import make_world
from documents import (
    LANGUAGES,
    PAGES,
    ROOT,
    SHELLS,
    Block,
    BrokenCommandError,
    blocks_in,
    blocks_of,
    check_command,
    check_mention,
    commands_of,
    mentions_in,
    runs_in,
)

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [
    (f"{b.place}#{n}", b, words) for b in BLOCKS if b.language in SHELLS for n, words in enumerate(commands_of(b))
]
PYTHON = [block for block in BLOCKS if block.language == "python"]
ABSENT = ("pyiqa", "swift", "vllm")  # libraries of other people that need not be here
# At least so many of each are found: fewer means that the reading of the pages broke, not that they shrank.
LEAST = {"commands": 75, "python": 20, "run commands": 12, "run python": 14, "mentions": 60}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_world(tmp_path_factory.mktemp("world"), tiny_model)


@pytest.fixture(scope="module")
def outcomes(world: Path) -> dict[str, str | None]:
    """Place -> what went wrong, None where nothing did, for every example that is run."""
    python = [[block.place, block.page, block.text] for block in PYTHON if block.not_run is None]
    commands = [[place, words] for place, block, words in COMMANDS if block.not_run is None and runs_in(world, words)]
    return ran(world, python, commands)


def ran(world: Path, python: list, commands: list) -> dict[str, str | None]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_HOME": str(world / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "helpers"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "helpers" / "document_world.py"), str(world)],
        input=json.dumps({"python": python, "commands": commands}),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_counts(outcomes, record_property) -> None:
    counts = {
        "commands": len(COMMANDS),
        "python": len(PYTHON),
        "run commands": sum("#" in place for place in outcomes),
        "run python": sum("#" not in place for place in outcomes),
        "mentions": sum(len(mentions_in(page.read_text(encoding="utf-8"))) for page in PAGES),
    }
    for name, count in counts.items():
        record_property(name, count)
        assert count >= LEAST[name], counts
    fences = sum(len(re.findall(r"^ *```\w", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in PAGES)
    assert fences == len(BLOCKS), "a fenced block is not read"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_its_language_and_is_of_it(block: Block) -> None:
    assert block.language in LANGUAGES, f"name one of {LANGUAGES} behind the fence"
    if block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "python":
        compile(block.text, block.place, "exec")


@pytest.mark.parametrize(("place", "block", "words"), COMMANDS, ids=[place for place, _, _ in COMMANDS])
def test_a_command_is_taken_by_its_program(place, block, words, outcomes, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    check_command(words)
    assert outcomes.get(place) is None, f"{shlex.join(words)}\n{outcomes[place]}"


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_runs(block: Block, outcomes) -> None:
    if block.not_run is None:
        assert outcomes[block.place] is None, outcomes[block.place]
    else:
        check_imports(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_sentences_exist(page: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in mentions_in(page.read_text(encoding="utf-8")):
        check_mention(words)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", address):
            continue
        path, _, anchor = address.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {address}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {address}"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize(
    "broken",
    [
        "mriqa score photo.jpg --fail-beneath 3",
        "mriqa scores photo.jpg",
        "python recipes/mr_grpo.py --config recipes/configs/no_such.yaml",
        "python recipes/mr_grpo.py --config recipes/configs/tiny.yaml --rewards margin",
        "accelerate launch recipes/mr_grpo.py --config recipes/configs/tiny.yaml --num_genrations 8",
        "python recipes/no_such.py",
        "python benchmarks/grpo_step.py --no_such 1",
        "make no_such_target",
        "pip install 'mriqa[no_such]'",
        "python -m mriqa.no_such",
        "no_such_program photo.jpg",
    ],
)
def test_breaking_a_command_is_noticed(broken: str, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = blocks_in(f"```sh\n{broken}\n```\n", "page.md")
    (words,) = commands_of(block)
    with pytest.raises(BrokenCommandError):
        check_command(words)


def test_breaking_an_example_that_runs_is_noticed(world: Path) -> None:
    readme = next(block for block in PYTHON if block.page == "README.md")
    python = [["sound", "p", readme.text], ["broken", "p", readme.text.replace("result.std", "result.deviation")]]
    words = next(words for _, block, words in COMMANDS if runs_in(world, words) and "outputs/demo/model" in words)
    commands = [["sound#0", words], ["broken#0", [*words, "--readout", "sample", "--answer-format", "no_such.yaml"]]]
    found = ran(world, python, commands)
    assert found["sound"] is None and found["sound#0"] is None
    assert "has no attribute 'deviation'" in found["broken"] and "exit code 2" in found["broken#0"]


def test_reading_of_blocks() -> None:
    shown = "```sh\n$ a b \\\n    c  # d\nX=1 e 'f g' && h > i\n```\n\n  ```text\n  j\n  ```\n"
    text = f"<!-- not run: needs a GPU -->\n{shown}"
    shell, plain = blocks_in(text, "page.md")
    assert shell.not_run == "needs a GPU" and plain.not_run is None and plain.text == "j\n"
    assert commands_of(shell) == [["a", "b", "c"], ["e", "f g"], ["h"]]


def check_imports(code: str) -> None:
    """Make a block's imports; of libraries that need not be here, only where they are."""
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError:
                assert name.split(".")[0] in ABSENT, f"there is no module {name}"
                continue
            for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{name}.{alias.name}")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-") for heading in headings}
