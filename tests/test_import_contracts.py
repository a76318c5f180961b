"""The import contracts catch what they are there for: each planted import breaks the one it should, by name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("mriqa", "reward", "eval", "recipes")
LAYERS = "Each room imports only rooms below its own"
RECIPES = "The library imports no recipe"
APART = "Policy, heads, conord, selection, pretraining and scoring meet through arrays, callables and the manifest"
CIRCLES = "No circle, inside a room or between rooms"


def copied(folder: Path) -> Path:
    """A copy of all modules and of the contracts."""
    for room in ROOMS:
        for path in (REPOSITORY / room).rglob("*.py"):
            target = folder / path.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    return folder


@pytest.fixture
def checkout(tmp_path) -> Path:
    return copied(tmp_path)


def verdicts(checkout: Path) -> tuple[dict[str, bool], str]:
    """Each contract's name with whether it is kept, and the whole report in one line."""
    program = [sys.executable, str(REPOSITORY / ".ci" / "import_contracts.py"), str(checkout)]
    done = subprocess.run(program, capture_output=True, text=True)
    report = " ".join(done.stdout.split())
    found = {name: f"{name} KEPT" in report for name in (LAYERS, RECIPES, APART, CIRCLES)}
    assert all(re.search(f"{name} (KEPT|BROKEN)", report) for name in found), done.stdout + done.stderr
    assert (done.returncode == 0) == all(found.values())
    return found, report


@pytest.fixture(scope="module")
def report_before(tmp_path_factory) -> str:
    return verdicts(copied(tmp_path_factory.mktemp("before")))[1]


@pytest.mark.parametrize(
    "module, planted, contract, said",
    [
        ("mriqa/files.py", "import mriqa.manifest.scales", LAYERS, "mriqa.files -> mriqa.manifest.scales"),
        ("mriqa/manifest/rows.py", "from mriqa.models import load_vlm", LAYERS, "mriqa.manifest.rows -> mriqa.models"),
        ("eval/metrics.py", "from mriqa.training import runs", LAYERS, "mriqa.eval.metrics -> mriqa.training.runs"),
        ("mriqa/policy/sampling.py", "import mriqa.reward", LAYERS, "mriqa.policy.sampling -> mriqa.reward"),
        ("reward/margin.py", "from recipes import sft", RECIPES, "mriqa.reward.margin -> recipes.sft"),
        ("mriqa/selection/ppr.py", "import mriqa.heads", APART, "mriqa.selection.ppr -> mriqa.heads"),
        ("mriqa/heads/mae.py", "import mriqa.conord.model", APART, "mriqa.heads.mae -> mriqa.conord.model"),
        ("reward/comparison.py", "from .margin import margin_reward", CIRCLES, "No cycles are allowed in mriqa.reward"),
        ("mriqa/images.py", "import mriqa.manifest", CIRCLES, "No cycles are allowed in mriqa. It"),
    ],
)
def test_a_planted_import_breaks_its_contract(checkout, report_before, module, planted, contract, said):
    assert said not in report_before
    path = checkout / module
    path.write_text(path.read_text(encoding="utf-8") + f"\n\ndef late():\n    {planted}\n", encoding="utf-8")
    after, report = verdicts(checkout)
    assert not after[contract] and said in report


def test_a_new_room_has_to_be_given_its_place(checkout):
    (checkout / "mriqa" / "attic").mkdir()
    (checkout / "mriqa" / "attic" / "__init__.py").touch()
    after, report = verdicts(checkout)
    assert not after[LAYERS] and "attic" in report
