"""The random Qwen3-VL: small, whole, and loadable like the real one."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from mriqa.answers import load_format
from mriqa.embedded import build_tiny_qwen3_vl
from mriqa.scoring.prompts import prompt_batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny") / "model", seed=3)


def test_reloads_through_the_auto_classes_and_takes_images(folder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True)
    processor = AutoProcessor.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3VLForConditionalGeneration"
    assert sum(weight.numel() for weight in model.parameters()) <= 1_000_000

    inputs = prompt_batch(processor, load_format("thinking"), [Image.new("RGB", (640, 360)), Image.new("RGB", (9, 9))])
    pixels_per_image = inputs["image_grid_thw"][:, 1:].prod(1) * 16**2
    assert (pixels_per_image >= 64**2).all() and (pixels_per_image <= 96**2).all()
    image_tokens = (inputs["input_ids"] == model.config.image_token_id).sum(1)
    assert torch.equal(image_tokens, pixels_per_image // 32**2)
    assert torch.isfinite(model(**inputs).logits).all()


@pytest.mark.parametrize("mode", ["non_thinking", "thinking"])
def test_every_digit_is_a_token_and_text_comes_back(folder, mode):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    answer = load_format(mode).format(3.52)
    tokens = tokenizer.tokenize(answer)
    assert [token for token in tokens if any(map(str.isdigit, token))] == ["3", "5", "2"]
    ids = tokenizer.encode(answer + "<|im_end|>", add_special_tokens=False)
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == answer
    assert tokenizer.decode(tokenizer.encode("naïve 漢字 🙂")) == "naïve 漢字 🙂"


def test_the_seed_decides_the_weights(folder, tmp_path):
    from safetensors.torch import load_file

    def same(seed: int) -> bool:
        other = load_file(build_tiny_qwen3_vl(tmp_path / str(seed), seed=seed) / "model.safetensors")
        ours = load_file(folder / "model.safetensors")
        assert other.keys() == ours.keys()
        return all(torch.equal(other[name], ours[name]) for name in ours)

    assert same(3) and not same(4)
