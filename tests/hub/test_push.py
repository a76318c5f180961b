"""Pushing to a stand-in for the Hub: what goes there, what does not, and one sentence for whatever goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from finished_run import make_run
from hub_stand_in import TOKEN, Repo
from huggingface_hub import ModelCard, constants
from PIL import Image

from mriqa import Scorer
from mriqa.hub import HubError, merged_model, plan_upload, read_run
from mriqa.models import load_vlm

from .conftest import invoke, one_sentence

REPO = "you/scorer"
MODEL_FILES = {"model.safetensors", "config.json", "generation_config.json", "mriqa.json", "processor_config.json",
               "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}  # fmt: skip
SECRET = "hf_SECRET"


def test_what_is_sent_is_what_was_listed(run, hub):
    listed = invoke("push", run, "--repo", REPO, "--dry-run")
    assert listed.exit_code == 0 and hub.requests == []
    done = invoke("push", run, "--repo", REPO)
    assert done.exit_code == 0, done.output
    repo = hub.repos[REPO]
    assert repo.private and repo.commits == 1
    assert set(repo.files) == MODEL_FILES | {"README.md", "scatter.png"}
    for name in repo.files:
        assert f" {name} " in listed.stdout
    assert all(repo.files[name] == (run / "model" / name).read_bytes() for name in MODEL_FILES)
    assert f'from_pretrained("{REPO}")' in repo.files["README.md"].decode()
    for withheld in ("model/optimizer.pt", "model/conord/", "checkpoint-20/", ".env", "resolved_config.yaml"):
        assert withheld in listed.stderr
    sent = b"".join(body for _, _, body in hub.requests)
    assert SECRET.encode() not in sent and TOKEN.encode() not in sent
    assert TOKEN not in listed.output + done.output

    # Nothing that is there already goes up again.
    hub.requests.clear()
    assert invoke("push", run, "--repo", REPO).exit_code == 0
    assert hub.asked("PUT") == []


def test_pushed_by_one_process_and_scored_by_another(run, hub, tmp_path):
    """As users do it: the endpoint and the token from the environment, the model by its name on the Hub."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
                   "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}  # fmt: skip

    def mriqa(*arguments: object) -> None:
        command = [sys.executable, "-m", "mriqa", *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0 and TOKEN not in done.stdout + done.stderr, done.stderr

    mriqa("push", run, "--repo", REPO)
    mriqa("score", "photo.png", "--model", REPO, "--out", "pulled.jsonl", "--device", "cpu")
    pulled = json.loads((tmp_path / "pulled.jsonl").read_text())
    (local,) = Scorer.from_pretrained(run / "model", device="cpu").score([tmp_path / "photo.png"])
    assert pulled["score"] == pytest.approx(local.score, abs=1e-5) and 1 <= local.score <= 5


def test_the_users_own_card_is_pushed(run, hub):
    assert invoke("card", run, "--license", "mit").exit_code == 0
    card = run / "MODEL_CARD.md"
    card.write_text(card.read_text() + "\nEdited.\n")
    assert invoke("push", run, "--repo", REPO).exit_code == 0
    pushed = hub.repos[REPO].files["README.md"].decode()
    assert pushed.endswith("Edited.\n") and "your-name" not in pushed and ModelCard(pushed).data.license == "mit"
    assert "would be lost" in one_sentence(invoke("push", run, "--repo", REPO, "--license", "mit"))
    card.write_text("---\nlicense: [\n---\n")
    assert "broken metadata" in one_sentence(invoke("push", run, "--repo", REPO))
    card.write_text("---\nlibrary_name: transformers\nlicense: {a: 1}\n---\n")
    assert "refuses the card's metadata: Invalid metadata" in one_sentence(invoke("push", run, "--repo", REPO))
    assert hub.repos[REPO].commits == 1


def test_an_adapter_names_its_public_base(adapter, hub, tiny):
    assert invoke("push", adapter, "--repo", REPO).exit_code == 0
    files = hub.repos[REPO].files
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "Qwen/Qwen3-VL-2B-Instruct"
    assert str(tiny).encode() not in b"".join(files.values())
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    card = ModelCard(files["README.md"].decode())
    assert (card.data.library_name, card.data.base_model_relation) == ("peft", "adapter")

    # Merged weights do not go on top of the adapter, which would be loaded in their place.
    assert "would mix" in one_sentence(invoke("push", adapter, "--repo", REPO, "--merge"))
    assert hub.repos[REPO].commits == 1


def test_merged_weights_are_those_of_base_and_adapter(adapter, hub, tmp_path):
    import torch

    assert invoke("push", adapter, "--repo", REPO, "--merge").exit_code == 0
    files = hub.repos[REPO].files
    assert set(files) == MODEL_FILES | {"README.md", "scatter.png"}
    card = ModelCard(files["README.md"].decode())
    assert (card.data.library_name, card.data.base_model_relation) == ("transformers", "finetune")
    for name in MODEL_FILES:
        (tmp_path / "pulled").mkdir(exist_ok=True)
        (tmp_path / "pulled" / name).write_bytes(files[name])
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        merged, expected = (
            load_vlm(f, device="cpu")[0](input_ids=ids).logits for f in (tmp_path / "pulled", adapter / "model")
        )
    assert (merged - expected).abs().max() < 1e-5
    assert not list(adapter.glob(".merging-*"))
    invoke("card", adapter)
    assert "mriqa card" in one_sentence(invoke("push", adapter, "--repo", "you/other", "--merge"))


def test_an_adapter_of_a_local_base_needs_merging(adapter, tiny):
    settings = yaml.safe_load((adapter / "resolved_config.yaml").read_text())
    (adapter / "resolved_config.yaml").write_text(yaml.safe_dump({**settings, "model": str(tiny)}))
    assert "--merge" in one_sentence(invoke("push", adapter, "--repo", REPO, "--dry-run"))
    assert "safetensors" in invoke("push", adapter, "--repo", REPO, "--dry-run", "--merge").stdout


def test_weights_are_looked_into(run):
    weights = run / "model" / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (b"\x80\x04\x95pickle", whole[: len(whole) // 2], b""):
        weights.write_bytes(broken)
        with pytest.raises(HubError, match="no whole safetensors file"):
            plan_upload(read_run(run), "card")
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(HubError, match="only safetensors"):
        plan_upload(read_run(run), "card")
    weights.symlink_to(weights.with_suffix(".bin"))
    with pytest.raises(HubError, match="only safetensors"):
        plan_upload(read_run(run), "card")
    weights.unlink()
    weights.write_bytes(whole)
    (run / "model" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}')
    with pytest.raises(HubError, match=r"lacks model-2\.safetensors"):
        plan_upload(read_run(run), "card")
    with pytest.raises(HubError, match="no adapter"), merged_model(read_run(run)):
        pass


@pytest.mark.parametrize("name", ["", "scorer", "a/b/c", "/scorer", "you/", "you/sc orer", "you/x..y"])
def test_a_name_that_is_none(run, hub, name):
    assert "is no name of a repository" in one_sentence(invoke("push", run, "--repo", name))
    assert hub.requests == []


def test_who_may_push_and_who_may_see(run, hub, monkeypatch):
    hub.repos["you/public"], hub.repos["you/private"] = Repo(private=False), Repo()
    assert "is public" in one_sentence(invoke("push", run, "--repo", "you/public"))
    assert "is private" in one_sentence(invoke("push", run, "--repo", "you/private", "--public"))
    hub.repos["you/private"].files["pytorch_model.bin"] = b"old"
    assert "pytorch_model.bin" in one_sentence(invoke("push", run, "--repo", "you/private"))
    assert not hub.repos["you/public"].files and hub.repos["you/private"].commits == 0
    assert invoke("push", run, "--repo", "you/public", "--public").exit_code == 0
    assert invoke("push", run, "--repo", "you/new", "--public").exit_code == 0 and not hub.repos["you/new"].private

    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused = one_sentence(invoke("push", run, "--repo", REPO))
    assert "does not accept the token" in refused and "hf_wrong" not in refused
    monkeypatch.delenv("HF_TOKEN")
    assert "There is no Hugging Face token" in one_sentence(invoke("push", run, "--repo", REPO))
    assert REPO not in hub.repos


def test_offline_and_without_a_hub(run, hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in one_sentence(invoke("push", run, "--repo", REPO))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert "cannot be reached" in one_sentence(invoke("push", run, "--repo", REPO))
    assert hub.requests == []


@pytest.mark.parametrize(
    ("where", "status", "sentence"),
    [
        ("POST /api/repos/create", 403, "may not write"),
        ("PUT /lfs/", 500, "broke off"),
        ("PUT /lfs/", None, "broke off"),
        ("POST /api/models/you/scorer/preupload", None, "cannot be reached"),
        ("POST /api/models/you/scorer/commit", 500, "trouble of its own"),
        ("POST /api/models/you/scorer/commit", 413, "Something broke"),
        ("POST /api/models/you/scorer/commit", None, "cannot be reached"),
    ],
)
def test_broken_half_way_nothing_is_half_there(run, hub, where, status, sentence):
    hub.breaks[where] = status
    assert sentence in one_sentence(invoke("push", run, "--repo", REPO))
    assert REPO not in hub.repos or not hub.repos[REPO].files
    hub.breaks.clear()
    assert invoke("push", run, "--repo", REPO).exit_code == 0
    assert set(hub.repos[REPO].files) > MODEL_FILES


def test_a_run_of_another_kind_is_refused_before_anything_is_sent(tmp_path, tiny, hub):
    assert "is no training run" in one_sentence(invoke("push", tiny, "--repo", REPO))
    run = make_run(tmp_path / "run", tiny)
    (run / "model" / "model.safetensors").unlink()
    assert "lacks model.safetensors" in one_sentence(invoke("push", run, "--repo", REPO))
    assert hub.requests == []
