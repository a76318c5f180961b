"""A head beside the policy: the joint gradient by two backward passes, what a checkpoint holds, when training stops."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bare_trainer import bare, rollout
from datasets import Dataset
from safetensors.torch import load_file
from tiny_families import build, completions, prompts
from tiny_policy import make_trainer
from torch import nn

import mriqa.reward
from mriqa.answers import load_format
from mriqa.errors import SettingsError
from mriqa.heads.neighbour_head import AuxiliaryHead
from mriqa.manifest import write_manifest
from mriqa.models import load_vlm
from mriqa.policy.auxiliary import Auxiliary, HeadTraining, check_auxiliary
from mriqa.policy.checkpoints import CheckpointError, find_checkpoint
from mriqa.policy.exact import ExactScoreTrainer
from mriqa.policy.finite_guard import ROWS_FIELD, NotFiniteError
from mriqa.policy.prompt_groups import split_by_prompt
from mriqa.policy.prompts_once import process_prompts
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.policy.validation import Validation
from mriqa.training.config import ScoreGRPOConfig
from mriqa.training.training_sets import policy_dataset

WEIGHT = 0.3


class Regression(nn.Module):
    """A head of its own kind, whose loss compares the images of a batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reading = nn.Linear(width, 1)
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        with torch.no_grad():
            self.reading.weight.copy_(torch.arange(float(width)).sin())

    def forward(self, features_ND: torch.Tensor, mos_N: torch.Tensor) -> torch.Tensor:
        self.seen.append((features_ND.detach(), mos_N))
        errors_N = self.reading(features_ND)[:, 0] - mos_N
        return errors_N.square().mean() + errors_N.mean().square()


def auxiliary(width: int = 64, **options: Any) -> Auxiliary:
    def save(folder: Path, features: torch.Tensor, mos: torch.Tensor) -> None:
        torch.save((features, mos), folder / "known.pt")

    settings = {"pooling": "last_hidden", "weight": WEIGHT, "schedule": "constant", "learning_rate": 1e-2}
    return Auxiliary(Regression(width), save=save, **{**settings, **options})


def features_by_stock_forward(model: Any, inputs: dict[str, Any], pooling: str) -> torch.Tensor:
    hidden = model(**inputs, output_hidden_states=True).hidden_states
    if pooling == "last_hidden":
        return hidden[-1][:, -1]
    is_image = (inputs["input_ids"] == model.config.image_token_id)[..., None]
    return (hidden[0] * is_image).sum(1) / is_image.sum(1)


