"""The seam to TRL and transformers: what is overridden or called by a private name is there, and takes what it took."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import trl
from transformers import Trainer
from trl import GRPOTrainer

import mriqa.policy
from mriqa.policy.trainer import SEAM, TRL_ATTRIBUTES

POLICY = Path(mriqa.policy.__file__).parent
BASES = {"ScoreGRPOTrainer": GRPOTrainer, "RunTrainer": Trainer, "ExactScoreTrainer": Trainer}


def listed() -> list[tuple[type, str, list[str]]]:
    lines = [(cls, line.split()) for cls, text in SEAM.items() for line in text.split("\n")]
    return [(cls, words[0], words[1:]) for cls, words in lines if words]


@pytest.mark.parametrize(
    ("cls", "name", "parameters"), listed(), ids=lambda value: str(getattr(value, "__name__", value))
)
def test_the_installed_release_takes_these_parameters(cls: type, name: str, parameters: list[str]) -> None:
    if cls is GRPOTrainer and not trl.__version__.startswith("1.16."):
        pytest.skip(f"the list is that of TRL 1.16, and this is {trl.__version__}")
    method = getattr(cls, name, None)
    assert method is not None, f"{cls.__name__}.{name} is gone: see its override in mriqa/policy"
    found = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    assert found == parameters, f"{cls.__name__}.{name} takes other parameters now: see its override in mriqa/policy"


def test_attributes_are_set_by_the_installed_release() -> None:
    source = inspect.getsource(GRPOTrainer)
    for name in TRL_ATTRIBUTES:
        assert f"self.{name} =" in source, name


def test_the_list_is_complete() -> None:
    """Every method of the three classes that one of TRL or transformers has too, and every private name on self."""
    names = {(cls, name) for cls, name, _ in listed()}
    missing = []
    for file in ("trainer.py", "run_trainer.py", "exact.py"):
        for node in ast.parse((POLICY / file).read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef) or node.name not in BASES:
                continue
            base = BASES[node.name]
            methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)} - {"__init__"}
            overridden = {name for name in methods if hasattr(base, name)}
            private = {
                each.attr
                for each in ast.walk(node)
                if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self"
                if each.attr.startswith("_") and hasattr(base, each.attr)
            }
            missing += [(file, name) for name in overridden | private if (base, name) not in names]
    assert len(names) > 30 and not missing


def test_nobody_else_overrides_or_mixes_in() -> None:
    """One class of ours for each trainer, on one documented base: no mixin, and no class that flips TRL's methods."""
    classes = {
        node.name: [ast.unparse(base) for base in node.bases]
        for file in POLICY.glob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and any("Trainer" in ast.unparse(base) for base in node.bases)
    }
    assert classes == {
        "RunTrainer": ["Trainer"],
        "ScoreGRPOTrainer": ["RunTrainer", "GRPOTrainer"],
        "ScoreSFTTrainer": ["RunTrainer", "SFTTrainer"],
        "ExactScoreTrainer": ["RunTrainer"],
    }
