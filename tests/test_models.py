"""Loading models: adapters, settings, and one clear sentence for everything that is no model."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch

from mriqa.answers import load_format
from mriqa.embedded import build_tiny_qwen3_vl
from mriqa.models import ModelError, load_scoring_settings, load_vlm, model_folder, save_scoring_settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "copy")


def test_loads_in_eval_mode_as_float32_on_cpu(tiny):
    model, processor = load_vlm(tiny, device="cpu")
    assert not model.training and model.dtype == torch.float32 and model.device.type == "cpu"
    assert processor.tokenizer.eos_token == "<|im_end|>"
    assert load_vlm(str(tiny), dtype="bfloat16", device="cpu")[0].dtype == torch.bfloat16


def test_an_adapter_is_merged_into_its_base(tiny, tmp_path):
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    base, processor = load_vlm(tiny, device="cpu")
    torch.manual_seed(0)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.eval().save_pretrained(tmp_path / "adapter")
    ids = processor.tokenizer("How good does it look?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
        merged, _ = load_vlm(tmp_path / "adapter", device="cpu")
        plain, _ = load_vlm(tiny, device="cpu")
        assert (merged(input_ids=ids).logits - expected).abs().max() < 1e-5
        assert (plain(input_ids=ids).logits - expected).abs().max() > 1e-3

    weights_file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(weights_file)
    weights.pop(next(iter(weights)))
    save_file(weights, weights_file)
    with pytest.raises(ModelError, match="does not fit its base model"):
        load_vlm(tmp_path / "adapter", device="cpu")
    weights_file.rename(weights_file.with_suffix(".bin"))
    with pytest.raises(ModelError, match="pickled weights are not loaded"):
        load_vlm(tmp_path / "adapter", device="cpu")


def test_scoring_settings_come_back(tiny, copy):
    views = {"size": 672, "crop": 448, "count": 5}
    save_scoring_settings(copy, load_format("thinking"), views)
    settings = load_scoring_settings(copy)
    assert (settings.answer_format, settings.views) == (load_format("thinking"), views)
    assert load_scoring_settings(tiny) is None
    (copy / "mriqa.json").write_text('{"answer_format": {"name": "half"}}')
    with pytest.raises(ModelError, match="is not a scoring settings file"):
        load_scoring_settings(copy)


def test_names_that_are_no_model(tmp_path):
    (tmp_path / "file").touch()
    for path, sentence in [
        (tmp_path / "missing", "no model folder"),
        ("no/such-model", "could be fetched from the hub"),
        ("missing", "no model folder"),
        (tmp_path / "file", "is a file"),
        (tmp_path, "is not a saved model"),
    ]:
        with pytest.raises(ModelError, match=sentence):
            load_vlm(path)


def test_default_is_the_model_inside_the_package_unless_there_is_such_a_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mriqa.models.default_model_folder", lambda: tmp_path / "inside")
    with pytest.raises(ModelError, match="lacks the model that comes with mriqa"):
        model_folder("default")
    shutil.copytree(tiny, tmp_path / "inside")
    assert model_folder("default") == tmp_path / "inside"
    shutil.copytree(tiny, tmp_path / "default")
    assert model_folder("default").resolve() == tmp_path / "default"


def test_devices_that_are_not_there(tiny):
    with pytest.raises(ModelError, match="no device 'gpu'"):
        load_vlm(tiny, device="gpu")
    with pytest.raises(ModelError, match="not available here"):
        load_vlm(tiny, device="cuda:99")


def test_broken_weights_are_refused(copy):
    from safetensors.torch import load_file, save_file

    weights_file = copy / "model.safetensors"
    whole = weights_file.read_bytes()
    weights_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="could not be loaded: SafetensorError"):
        load_vlm(copy)

    weights_file.write_bytes(whole)
    weights = load_file(weights_file)
    weights.pop("model.language_model.layers.0.mlp.up_proj.weight")
    save_file(weights, weights_file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights .*up_proj"):
        load_vlm(copy)

    weights_file.unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights are not loaded"):
        load_vlm(copy)


def test_code_that_comes_with_a_model_is_not_run(copy):
    marker = copy / "it_ran"
    (copy / "processing_evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    (copy / "modeling_evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoModelForImageTextToText": "modeling_evil.Evil"}}
    config["auto_map"] |= {"AutoConfig": "modeling_evil.Evil", "AutoProcessor": "processing_evil.Evil"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "processor_config.json").write_text(json.dumps({"auto_map": {"AutoProcessor": "processing_evil.Evil"}}))
    with pytest.raises(ModelError, match="--trust-remote-code"):
        load_vlm(copy)
    assert not marker.exists()


def test_a_language_model_without_eyes_is_refused(tiny, tmp_path):
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = Qwen2Config(vocab_size=300, num_attention_heads=1, num_key_value_heads=1, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is not a vision-language model"):
        load_vlm(tmp_path)
