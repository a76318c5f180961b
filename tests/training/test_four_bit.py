"""4-bit weights are asked for in bitsandbytes' form, and refused with one sentence where they can't be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mriqa.errors import SettingsError
from mriqa.training import four_bit as module
from mriqa.training.config import RunArguments
from mriqa.training.four_bit import four_bit, settings
from mriqa.training.preflight.model_shape import BYTES_OF_4BIT, shape_of


def test_what_keeps_it_from_working_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert four_bit(RunArguments()) is None
    with pytest.raises(SettingsError, match="--lora_r 64"):
        four_bit(RunArguments(load_in_4bit=True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="needs a GPU with CUDA"):
        four_bit(RunArguments(load_in_4bit=True, lora_r=8))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"mriqa\[quantised\]"):
        four_bit(RunArguments(load_in_4bit=True, lora_r=8))


def test_settings_are_those_of_the_paper() -> None:
    found: Any = settings("bfloat16")
    assert found.load_in_4bit and found.bnb_4bit_quant_type == "nf4" and found.bnb_4bit_use_double_quant
    assert found.bnb_4bit_compute_dtype == torch.bfloat16
    assert {"visual", "lm_head"} <= set(found.llm_int8_skip_modules)


def test_its_weights_are_counted(tiny_model: Path) -> None:
    whole = shape_of(RunArguments(model=str(tiny_model), lora_r=4, freeze_vision=True))
    quarter = shape_of(RunArguments(model=str(tiny_model), lora_r=4, freeze_vision=True, load_in_4bit=True))
    text = whole.counted.get_base_model().get_decoder()
    linear = sum(each.weight.numel() for name, each in text.named_modules() if name.endswith("base_layer"))
    assert whole.weights - quarter.weights == pytest.approx(linear * (4 - BYTES_OF_4BIT), rel=1e-6)
