"""The update with shared prompts against TRL's own trainer: the same loss, and the same gradient of every weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bare_trainer import bare, rollout
from tiny_families import FAMILIES, build, completions, prompts
from tiny_policy import make_trainer
from trl import GRPOTrainer

from mriqa.policy.prompt_groups import group_rows, rows_of_groups, split_by_prompt, take
from mriqa.policy.trainer import ScoreGRPOTrainer


def gradients(trainer: Any, model: Any, batches: list[dict[str, Any]]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = torch.stack([trainer._compute_loss(model, batch) for batch in batches]).mean()
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return loss.item(), found


def compare(model: Any, batch: dict[str, Any], ours: list[dict[str, Any]], tolerance: float = 1e-4) -> None:
    """TRL's loss and gradients on `batch` against ours on micro-batches, relative to each gradient's norm."""
    loss, expected = gradients(bare(GRPOTrainer, model), model, [batch])
    our_loss, got = gradients(bare(ScoreGRPOTrainer, model), model, ours)
    assert our_loss == pytest.approx(loss, rel=tolerance)
    assert got.keys() == expected.keys() and len(got) > 3
    largest = max(gradient.norm().item() for gradient in expected.values())
    for name, gradient in expected.items():
        error = (got[name] - gradient).norm().item()
        assert error <= tolerance * max(gradient.norm().item(), 1e-3 * largest), (name, error, gradient.norm().item())


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_trl(family: str) -> None:
    model = build(family).train()
    batch = rollout(prompts(family), *completions())
    compare(model, batch, [batch])
    compare(model, batch, split_by_prompt(batch, 1))
    # Micro-batches that hold half of a group share among the rows they have.
    compare(model, batch, split_by_prompt(batch, 2))


def test_gradient_checkpointing_changes_nothing() -> None:
    model = build("qwen3_vl").train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = rollout(prompts("qwen3_vl"), *completions())
    compare(model, batch, split_by_prompt(batch, 1))


@pytest.mark.parametrize("family", ["qwen3_vl", "fast_vlm"])
def test_lora(family: str) -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(build(family), LoraConfig(r=2, target_modules=["q_proj", "v_proj", "up_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    batch = rollout(prompts(family), *completions())
    compare(adapted.train(), batch, split_by_prompt(batch, 1))


def test_bfloat16_autocast_is_as_near_as_bfloat16_is() -> None:
    from accelerate import Accelerator

    model = build("qwen3_vl").train()
    batch = rollout(prompts("qwen3_vl"), *completions())
    exact, _ = gradients(bare(GRPOTrainer, model), model, [batch])
    half: Any = Accelerator(cpu=True)
    half.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    stock, _ = gradients(bare(GRPOTrainer, model, accelerator=half), model, [batch])
    ours, found = gradients(bare(ScoreGRPOTrainer, model, accelerator=half), model, split_by_prompt(batch, 1))
    assert stock != exact and ours != exact
    assert ours == pytest.approx(exact, rel=0.02)
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_the_passes_over_a_rollout_find_the_groups_by_their_pixels() -> None:
    """Qwen's prompts of one size have equal tokens; the old and the reference pass see TRL's plain batch, in chunks."""
    inputs = prompts("qwen3_vl", n_prompts=4)
    for name in ("input_ids", "attention_mask", "mm_token_type_ids", "image_grid_thw"):
        inputs[name][2] = inputs[name][0]  # another image behind the words of the first prompt
    model = build("qwen3_vl").eval()
    batch = rollout(inputs, *completions(4))
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    fields = {name: batch[name] for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images")}
    with torch.no_grad():
        for batch_size in (None, 4, 6, 16):
            stock, ours = (
                bare(cls, model)._get_per_token_logps_and_entropies(model, ids, mask, 5, batch_size, **fields)[0]
                for cls in (GRPOTrainer, ScoreGRPOTrainer)
            )
            torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-5)
            assert (ours[0] - ours[8]).abs().max() > 1e-3 or (ids[0] != ids[8]).any()


def test_micro_batches_keep_groups_whole_and_lose_nothing() -> None:
    batch = rollout(prompts("qwen3_vl", n_prompts=6), *completions(6))
    batch["row"] = torch.arange(24)
    torch.manual_seed(0)
    orders = set()
    for _ in range(4):
        steps = split_by_prompt(batch, 3)
        seen = torch.cat([step["row"] for step in steps])
        assert sorted(seen.tolist()) == list(range(24))
        orders.add(tuple(seen.tolist()))
        for step in steps:
            assert step["prompt_group"].tolist() == [0] * 4 + [1] * 4
            assert (step["row"] // 4).unique().numel() == 2
            assert step["num_items_in_batch"] == batch["num_items_in_batch"]
            assert len(step["image_grid_thw"]) == len(step["num_images"]) == 2
            assert len(step["pixel_values"]) == int(step["image_grid_thw"].prod(-1).sum())
    assert len(orders) > 1


def test_groups_against_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 2, (40, 2), generator=generator)
    pixels = torch.randint(0, 2, (40, 2), generator=generator).float()
    groups = group_rows(ids, torch.ones_like(ids), {"pixel_values": pixels, "num_images": [1] * 40})
    rows = [tuple(torch.cat([ids[row].float(), pixels[row]]).tolist()) for row in range(40)]
    assert groups.tolist() == [list(dict.fromkeys(rows)).index(row) for row in rows]
    rows_NG, place_B = rows_of_groups(groups)
    assert [sorted(row for row in found if row >= 0) for found in rows_NG.tolist()] == [
        [row for row, group in enumerate(groups.tolist()) if group == number] for number in range(len(rows_NG))
    ]
    assert rows_NG.flatten()[place_B].tolist() == list(range(40))


def test_prepare_inputs_generates_once_for_all_micro_batches() -> None:
    model = build("qwen3_vl").train()
    trainer = bare(ScoreGRPOTrainer, model, steps=3)
    batch = rollout(prompts("qwen3_vl", n_prompts=6), *completions(6))
    generated = []
    trainer._generate_and_score_completions = lambda rows: generated.append(rows) or batch
    handed = []
    for trainer._step in range(6):
        handed.append(trainer._prepare_inputs("rows"))
    assert len(generated) == 2
    for rollout_steps in (handed[:3], handed[3:]):
        completions_seen = torch.cat([step["completion_ids"] for step in rollout_steps])
        assert sorted(completions_seen.tolist()) == sorted(batch["completion_ids"].tolist())


def test_other_models_are_trained_as_trl_does() -> None:
    model = build("qwen3_vl")
    batch = rollout(prompts("qwen3_vl"), *completions())
    stock, _ = gradients(bare(GRPOTrainer, model), model, [batch])
    model.config.model_type = "something_else"
    trainer = bare(ScoreGRPOTrainer, model)
    assert gradients(trainer, model, [batch])[0] == stock
    assert "something_else is not one of the known architectures" in trainer.why_not_shared


def test_a_trainer_says_once_that_its_model_shares_no_prompts(
    tiny_model: Path, rows: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr("mriqa.policy.trainer.why_not_shared", lambda _: "its attention is of another kind")
    make_trainer(tiny_model, rows, tmp_path).train()
    said = [str(warning.message) for warning in recwarn if "shared_prefix" in str(warning.message)]
    assert said == ["shared_prefix has no effect on this model, because its attention is of another kind."]


@pytest.mark.parametrize("options", [{"beta": 0.02}, {"gradient_accumulation_steps": 3, "num_iterations": 2}])
def test_a_step_of_training_ends_with_the_same_weights(
    tiny_model: Path, rows: list, tmp_path: Path, options: dict[str, Any]
) -> None:
    from mriqa.answers import load_format
    from mriqa.models import load_vlm
    from mriqa.training.config import ScoreGRPOConfig
    from mriqa.training.training_sets import policy_dataset

    def by_length(completions: list[Any], **_: Any) -> list[float]:
        return [len(completion[0]["content"]) % 7 / 7 for completion in completions]

    def trained(shared_prefix: bool) -> dict[str, torch.Tensor]:
        model, processor = load_vlm(tiny_model, device="cpu")
        config = ScoreGRPOConfig(
            output_dir=str(tmp_path / str(shared_prefix)),
            shared_prefix=shared_prefix,
            max_steps=options.get("num_iterations", 1),
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=5,
            optim="sgd",
            learning_rate=0.5,
            lr_scheduler_type="constant",
            eval_strategy="no",
            eval_on_start=False,
            load_best_model_at_end=False,
            save_strategy="no",
            disable_tqdm=True,
            **options,
        )
        trainer = ScoreGRPOTrainer(
            model=model,
            processing_class=processor,
            args=config,
            reward_funcs=[by_length],
            train_dataset=policy_dataset(rows, load_format("non_thinking")),
            answer_format=load_format("non_thinking"),
        )
        trainer.train()
        return {name: weight.detach() for name, weight in trainer.model.named_parameters()}

    ours, stock = trained(True), trained(False)
    start, _ = load_vlm(tiny_model, device="cpu")
    moved = sum((weight - stock[name]).norm().item() for name, weight in start.named_parameters())
    apart = sum((ours[name] - weight).norm().item() for name, weight in stock.items())
    assert moved > 0 and apart <= 1e-4 * moved
    assert take({"a": None}, torch.tensor([0])) == {"a": None}
