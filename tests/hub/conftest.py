"""A finished run with a tiny model, and the Hub's stand-in in the place of the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished_run import make_run
from hub_stand_in import TOKEN, StandIn
from typer.testing import CliRunner

from mriqa.answers import load_format
from mriqa.cli import app
from mriqa.models import save_scoring_settings


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_sentence(result) -> str:
    """The error of a command that refused: exit code 2, one line that says so, no traceback."""
    assert result.exit_code == 2, (result.output, result.exception)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and "Traceback" not in result.output
    return errors[0]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    from mriqa.embedded import build_tiny_qwen3_vl

    return build_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def run(tmp_path, tiny) -> Path:
    return make_run(tmp_path / "run", tiny)


@pytest.fixture
def adapter(tmp_path, tiny) -> Path:
    """A run that trained LoRA adapters; PEFT names the folder that the base model was loaded from."""
    import torch
    from peft import LoraConfig, get_peft_model

    from mriqa.models import load_vlm

    base, processor = load_vlm(tiny, device="cpu")
    torch.manual_seed(0)
    options = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(base, options).save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    save_scoring_settings(tmp_path / "adapter", load_format("non_thinking"))
    return make_run(tmp_path / "lora", tmp_path / "adapter", lora_r=4)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, with a token that it takes; huggingface_hub waits for nothing between its attempts."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    stand_in = StandIn()
    monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
    template = stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield stand_in
    stand_in.close()
