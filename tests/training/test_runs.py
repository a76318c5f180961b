"""What a run leaves behind beside its model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import accelerate
import peft
import torch
import transformers
import trl

import mriqa
from mriqa.training.runs import start_above_best, write_training_log


def test_the_log_records_the_versions_that_the_packages_state_themselves(tmp_path: Path) -> None:
    state = SimpleNamespace(
        log_history=[{"loss": math.nan, "step": 1}], global_step=1, best_global_step=None, best_metric=None
    )
    write_training_log(tmp_path / "log.json", SimpleNamespace(state=state), 2.04)
    log = json.loads((tmp_path / "log.json").read_text())
    packages = (mriqa, torch, transformers, trl, peft, accelerate)
    assert log["versions"] == {package.__name__: package.__version__ for package in packages}
    assert log["history"] == [{"loss": None, "step": 1}] and log["seconds"] == 2.0


def test_a_start_that_no_checkpoint_beat_is_told() -> None:
    history = [{"eval_srcc": 0.866, "eval_plcc": 0.5, "step": 0}, {"loss": 1.0, "step": 20}]
    history.append({"eval_srcc": 0.787, "eval_plcc": 0.6, "step": 20})
    sentence = start_above_best(SimpleNamespace(log_history=history, best_metric=0.787), "srcc")
    assert "SRCC was 0.866 before it and 0.787 at best" in sentence
    assert start_above_best(SimpleNamespace(log_history=history, best_metric=0.6), "eval_plcc") == ""
    assert start_above_best(SimpleNamespace(log_history=history[1:], best_metric=0.787), "srcc") == ""
    assert start_above_best(SimpleNamespace(log_history=history, best_metric=None), "srcc") == ""