def gradients(model: nn.Module, head: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    for module in (model, head):
        module.zero_grad()
    loss.backward()
    named = [*model.named_parameters(), *((f"head.{name}", weight) for name, weight in head.named_parameters())]
    return {name: weight.grad.clone() for name, weight in named if weight.grad is not None}


@pytest.mark.parametrize("pooling", ["last_hidden", "vision"])
@pytest.mark.parametrize(("family", "shared"), [("qwen3_vl", True), ("fast_vlm", True), ("qwen3_vl", False)])
def test_joint_gradient_is_the_sum_of_two_backward_passes(family: str, shared: bool, pooling: str) -> None:
    model, inputs = build(family).train(), prompts(family)
    batch = rollout(inputs, *completions())
    batch[ROWS_FIELD] = torch.tensor([2, 0, 1]).repeat_interleave(4)
    mos_of_rows = torch.tensor([1.5, 4.5, 3.0])
    if shared:
        torch.manual_seed(0)
        (joint,) = split_by_prompt(batch, 1)
    else:  # TRL's own path: a row of features for each completion, in any order
        order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
        sizes = inputs["image_grid_thw"].prod(-1).repeat_interleave(4).tolist()
        pixels = batch["pixel_values"].split(sizes)
        joint = {name: value[order] for name, value in batch.items() if torch.is_tensor(value) and value.ndim}
        joint |= {"pixel_values": torch.cat([pixels[row] for row in order]), "num_images": [1] * 12}
        joint["num_items_in_batch"] = batch["num_items_in_batch"]

    trainer = bare(ScoreGRPOTrainer, model)
    trainer.why_not_shared = None if shared else "asked for"
    trainer.state = SimpleNamespace(global_step=1, max_steps=4)
    settings = {"report_to": [], "max_grad_norm": 1.0, "learning_rate": 1e-3, "weight_decay": 0.0}
    vars(trainer.args).update(settings, fp16=False, use_liger_kernel=False)
    trainer.train_dataset = Dataset.from_dict({"mos": mos_of_rows.tolist()})
    trainer.head = HeadTraining(auxiliary(32, pooling=pooling, schedule="cosine"), trainer, trainer.guard)
    trainer.current_gradient_accumulation_steps = 2
    head = trainer.head.head
    found = gradients(model, head, trainer.compute_loss(model, joint))
    assert len(head.seen) == 1 and len(head.seen[0][0]) == 3, "a row for each image, not one for each completion"

    trainer.head = None
    policy = gradients(model, head, trainer.compute_loss(model, joint))
    weight = WEIGHT * (1 + math.cos(math.pi / 4)) / 2 / 2
    features = features_by_stock_forward(model, inputs, pooling)
    other = gradients(model, head, weight * head(features, mos_of_rows[torch.tensor([2, 0, 1])]))
    assert "head.reading.weight" in other and len(other) > 5
    largest = max(gradient.norm().item() for gradient in policy.values())
    for name, gradient in found.items():
        expected = policy.get(name, 0) + other.get(name, 0)
        assert (gradient - expected).norm() <= 1e-4 * max(expected.norm().item(), 1e-3 * largest), name
    changed = [name for name, gradient in other.items() if gradient.norm() > 1e-3 * largest and "head" not in name]
    assert len(changed) > 1, "the head's loss is meant to reach the model"


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def tiny_fastvlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mriqa.embedded import build_tiny_fastvlm

    return build_tiny_fastvlm(tmp_path_factory.mktemp("tiny"), image_size=64, grid=2, hidden_size=64)


def exact_trainer(model_path: Path, rows: list, folder: Path, head: Auxiliary, per_device_batch: int = 6) -> Any:
    """One step of the exact estimator on all six images, by plain gradient descent."""
    model, processor = load_vlm(model_path, device="cpu")
    model.model.vision_tower.requires_grad_(False)
    rewards, answer_format = [mriqa.reward.load("margin")], load_format("tiny")
    config = ScoreGRPOConfig(
        output_dir=str(folder),
        max_steps=1,
        images_per_batch=per_device_batch,
        gradient_checkpointing=False,
        beta=0.0,
        optim="sgd",
        learning_rate=0.05,
        max_grad_norm=0.0,
        eval_strategy="no",
        eval_on_start=False,
        load_best_model_at_end=False,
        save_steps=1,
        disable_tqdm=True,
    )
    return ExactScoreTrainer(
        model=model,
        processing_class=processor,
        args=config,
        reward_table=mriqa.reward.reward_table(rewards),
        train_dataset=policy_dataset(rows, answer_format),
        answer_format=answer_format,
        auxiliary=head,
    )


def ordinal(rows: list, width: int = 64) -> Auxiliary:
    head = AuxiliaryHead(width, torch.tensor([row.mos for row in rows]), gather=True)
    return dataclasses.replace(auxiliary(), head=head, weight=5.0)


def test_joint_gradient_of_the_exact_estimator(tiny_fastvlm: Path, rows: list, tmp_path: Path) -> None:
    trainer = exact_trainer(tiny_fastvlm, rows, tmp_path, ordinal(rows))
    model, head = trainer.model.train(), trainer.head.head
    trainer.current_gradient_accumulation_steps, trainer.state.max_steps = 1, 1
    inputs_of_rows = [trainer.train_dataset[row] for row in (3, 0, 5, 4, 1, 2)]
    (batch,) = trainer.comparison_set(inputs_of_rows)
    found = gradients(model, head, trainer.compute_loss(model, batch))
    policy = gradients(model, head, trainer.policy_loss(model, batch))
    features = features_by_stock_forward(model, process_prompts(trainer.processor, inputs_of_rows), "last_hidden")
    mos = torch.tensor([row["mos"] for row in inputs_of_rows])
    other = gradients(model, head, 5.0 * head(features, mos))
    reached = [name for name in policy if name in other]
    assert len(reached) > 5 and "head.projection.weight" in other
    for name, gradient in found.items():
        expected = policy.get(name, 0) + other.get(name, 0)
        assert (gradient - expected).norm() <= 1e-4 * max(expected.norm().item(), 1e-4), name


def test_two_processes_that_gather_train_as_one(tiny_fastvlm: Path, rows: list, tmp_path: Path) -> None:
    """Six images at once, and three on each of two processes: the same step of the model and of the head."""
    manifest = rows[0].image.parent / "auxiliary.jsonl"
    write_manifest(rows, manifest)
    exact_trainer(tiny_fastvlm, rows, tmp_path / "one", ordinal(rows)).train()
    script = [
        "import sys; from pathlib import Path",
        f"sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1] / 'helpers')!r}]",
        "from test_auxiliary import exact_trainer, ordinal; from mriqa.manifest import read_manifest",
        f"rows = read_manifest({str(manifest)!r})",
        f"exact_trainer(Path({str(tiny_fastvlm)!r}), rows, Path({str(tmp_path / 'two')!r}), ordinal(rows), 3).train()",
    ]
    (tmp_path / "two.py").write_text("\n".join(script))
    finished = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29537"]
        + [str(tmp_path / "two.py")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    initial = load_file(tiny_fastvlm / "model.safetensors")
    for file in ("model.safetensors", "auxiliary.safetensors"):
        one, two = (load_file(tmp_path / name / "checkpoint-1" / file) for name in ("one", "two"))
        assert one.keys() == two.keys()
        moved = [name for name in one if name not in initial or not torch.equal(one[name], initial[name])]
        assert len(moved) >= 5
        for name in moved:
            # A first step of Adam is the gradient's sign, which rounding may turn where there is next to none.
            assert (one[name] - two[name]).abs().float().mean() <= 1e-3 * one[name].abs().float().mean() + 1e-7, name


def test_the_head_learns_and_so_does_the_model(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    """Features of all four images a step: on the first, those of a stock forward; the policy's weights differ."""
    plain = make_trainer(tiny_model, rows, tmp_path / "plain", max_steps=4, save_strategy="no")
    plain.train()
    options = {"max_steps": 4, "save_strategy": "no", "logging_steps": 1, "per_device_train_batch_size": 4}
    joint = make_trainer(
        tiny_model, rows, tmp_path / "joint", auxiliary=auxiliary(schedule="linear", weight=2.0), **options
    )
    head_before = copy.deepcopy(joint.head.head.state_dict())
    joint.train()
    assert not same(weights(plain), weights(joint)) and not same(head_before, joint.head.head.state_dict())
    log = [entry for entry in joint.state.log_history if "aux/loss" in entry]
    assert [entry["aux/weight"] for entry in log] == pytest.approx([2.0, 1.5, 1.0, 0.5])
    assert all(entry["aux/grad_norm"] > 0 for entry in log)
    mos = {round(row.mos, 3) for row in rows}
    for features, seen in joint.head.head.seen:
        assert features.shape == (2, 64) and {round(each, 3) for each in seen.tolist()} < mos

    folder = joint.save_final_model(tmp_path / "model")
    features, known = torch.load(folder / "known.pt", weights_only=True)
    assert known.tolist() == pytest.approx([row.mos for row in rows])
    joint.model.eval()
    inputs = process_prompts(joint.processor, [joint.train_dataset[row] for row in range(6)])
    with torch.no_grad():
        expected = features_by_stock_forward(joint.model, inputs, "last_hidden")
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert not (folder / "auxiliary.safetensors").exists()


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_resumed_training_ends_with_the_same_head(tiny_model: Path, rows: list, tmp_path: Path, lora: bool) -> None:
    """Interrupted within a rollout; the best checkpoint, not the last, gives the final head."""
    srcc_at = {2: 0.1, 4: 0.2, 6: 0.9, 8: 0.3}

    def trainer(name: str) -> Any:
        options = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "load_best_model_at_end": True}
        if lora:
            from peft import LoraConfig

            options["peft_config"] = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
        validation = Validation(
            rows, lambda *_: [row.mos for row in rows], {"srcc": lambda *_: srcc_at[made.state.global_step]}
        )
        made = make_trainer(
            tiny_model,
            rows,
            tmp_path / name,
            max_steps=8,
            num_iterations=2,
            lr_scheduler_type="cosine",
            validation=validation,
            auxiliary=auxiliary(schedule="cosine"),
            **options,
        )
        return made

    whole = trainer("whole")
    whole.train()
    trainer("halved").train()
    for step in (4, 6, 8):
        shutil.rmtree(tmp_path / "halved" / f"checkpoint-{step}", ignore_errors=True)
    resumed = trainer("halved")
    resumed.train(resume_from_checkpoint=find_checkpoint(tmp_path / "halved", "auto"))
    assert resumed.state.best_global_step == whole.state.best_global_step == 6
    for name in ("checkpoint-6", "checkpoint-8"):
        for file in ("auxiliary.safetensors", "adapter_model.safetensors" if lora else "model.safetensors"):
            assert same(load_file(tmp_path / "whole" / name / file), load_file(tmp_path / "halved" / name / file))
    best = load_file(tmp_path / "whole" / "checkpoint-6" / "auxiliary.safetensors")
    last = load_file(tmp_path / "whole" / "checkpoint-8" / "auxiliary.safetensors")
    found = {f"head.{name}": value for name, value in resumed.head.head.state_dict().items()}
    assert found and all(torch.equal(value, best[name]) for name, value in found.items())
    assert not torch.equal(best["head.reading.weight"], last["head.reading.weight"])


def test_checkpoints_without_or_of_another_head_are_refused(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    make_trainer(tiny_model, rows, tmp_path, max_steps=1, save_steps=1).train()
    resumed = make_trainer(tiny_model, rows, tmp_path, auxiliary=auxiliary())
    with pytest.raises(CheckpointError, match="by a run without an auxiliary head.*leave out --aux"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    shutil.rmtree(tmp_path / "checkpoint-1")
    make_trainer(tiny_model, rows, tmp_path, max_steps=1, save_steps=1, auxiliary=auxiliary()).train()
    other = auxiliary()
    other.head.more = nn.Linear(2, 2)
    resumed = make_trainer(tiny_model, rows, tmp_path, auxiliary=other)
    with pytest.raises(CheckpointError, match="holds another head than this run's"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


@pytest.mark.parametrize("broken", ["features", "gradient"])
def test_what_is_not_finite_stops_training(tiny_model: Path, rows: list, tmp_path: Path, broken: str) -> None:
    trainer = make_trainer(tiny_model, rows, tmp_path, auxiliary=auxiliary())
    before, head = weights(trainer), copy.deepcopy(trainer.head.head.state_dict())
    if broken == "features":
        compute = trainer.head.loss
        trainer.head.loss = lambda features, inputs: compute(features * math.nan, inputs)
        said = "The loss became NaN at step 1 on images i., i.: training stopped"
    else:
        trainer.head.head.reading.weight.register_hook(lambda gradient: gradient * math.inf)
        said = "The gradient of the auxiliary head became NaN or infinite at step 1: training stopped"
    with pytest.raises(NotFiniteError, match=said):
        trainer.train()
    assert same(before, weights(trainer)) and same(head, trainer.head.head.state_dict())


def test_refusals() -> None:
    config = SimpleNamespace(fp16=False, use_liger_kernel=False)
    check_auxiliary(config, "vision", 0.1, "linear", 1e-3)
    for settings, said in (
        (("mean", 0.1, "linear", 1e-3), "aux_features is one of last_hidden, vision, not 'mean'"),
        (("vision", 0.1, "square", 1e-3), "aux_schedule is one of constant, linear, cosine, not 'square'"),
        (("vision", -0.1, "linear", 1e-3), "aux_weight must be a finite number above 0, not -0.1"),
        (("vision", math.nan, "linear", 1e-3), "aux_weight"),
        (("vision", 0.1, "linear", 0.0), "aux_learning_rate must be"),
    ):
        with pytest.raises(SettingsError, match=said):
            check_auxiliary(config, *settings)
    for name in ("fp16", "use_liger_kernel"):
        with pytest.raises(SettingsError, match=f"leave out --{name} or --aux"):
            check_auxiliary(SimpleNamespace(**{**vars(config), name: True}), "vision", 0.1, "linear", 1e-3)
