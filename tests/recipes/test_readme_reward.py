"""README's own reward runs as it stands there, by the command beside it, under both estimators."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import mr_grpo
import pytest

from mriqa.embedded.dataset import DatasetSettings
from mriqa.training import embedded_runs
from mriqa.training.embedded_preparation import prepare

REPOSITORY = Path(__file__).parents[2]
LAUNCH = ["accelerate", "launch", "recipes/mr_grpo.py"]
SMALL = DatasetSettings(train_images=32, val_images=4, test_images=4, size=64, scenes=4)
QUICK = "--max_steps 2 --eval_strategy no --eval_on_start false --save_strategy no --load_best_model_at_end false"


def written_there() -> tuple[str, str]:
    """The Python file and the command of the section "Add a reward"."""
    section = (REPOSITORY / "README.md").read_text(encoding="utf-8").split("\n## Add a reward\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (command,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return code, command


def test_the_reward_trains_under_both_estimators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, command = written_there()
    file_name = code.splitlines()[0].removeprefix("# ")
    (tmp_path / file_name).write_text(code, encoding="utf-8")
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    monkeypatch.chdir(tmp_path)
    # The embedded data set with few and small pictures, and its untrained model in the place of the warm start's.
    small = prepare("embedded", settings=SMALL)
    shutil.copytree(small.model, "outputs/embedded/warm_start/model")
    monkeypatch.setattr(embedded_runs, "prepare_default", lambda arguments: small)

    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == LAUNCH
    own = [word for word in words if word.startswith(f"{file_name}:")]
    assert len(own) == 1
    for more in ("", "--estimator sampled --per_device_train_batch_size 16"):
        assert mr_grpo.main([*words[3:], *shlex.split(QUICK), *shlex.split(more)]) == 0
        log = json.loads(Path("outputs/mr_grpo_tiny/training_log.json").read_text())
        assert log["steps"] == 2
        assert own[0] in Path("outputs/mr_grpo_tiny/resolved_config.yaml").read_text()
    name = own[0].partition(":")[2]
    assert any(f"rewards/{name}/mean" in entry for entry in log["history"])  # of the last run, the sampled one
