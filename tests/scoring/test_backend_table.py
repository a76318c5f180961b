"""The tables of backends and readouts: names lead to what they say, and a new one is a module and a line."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import mriqa
from mriqa.errors import UserError
from mriqa.scoring.backend import ModelSource, Wanted
from mriqa.scoring.backend_table import BACKENDS, BackendEntry
from mriqa.scoring.reading import Reading
from mriqa.scoring.readout_table import BEST_FIRST, READOUTS
from mriqa.scoring.scorer import Scorer


class Constant:
    """A backend and a readout in one, that gives every picture the score 2."""

    name = readout_name = "constant"

    def read(self, *arguments: Any) -> list[Reading]:
        count = len(arguments[0]) if isinstance(arguments[0], list) else len(arguments[2]["input_ids"])
        return [Reading(np.array([2.0]), np.array([1.0]), exact=True)] * count


@pytest.fixture
def constant_module(monkeypatch) -> ModuleType:
    module = ModuleType("constant_scores")
    monkeypatch.setitem(sys.modules, "constant_scores", module)
    return module


def test_a_new_backend_is_a_module_and_a_line(constant_module, monkeypatch, pictures):
    asked = []

    def open_backend(source: ModelSource, wanted: Wanted) -> Constant:
        asked.append((source, wanted))
        return Constant()

    constant_module.open_backend = open_backend
    monkeypatch.setitem(BACKENDS, "constant", BackendEntry("constant_scores", holds_model=False))
    scorer = mriqa.Scorer.from_pretrained("name", backend="constant", backend_options={"speed": 3}, samples=5)
    assert [(score.score, score.error) for score in scorer.score(pictures)] == [(2.0, None)] * len(pictures)
    ((source, wanted),) = asked
    assert (source.model, source.options, wanted.samples) == ("name", {"speed": 3}, 5)
    with pytest.raises(UserError, match='the backend "constant" keeps'):
        mriqa.Scorer.from_pretrained("name", backend="constant", head="conord")


def test_a_new_readout_is_a_function_and_a_line(constant_module, monkeypatch, taught_model, pictures):
    constant_module.make = lambda processor, wanted: Constant()
    monkeypatch.setitem(READOUTS, "constant", "constant_scores:make")
    monkeypatch.setattr("mriqa.scoring.readout_table.READOUT_NAMES", ("auto", *READOUTS))
    scores = Scorer(*taught_model, readout="constant").score(pictures)
    assert [score.score for score in scores] == [2.0] * len(pictures)


def test_every_line_leads_to_something():
    for entry in BACKENDS.values():
        assert callable(import_module(entry.module).open_backend)
    for line in READOUTS.values():
        module, _, function = line.partition(":")
        assert callable(getattr(import_module(module), function))
    assert set(BEST_FIRST) <= set(READOUTS)


def test_unknown_names_are_refused_with_those_that_there_are(taught_model):
    with pytest.raises(ValueError, match="no backend 'onnx'; choose one of transformers, vllm, server"):
        mriqa.Scorer.from_pretrained("name", backend="onnx")
    for attempt in (lambda: Scorer(*taught_model, readout="best"), lambda: mriqa.Scorer.from_pretrained("n", "best")):
        with pytest.raises(ValueError, match="no readout 'best'; choose one of auto, expected, greedy, sample"):
            attempt()
    with pytest.raises(ValueError, match="temperature must be above 0, not 0"):
        mriqa.Scorer.from_pretrained("name", backend="server", temperature=0)


def test_the_backend_of_the_extending_page(constant_module, monkeypatch, pictures, tmp_path, repository):
    page = (repository / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "FileBackend" in block)
    exec(code, vars(constant_module))
    monkeypatch.setitem(BACKENDS, "file", BackendEntry("constant_scores", holds_model=False))
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps([f"<answer>{1.5 + place:.2f}</answer>" for place in range(len(pictures))]))
    scorer = mriqa.Scorer.from_pretrained(str(answers), backend="file")
    assert [score.score for score in scorer.score(pictures)] == [1.5 + place for place in range(len(pictures))]
    with pytest.raises(UserError, match="no probabilities: use --readout greedy"):
        mriqa.Scorer.from_pretrained(str(answers), "expected", backend="file")
