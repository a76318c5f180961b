"""Every YAML parses, the command line overrides it, and the resolved configuration reads back the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mr_grpo
import pytest
import sft
import yaml

from mriqa.errors import SettingsError
from mriqa.training.checks import check_rollout_size
from mriqa.training.config import parse_options, write_resolved_config

CONFIGS = Path(mr_grpo.__file__).parent / "configs"
GRPO = sorted(path for path in CONFIGS.glob("*.yaml") if "sft" not in path.name)


@pytest.mark.parametrize("path", GRPO, ids=lambda path: path.stem)
def test_configs_parse_and_fit_their_rollouts(path: Path, tmp_path: Path) -> None:
    arguments, config = mr_grpo.parse_arguments(["--config", str(path), "--output_dir", str(tmp_path)])
    check_rollout_size(
        images=7046,
        num_generations=config.num_generations,
        per_device_batch=config.per_device_train_batch_size,
        steps_per_generation=config.steps_per_generation,
        processes=8,
        comparison=arguments.comparison,
    )
    assert arguments.reward == ["margin"] and parse_options(arguments.reward_options, "") == {
        "margin": {"scale": "unit"}
    }
    assert not config.bf16 or not config.use_cpu


def test_published_settings() -> None:
    arguments, config = mr_grpo.parse_arguments(["--config", str(CONFIGS / "qwen3_vl_2b_koniq.yaml")])
    assert (config.learning_rate, config.num_train_epochs, config.num_generations) == (1e-5, 10, 6)
    assert (config.temperature, config.beta, config.epsilon, arguments.max_pixels) == (0.7, 0.02, 0.2, 196608)
    assert config.steps_per_generation * config.num_iterations / config.gradient_accumulation_steps == 4
    assert config.per_device_train_batch_size * config.steps_per_generation / config.num_generations == 8
    assert (arguments.comparison, arguments.prompt_mode, arguments.lora_r) == ("local", "non_thinking", 0)


@pytest.mark.parametrize("name", ["tiny_sft", "default_model_sft"])
def test_supervised_configs_parse(name: str) -> None:
    arguments, _ = sft.parse_arguments(["--config", str(CONFIGS / f"{name}.yaml")])
    assert (arguments.model, arguments.target, arguments.prompt_mode) == ("embedded", "mos", "tiny")


def test_command_line_overrides_yaml() -> None:
    options = ["--learning_rate", "3e-4", "--reward", "ranking", "format", "--comparison", "local"]
    arguments, config = mr_grpo.parse_arguments(["--config", str(CONFIGS / "tiny.yaml"), *options])
    assert config.learning_rate == 3e-4 and config.num_generations == 8
    assert arguments.reward == ["ranking", "format"] and arguments.comparison == "local"


@pytest.mark.parametrize("recipe", [mr_grpo, sft])
def test_resolved_config_reads_back_the_same(recipe: object, tmp_path: Path) -> None:
    name = "tiny.yaml" if recipe is mr_grpo else "tiny_sft.yaml"
    before = recipe.parse_arguments(["--config", str(CONFIGS / name), "--hub_token", "secret"])  # type: ignore[attr-defined]
    write_resolved_config(tmp_path / "resolved.yaml", *before)
    assert "secret" not in (tmp_path / "resolved.yaml").read_text()
    after = recipe.parse_arguments(["--config", str(tmp_path / "resolved.yaml")])  # type: ignore[attr-defined]
    for old, new in zip(before, after, strict=True):
        for field in dataclasses.fields(old):
            if field.init and field.name not in ("hub_token", "accelerator_config"):
                assert getattr(old, field.name) == getattr(new, field.name), field.name


def test_options_of_earlier_versions_are_passed_over_with_a_sentence(tmp_path: Path) -> None:
    written = tmp_path / "resolved_config.yaml"
    written.write_text("vision_features: outputs/embedded/features.safetensors\nmax_steps: 7\n")
    with pytest.warns(UserWarning, match="vision_features is not used any more"):
        _, config = mr_grpo.parse_arguments(["--config", str(written), "--output_dir", str(tmp_path)])
    assert config.max_steps == 7


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text(yaml.safe_dump({"learning_rat": 1e-5}))
    with pytest.raises(SettingsError, match="learning_rat"):
        mr_grpo.parse_arguments(["--config", str(tmp_path / "typo.yaml")])
    with pytest.raises(SettingsError, match="absent.yaml"):
        mr_grpo.parse_arguments(["--config", str(tmp_path / "absent.yaml")])


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        mr_grpo.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "accelerate launch recipes/mr_grpo.py" in text and "path/to/file.py:function" in text


def test_accelerate_config_is_zero3_offload() -> None:
    settings = yaml.safe_load((CONFIGS / "accelerate" / "zero3_offload.yaml").read_text())
    deepspeed = settings["deepspeed_config"]
    assert settings["distributed_type"] == "DEEPSPEED" and deepspeed["zero_stage"] == 3
    assert deepspeed["offload_optimizer_device"] == deepspeed["offload_param_device"] == "cpu"
