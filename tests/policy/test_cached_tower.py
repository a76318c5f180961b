"""Cached towers against the same models without a cache, and how often their towers run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny_families
import torch

import mriqa.reward
from mriqa.answers import load_format
from mriqa.embedded import build_tiny_qwen3_vl
from mriqa.policy.cached_tower import cache_towers, cache_towers_like
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.policy.training_sets import policy_dataset
from mriqa.policy.vision import freeze_vision, vision_towers
from mriqa.tower_cache import TowerCache
from mriqa.training import runs
from mriqa.training.config import RunArguments, ScoreGRPOConfig

FAMILIES = (*tiny_families.FAMILIES, "llava")


def build(family: str) -> tuple[Any, dict[str, Any]]:
    """A tiny model with a frozen tower, and inputs of three prompts with different images."""
    if family != "llava":
        model, inputs = tiny_families.build(family), tiny_families.prompts(family)
        if family == "fast_vlm":
            inputs["pixel_values"] = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    else:
        from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

        vision = CLIPVisionConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=8, patch_size=4
        )
        config = LlavaConfig(
            vision_config=vision, text_config=LlamaConfig(**tiny_families.TEXT), image_token_index=tiny_families.IMAGE
        )
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config).eval()
        inputs = tiny_families.prompts("smolvlm")  # four image tokens each
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        inputs["pixel_values"] = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    freeze_vision(model)
    return model, inputs


def counted(model: Any) -> list[int]:
    """Images that each later pass of the tower takes; to be called before the cache is put there."""
    (tower,) = vision_towers(model)
    forward, seen = tower.forward, []

    def count(pixels: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        grid = kwargs.get("grid_thw")
        seen.append(len(pixels if grid is None else grid))
        return forward(pixels, *args, **kwargs)

    tower.forward = count
    return seen


def logits_and_gradients(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    logits = model(**inputs, use_cache=False).logits
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return logits, list(torch.autograd.grad(logits.square().mean(), trained, allow_unused=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_the_tower_which_sees_each_image_once(family: str, tmp_path: Path) -> None:
    model, inputs = build(family)
    expected, expected_gradients = logits_and_gradients(model, inputs)
    seen = counted(model)
    cache_towers(model, TowerCache(tmp_path))

    first = model(**inputs, use_cache=False).logits
    for _ in range(2):
        logits, gradients = logits_and_gradients(model, inputs)
        assert torch.equal(logits, first)
        assert (logits - expected).abs().max() < 1e-5  # a convolution's output lies differently in memory
        for ours, theirs in zip(gradients, expected_gradients, strict=True):
            assert (ours is None and theirs is None) or (ours - theirs).norm() <= 1e-5 * theirs.norm()
    with torch.no_grad():
        generated = model.generate(**inputs, max_new_tokens=2, do_sample=False)
        assert generated.shape[1] == inputs["input_ids"].shape[1] + 2
    assert seen == [3]

    # Another process finds them on disk, and computes a new picture only, though it comes twice.
    other, _ = build(family)
    seen = counted(other)
    cache_towers(other, TowerCache(tmp_path))
    assert torch.equal(other(**inputs, use_cache=False).logits, first)
    assert seen == []
    changed = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    if family.startswith("qwen"):
        rows = inputs["image_grid_thw"].prod(-1).tolist()
        changed["pixel_values"][: rows[0]] += 0.5
        changed["pixel_values"][-rows[2] :] = changed["pixel_values"][: rows[0]]
    else:
        changed["pixel_values"][0] += 0.5
        changed["pixel_values"][2] = changed["pixel_values"][0]
    assert (other(**changed).logits - build(family)[0](**changed).logits).abs().max() < 1e-5
    assert seen == [1]


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_other_weights_and_other_precision_miss(family: str, tmp_path: Path) -> None:
    model, inputs = build(family)
    cache = TowerCache(tmp_path)
    plain = copy.deepcopy(model)
    seen = counted(model)
    cache_towers(model, cache)
    model(**inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(**inputs).logits, plain(**inputs).logits)
    assert seen == [3, 3]
    for changed in (model, plain):
        with torch.no_grad():
            next(vision_towers(changed)[0].parameters()).mul_(1.01)
    assert torch.equal(model(**inputs).logits, plain(**inputs).logits)
    assert seen == [3, 3, 3]


def test_the_reference_model_shares_the_cache(tmp_path: Path) -> None:
    model, inputs = build("qwen3_vl")
    reference = copy.deepcopy(model).requires_grad_()  # as TRL loads it
    seen = counted(reference)
    cache_towers_like(model, reference)
    reference(**inputs)
    assert seen == [3], "there is no cache yet"
    cache_towers(model, TowerCache(tmp_path))
    expected = model(**inputs).logits
    cache_towers_like(model, reference)
    assert torch.equal(reference(**inputs).logits, expected) and seen == [3]


def test_a_trained_tower_is_left_alone(tmp_path: Path) -> None:
    model = tiny_families.build("qwen3_vl")
    forward = vision_towers(model)[0].forward
    cache_towers(model, TowerCache(tmp_path))
    assert vision_towers(model)[0].forward == forward


def test_a_whole_run_sees_each_image_once(tmp_path: Path, rows: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollouts, reference passes and updates of two epochs: six images, and the weights of a run without a cache."""
    answer_format = load_format("non_thinking")
    build_tiny_qwen3_vl(tmp_path / "model")

    def trained(vision_cache: str) -> tuple[dict[str, torch.Tensor], list[int]]:
        arguments = RunArguments(model=str(tmp_path / "model"), freeze_vision=True, vision_cache=vision_cache)
        passes: list[list[int]] = []

        def freeze_and_count(model: Any) -> None:
            freeze_vision(model)
            passes.append(counted(model))

        monkeypatch.setattr(runs, "freeze_vision", freeze_and_count)
        model, processor = runs.load_policy(arguments)
        config = ScoreGRPOConfig(
            output_dir=str(tmp_path / "run"),
            num_train_epochs=2,
            per_device_train_batch_size=6,
            num_generations=2,
            max_completion_length=4,
            gradient_checkpointing=False,
            learning_rate=1e-3,
            beta=0.1,
            eval_strategy="no",
            eval_on_start=False,
            load_best_model_at_end=False,
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = ScoreGRPOTrainer(
            model=model,
            processing_class=processor,
            args=config,
            reward_funcs=[mriqa.reward.load("format"), by_length],
            train_dataset=policy_dataset(rows, answer_format),
            answer_format=answer_format,
        )
        trainer.train()
        return trainer.model.state_dict(), passes[0]

    plain, passes = trained("none")
    assert sum(passes) > 12
    cached, passes = trained(str(tmp_path / "cache"))
    assert sum(passes) == 6
    for name, weight in plain.items():
        assert (cached[name] - weight).abs().max() < 1e-4, name


def by_length(completions: list[Any], **_: Any) -> list[float]:
    return [len(completion[0]["content"]) / 10 for completion in completions]
