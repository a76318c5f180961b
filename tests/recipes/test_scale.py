"""The configurations for several machines, as accelerate reads them, and the Slurm script, as a machine runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import mr_grpo
import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

RECIPES = Path(mr_grpo.__file__).parent
CONFIGS = sorted((RECIPES / "configs" / "accelerate").glob("*_nodes.yaml"))
MACHINE = ["--machine_rank", "1", "--main_process_ip", "10.0.0.1", "--main_process_port", "29500"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_takes_the_configuration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["--config_file", str(path), *MACHINE, "recipes/mr_grpo.py", "--config", "some.yaml"]
    arguments, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    assert (arguments.num_machines, arguments.num_processes, arguments.machine_rank) == (2, 16, 1)
    assert arguments.mixed_precision == "bf16" and not arguments.cpu
    if path.stem.startswith("zero"):
        assert arguments.use_deepspeed and not arguments.use_fsdp
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)  # as its command does
        launched, environment = prepare_deepspeed_cmd_env(arguments)
        assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == path.stem[4]
        assert launched is None  # no DeepSpeed launcher, which would want ssh to the other machines
    else:
        assert arguments.use_fsdp and not arguments.use_deepspeed
        for name, value in prepare_multi_gpu_env(arguments).items():
            if name.startswith("FSDP_"):
                monkeypatch.setenv(name, value)
        plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
        assert "FULL_STATE_DICT" in str(plugin.state_dict_type)


def test_slurm_starts_one_launcher_a_machine(tmp_path: Path) -> None:
    programs = {
        "scontrol": "echo first; echo second",
        "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
        "accelerate": 'printf "%s|" "$@"; echo',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4"}
    finished = subprocess.run(
        [str(RECIPES / "slurm" / "mr_grpo.sh"), "--config", "my settings.yaml"],
        env={**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    launched = [line.rstrip("|").split("|") for line in finished.stdout.splitlines()]
    assert len(launched) == 2
    for rank, words in enumerate(launched):
        options = dict(zip(words[1:13:2], words[2:13:2]))
        assert (options["--num_machines"], options["--num_processes"]) == ("2", "8")
        assert (options["--machine_rank"], options["--main_process_ip"]) == (str(rank), "first")
        assert (RECIPES.parent / options["--config_file"]).is_file()
        assert words[13:] == [
            "recipes/mr_grpo.py", "--config", "my settings.yaml", "--resume_from_checkpoint", "auto"
        ]  # fmt: skip
