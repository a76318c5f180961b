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
from mriqa.training.runs import write_training_log


def test_the_log_records_the_versions_that_the_packages_state_themselves(tmp_path: Path) -> None:
    state = SimpleNamespace(
        log_history=[{"loss": math.nan, "step": 1}], global_step=1, best_global_step=None, best_metric=None
    )
    write_training_log(tmp_path / "log.json", SimpleNamespace(state=state), 2.04)
    log = json.loads((tmp_path / "log.json").read_text())
    packages = (mriqa, torch, transformers, trl, peft, accelerate)
    assert log["versions"] == {package.__name__: package.__version__ for package in packages}
    assert log["history"] == [{"loss": None, "step": 1}] and log["seconds"] == 2.0
