"""Cached towers against the same models without a cache, and how often their towers run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny_families
import torch
from counted_passes import counted

from mriqa.frozen.cached_tower import cache_towers, cache_towers_like, image_digest, vision_towers
from mriqa.frozen.store import FeatureStore
from mriqa.training.vision import freeze_vision

FAMILIES = (*tiny_families.FAMILIES, "llava")


def build(family: str) -> tuple[Any, dict[str, Any]]:
    """A tiny model with a frozen tower, and inputs of three prompts with different images."""
    if family != "llava":
        model, inputs = tiny_families.build(family), tiny_families.prompts(family)
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


def logits_and_gradients(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    logits = model(**inputs, use_cache=False).logits
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return logits, list(torch.autograd.grad(logits.square().mean(), trained, allow_unused=True))


def is_close(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    """Within 1e-5 of the largest logit, some 80 units of its last place.

    A store's tower runs without gradients, where the convolutions of the embedded one are another kernel, and a
    convolution's output lies differently in memory. Both kernels of it are 3e-5 off the same model in float64, whose
    logits reach 6 and agree with and without gradients to the last bit: it is rounding and nothing else.
    """
    return bool((logits - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_the_tower_which_sees_each_image_once(family: str, tmp_path: Path) -> None:
    model, inputs = build(family)
    expected, expected_gradients = logits_and_gradients(model, inputs)
    seen = counted(model)
    cache_towers(model, FeatureStore(tmp_path))

    first = model(**inputs, use_cache=False).logits
    for _ in range(2):
        logits, gradients = logits_and_gradients(model, inputs)
        assert torch.equal(logits, first)
        assert is_close(logits, expected)
        for ours, theirs in zip(gradients, expected_gradients, strict=True):
            assert (ours is None and theirs is None) or (ours - theirs).norm() <= 1e-5 * theirs.norm()
    with torch.no_grad():
        generated = model.generate(**inputs, max_new_tokens=2, do_sample=False)
        assert generated.shape[1] == inputs["input_ids"].shape[1] + 2
    assert seen == [3]

    # Another process finds them on disk, and computes a new picture only, though it comes twice.
    other, _ = build(family)
    seen = counted(other)
    cache_towers(other, FeatureStore(tmp_path))
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
    assert is_close(other(**changed).logits, build(family)[0](**changed).logits)
    assert seen == [1]


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_other_weights_and_other_precision_miss(family: str, tmp_path: Path) -> None:
    model, inputs = build(family)
    cache = FeatureStore(tmp_path)
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
    cache_towers(model, FeatureStore(tmp_path))
    expected = model(**inputs).logits
    cache_towers_like(model, reference)
    assert torch.equal(reference(**inputs).logits, expected) and seen == [3]


def test_a_trained_tower_is_left_alone(tmp_path: Path) -> None:
    model = tiny_families.build("qwen3_vl")
    forward = vision_towers(model)[0].forward
    cache_towers(model, FeatureStore(tmp_path))
    assert vision_towers(model)[0].forward == forward


def test_what_was_computed_elsewhere_is_found(tmp_path: Path) -> None:
    model, inputs = build("fast_vlm")
    expected = model(**inputs).logits
    tower = vision_towers(model)[0]
    with torch.no_grad():
        features_BCgg = tower(inputs["pixel_values"]).last_hidden_state
    seen = counted(model)
    (cached,) = cache_towers(model, FeatureStore(tmp_path))
    for pixels_1CHW, features_1Cgg in zip(inputs["pixel_values"].split(1), features_BCgg.split(1)):
        cached.keep(image_digest({"pixel_values": pixels_1CHW}), {"last_hidden_state": features_1Cgg.contiguous()})
    assert is_close(model(**inputs).logits, expected) and seen == []
