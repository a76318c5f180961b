"""Features out of a pass that reads answers too, against transformers' ordinary forward of each prompt alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_families import FAMILIES, IMAGE, build, completions, prompts

from mriqa.shared_prefix import Suffix, prompt_features, suffix_log_probs


def alone(model: Any, inputs: dict[str, Any], row: int, pooling: str) -> torch.Tensor:
    """The feature of one prompt by its definition, from all hidden states of a pass without padding."""
    real = inputs["attention_mask"][row].bool()
    ids = inputs["input_ids"][row][real][None]
    one = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    one["pixel_values"] = inputs["pixel_values"][row : row + 1]
    if "pixel_attention_mask" in inputs:
        one["pixel_attention_mask"] = inputs["pixel_attention_mask"][row : row + 1]
    if "image_grid_thw" in inputs:
        one["image_grid_thw"] = inputs["image_grid_thw"][row : row + 1]
        one["pixel_values"] = inputs["pixel_values"].split(inputs["image_grid_thw"].prod(-1).tolist())[row]
        one["mm_token_type_ids"] = (ids == IMAGE).long()
    hidden = model(**one, output_hidden_states=True).hidden_states
    if pooling == "last_hidden":
        return hidden[-1][0, -1]
    given = [vector for vector, token in zip(hidden[0][0], ids[0].tolist(), strict=True) if token == IMAGE]
    return sum(given) / len(given)


@pytest.mark.parametrize("pooling", ["last_hidden", "vision"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_features_are_those_of_each_prompt_alone(family: str, pooling: str) -> None:
    model, inputs = build(family, dtype=torch.float64), prompts(family, torch.float64)
    with prompt_features(model, pooling, inputs["input_ids"].shape[1]) as seen:
        suffix_log_probs(model, inputs, Suffix.chains(*completions()))
    expected_ND = torch.stack([alone(model, inputs, row, pooling) for row in range(3)])
    assert (expected_ND[0] - expected_ND[1]).norm() > 1e-2
    torch.testing.assert_close(seen.rows_RD.double(), expected_ND, rtol=0, atol=1e-6)

    model(**inputs)  # the hooks are gone
    torch.testing.assert_close(seen.rows_RD.double(), expected_ND, rtol=0, atol=1e-6)


def test_refusals() -> None:
    model = build("fast_vlm")
    with pytest.raises(ValueError, match="one of last_hidden, vision, not 'mean'"), prompt_features(model, "mean", 3):
        pass
    with prompt_features(model, "vision", 3) as seen, pytest.raises(RuntimeError, match="No pass of the model"):
        _ = seen.rows_RD
