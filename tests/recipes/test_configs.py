"""Every YAML parses, the command line overrides it, and the resolved configuration reads back the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mr_grpo
import pytest
import sft
import yaml

from mriqa.answers import load_format
from mriqa.errors import SettingsError
from mriqa.manifest import resolve_scale
from mriqa.training.checks import check_rollout_size
from mriqa.training.config import parse_options, write_resolved_config

CONFIGS = Path(mr_grpo.__file__).parent / "configs"
LISTS = ("results", "default_model_photos")  # no settings of a training
GRPO = sorted(path for path in CONFIGS.glob("*.yaml") if "sft" not in path.name and path.stem not in LISTS)


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
    assert "margin" in arguments.reward and parse_options(arguments.reward_options, "")["margin"] == {"scale": "unit"}
    assert not config.bf16 or not config.use_cpu


PUBLISHED: dict[str, Any] = {  # read off the training script of MR-IQA's authors
    "reward": ["margin", "format"],
    "reward_weights": [1.0, 1.0],
    "reward_options": {"margin": {"scale": "unit"}},
    "learning_rate": 1e-5,
    "num_train_epochs": 10,
    "num_generations": 6,
    "num_iterations": 4,
    "temperature": 0.7,
    "logps_temperature": 1.0,  # their trainer takes the raw logits
    "max_completion_length": 256,
    "beta": 0.02,
    "epsilon": 0.2,
    "max_pixels": 196608,
    "comparison": "local",
    "estimator": "sampled",
    "lora_r": 0,
    "freeze_vision": False,
    "load_best_model_at_end": False,  # the model they released is that of the last epoch
}
FULL = [path for path in GRPO if path.stem.endswith("_koniq")]


def settings_of(path: Path) -> dict[str, Any]:
    arguments, config = mr_grpo.parse_arguments(["--config", str(path)])
    return {**vars(config), **vars(arguments)}


def test_published_settings_are_the_published_ones() -> None:
    settings = settings_of(CONFIGS / "qwen3_vl_2b_koniq.yaml")
    assert {name: settings[name] for name in PUBLISHED} == PUBLISHED
    assert settings["model"] == "Qwen/Qwen3-VL-2B-Instruct"
    # One rollout is 48 completions, 8 images, on each GPU, and each of the 4 updates goes over all of it.
    rollout = settings["per_device_train_batch_size"] * settings["steps_per_generation"]
    assert rollout == 48 and rollout / settings["num_generations"] == 8
    assert settings["gradient_accumulation_steps"] == settings["steps_per_generation"]
    answer_format = load_format(settings["prompt_mode"])
    assert [message["role"] for message in answer_format.messages()] == ["user"]
    assert answer_format.parse("<answer>3.52</answer>") == 3.52 and "{thinking}" not in answer_format.template
    # The rows of `mriqa data prepare koniq10k --normalise minmax` say that they are on 1..5; a scale here would win.
    assert settings["scale"] is None
    # 1.096 and 4.31 are KonIQ's observed ends, rounded.
    scale = resolve_scale("koniq10k_minmax")
    assert scale.to_mos(1.096) == pytest.approx(1, abs=2e-3) and scale.to_mos(4.31) == pytest.approx(5, abs=2e-3)
    assert scale.std_to_mos(1.0) == pytest.approx(1.245, abs=1e-3)
    assert scale.to_mos(126 / 115) >= 1 and scale.to_mos(500 / 116) <= 5  # which round to those


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.stem)
def test_other_models_take_the_published_settings_and_say_that_they_are_carried_over(path: Path) -> None:
    published, own = settings_of(CONFIGS / "qwen3_vl_2b_koniq.yaml"), settings_of(path)
    differing = {
        name for name in own if own[name] != published[name] and not name.startswith(("accelerator_", "distributed_"))
    }
    assert differing <= {"model", "output_dir", "run_name", "logging_dir"}
    assert len(FULL) == 4
    if path.stem.startswith("qwen2_5"):
        assert "for which none were published" in path.read_text()


def test_no_other_config_calls_itself_published() -> None:
    for path in set(GRPO) - set(FULL):
        assert "published" not in path.read_text().replace("not published", "")


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


@pytest.mark.parametrize(("options", "says"), [
    (["--logps_temperature", "0"], "must be a number above 0, not 0.0"),
    (["--logps_temperature", "1", "--use_vllm", "true"], "set --vllm_importance_sampling_correction false"),
])  # fmt: skip
def test_a_logps_temperature_that_cannot_be_had_is_refused(options: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        mr_grpo.parse_arguments(["--config", str(CONFIGS / "tiny.yaml"), *options])


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
    assert settings["num_processes"] == 8
    assert deepspeed["offload_optimizer_device"] == deepspeed["offload_param_device"] == "cpu"
