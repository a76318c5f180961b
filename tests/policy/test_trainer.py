"""The trainer on a random Qwen3-VL: rewards, logs, resuming, and a disk that fills up."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_policy import FORMAT, make_trainer

import mriqa.reward
from mriqa.errors import SettingsError
from mriqa.models import load_scoring_settings, load_vlm
from mriqa.policy.checkpoints import CheckpointError, find_checkpoint
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.policy.validation import Validation
from mriqa.training.vision import freeze_vision


class AnsweringTrainer(ScoreGRPOTrainer):
    """The random model writes no answer: put one in the place of each completion, and keep what the rewards were."""

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        texts = [FORMAT.format(1.5 + 0.7 * place) for place in range(len(inputs) - 1)] + ["none"]
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        self.seen_inputs, self.seen_completions = inputs, completions
        self.seen_rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        return self.seen_rewards


def test_rewards_see_the_whole_set_and_the_log_says_how_scores_are(
    tiny_model: Path, rows: list, tmp_path: Path
) -> None:
    rewards = [mriqa.reward.load("margin"), mriqa.reward.load("format")]
    trainer = make_trainer(
        tiny_model, rows, tmp_path, AnsweringTrainer, rewards, beta=0.02, max_steps=1, per_device_train_batch_size=6
    )
    trainer.train()
    columns = {name: [row[name] for row in trainer.seen_inputs] for name in ("mos", "std", "image_id")}
    assert len(set(columns["image_id"])) == 3
    for column, reward in enumerate(rewards):
        expected = reward(completions=trainer.seen_completions, **columns)
        assert trainer.seen_rewards[:, column].tolist() == pytest.approx(expected, abs=1e-6)

    logged = trainer.state.log_history[0]
    for name in (
        "parse_rate",
        "unique_ratio",
        "zero_advantage_share",
        "predicted_std",
        "human_std",
        "within_image_std",
    ):
        assert f"score/{name}" in logged
    assert {"kl", "reward", "reward_std", "frac_reward_zero_std"} <= set(logged)
    assert sum(key.startswith("rewards/") and key.endswith("/std") for key in logged) == 2
    assert logged["score/parse_rate"] == pytest.approx(5 / 6)
    assert logged["score/human_std"] == pytest.approx(torch.tensor(columns["mos"]).std(correction=0).item(), abs=1e-5)


@pytest.mark.parametrize("batches", [{}, {"num_iterations": 2}], ids=["one update", "two updates a rollout"])
def test_resumed_training_ends_with_the_same_weights(
    tiny_model: Path, rows: list, tmp_path: Path, batches: dict[str, Any]
) -> None:
    """Six images, two a rollout, so that the run is interrupted within the second epoch of three."""
    steps = 8 * batches.get("num_iterations", 1)
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    make_trainer(tiny_model, rows, whole, max_steps=steps, save_steps=steps, **batches).train()
    interrupted = make_trainer(tiny_model, rows, halved, max_steps=steps, save_steps=steps // 2, **batches)
    interrupted.train()
    shutil.rmtree(halved / f"checkpoint-{steps}")
    checkpoint = find_checkpoint(halved, "auto")
    assert checkpoint is not None and checkpoint.endswith(f"checkpoint-{steps // 2}")
    make_trainer(tiny_model, rows, halved, max_steps=steps, save_steps=steps, **batches).train(
        resume_from_checkpoint=checkpoint
    )

    initial = load_file(tiny_model / "model.safetensors")
    expected = load_file(whole / f"checkpoint-{steps}" / "model.safetensors")
    resumed = load_file(halved / f"checkpoint-{steps}" / "model.safetensors")
    assert any(not torch.equal(initial[name], expected[name]) for name in expected)
    for name, weight in expected.items():
        assert torch.equal(weight, resumed[name]), name


def test_a_full_disk_leaves_the_old_checkpoint(
    tiny_model: Path, rows: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tiny_model, rows, tmp_path, save_steps=1, save_total_limit=1)
    write_optimizer = trainer._save_optimizer_and_scheduler

    def second_save_fails(folder: str) -> None:
        if trainer.state.global_step == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_optimizer(folder)

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", second_save_fails)
    with pytest.raises(
        CheckpointError, match="checkpoint-2 could not be saved .No space left.*checkpoint-1 the latest"
    ):
        trainer.train()
    assert not (tmp_path / ".saving").exists() and not (tmp_path / "checkpoint-2").exists()
    assert find_checkpoint(tmp_path, "auto") == str(tmp_path / "checkpoint-1")
    kept = {path.name for path in (tmp_path / "checkpoint-1").iterdir()}
    assert {"model.safetensors", "optimizer.pt", "trainer_state.json", "mriqa.json"} <= kept


@pytest.mark.parametrize("beyond_weights", [-1000, 20_000], ids=["safetensors", "torch.save"])
def test_weights_and_optimizer_that_cannot_be_written_leave_the_old_checkpoint(
    tiny_model: Path, rows: list, tmp_path: Path, beyond_weights: int
) -> None:
    """The operating system refuses the write, by a limit on file sizes: what the libraries then raise is their own."""
    import resource

    trainer = make_trainer(tiny_model, rows, tmp_path, save_steps=1)
    save = trainer._save_checkpoint

    def save_under_limit(model: Any, trial: Any) -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if trainer.state.global_step == 2:
            size = (tmp_path / "checkpoint-1" / "model.safetensors").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + beyond_weights, limits[1]))
        try:
            save(model, trial)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    trainer._save_checkpoint = save_under_limit
    with pytest.raises(CheckpointError, match="checkpoint-2 could not be saved"):
        trainer.train()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "checkpoint-1"]


def test_other_errors_while_saving_are_not_called_a_full_disk(
    tiny_model: Path, rows: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tiny_model, rows, tmp_path, max_steps=1, save_steps=1)

    def broken(_: str) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", broken)
    with pytest.raises(RuntimeError, match="something else"):
        trainer.train()
    assert not (tmp_path / ".saving").exists()


def test_best_checkpoint_by_validation(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    """Validation is best at step 1 of 3: that checkpoint survives rotation and its weights end up in the model."""
    values = iter([0.1, 0.9, 0.3, 0.5])

    def score(model: Any, processor: Any, batch: Any) -> list[float]:
        assert not model.training
        return [row.mos for row in batch]

    trainer = make_trainer(
        tiny_model,
        rows,
        tmp_path,
        max_steps=3,
        eval_strategy="steps",
        eval_steps=1,
        save_steps=1,
        save_total_limit=1,
        eval_on_start=True,
        load_best_model_at_end=True,
        validation=Validation(rows, score, {"srcc": lambda *_: next(values)}),
    )
    trainer.train()
    assert [entry["eval_srcc"] for entry in trainer.state.log_history if "eval_srcc" in entry] == [0.1, 0.9, 0.3, 0.5]
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-1")
    state = json.loads((tmp_path / "checkpoint-1" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-1")
    best = load_file(tmp_path / "checkpoint-1" / "model.safetensors")
    for name, weight in best.items():
        assert torch.equal(weight, trainer.model.state_dict()[name]), name

    saved = trainer.save_final_model(tmp_path / "model")
    assert not list(saved.glob("*.bin")) and not (tmp_path / ".saving").exists()
    reloaded, _ = load_vlm(saved, device="cpu")
    assert torch.equal(reloaded.state_dict()[name], best[name])
    settings = load_scoring_settings(saved)
    assert settings is not None and settings.answer_format == FORMAT


def test_frozen_vision_tower_stays_put(tiny_model: Path) -> None:
    model, _ = load_vlm(tiny_model, device="cpu")
    frozen = freeze_vision(model)
    tower = model.model.visual
    assert frozen == sum(parameter.numel() for parameter in tower.parameters()) > 0
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert any(parameter.requires_grad for parameter in model.parameters())
    model.train()
    tower._forward_pre_hooks[next(iter(tower._forward_pre_hooks))](tower, ())
    assert not any(module.training for module in tower.modules())
    with pytest.raises(SettingsError, match="no vision tower"):
        freeze_vision(torch.nn.Linear(2, 2))  # type: ignore[arg-type]


def test_weights_of_renamed_models_are_loaded(tmp_path: Path) -> None:
    """Qwen2.5-VL's saved keys differ from its modules' names: transformers' own resume would keep initial weights."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from mriqa.policy.checkpoints import load_weights

    text = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    }
    vision = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    torch.manual_seed(0)
    trained = Qwen2_5_VLForConditionalGeneration(config)
    trained.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) != set(trained.state_dict()), "no longer renamed"

    model = Qwen2_5_VLForConditionalGeneration(config)
    load_weights(model, tmp_path)
    for name, weight in trained.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_checkpoint_to_resume_from(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path, None) is None and find_checkpoint(tmp_path, "auto") is None
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").touch()
    (tmp_path / "checkpoint-11").mkdir()  # cut off while it was written, by other code than ours
    assert find_checkpoint(tmp_path, "auto") == str(tmp_path / "checkpoint-10")
    with pytest.raises(CheckpointError, match="checkpoint-11"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-11"))
