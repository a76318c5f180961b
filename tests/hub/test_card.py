"""The model card: what it takes from a run, what it keeps to itself, and that its examples run."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pytest
import yaml
from finished_run import LOG, MEASURES, make_run
from huggingface_hub import ModelCard
from PIL import Image
from small_calibration import SMALL_CALIBRATION

from mriqa.answers import load_format
from mriqa.embedded.packaged import default_model_folder
from mriqa.eval.stability import StabilityError
from mriqa.hub import CardOptions, HubError, plan_upload, read_run, write_card

from .conftest import invoke, one_sentence


def card_of(folder, **options) -> tuple[ModelCard, str]:
    text = write_card(read_run(folder), "you/scorer", CardOptions(**options))
    return ModelCard(text), text


def results(card: ModelCard, split: str | None) -> dict[str, float]:
    return {one.metric_type: one.metric_value for one in card.data.eval_results if one.dataset_split == split}


def test_facts_of_the_run_and_nothing_else(run):
    card, text = card_of(run, licence="mit", data_licences={"koniq10k": "as its authors say"})
    assert (card.data.base_model, card.data.license) == ("Qwen/Qwen3-VL-2B-Instruct", "mit")
    assert (card.data.library_name, card.data.base_model_relation) == ("transformers", "finetune")
    named = {"srcc": "spearmanr", "plcc": "pearsonr", "krcc": "kendalltau", "rmse": "rmse", "parse_rate": "parse_rate"}
    assert results(card, None) == {kind: MEASURES[key] for key, kind in named.items()}  # null is left out
    best = LOG["history"][0]
    assert results(card, "validation") == {"spearmanr": best["eval_srcc"], "pearsonr": best["eval_plcc"]}
    (index,) = card.data.to_dict()["model-index"]
    assert {result["dataset"]["type"] for result in index["results"]} == {"spaq_test", "koniq10k"}

    for fact in (
        "20 pictures of 7 contents | as its authors say", "| reward | margin, format |", '"scale": "sigma"',
        "| seed | 1234 |", "| num_train_epochs | 10.0 |", "in training: mriqa 0.1.0, torch 2.13.0, trl 1.16.0.",
        "step 20", "![Predicted",
        "mriqa score photo.jpg --model you/scorer", "vllm serve you/scorer", "0.876 .800–.900", "from 1.50 to 3.40",
        "## Limitations",
    ):  # fmt: skip
        assert fact in text, fact
    for private in ("hf_SECRET", "anna", str(run), "lora_alpha", "aux_weight", "max_steps"):
        assert private not in text, private


def test_what_is_not_known_is_said(run):
    for name in ("results.json", "train.jsonl"):
        (run / name).unlink()
    older = {key: value for key, value in LOG.items() if key != "versions"}
    (run / "training_log.json").write_text(json.dumps(older))
    card, text = card_of(run)
    assert card.data.license is None and "Nobody has stated a licence" in text
    assert "its manifest or its pictures are not here any more | not recorded" in text
    assert "Not evaluated on held-out pictures" in text and "by this older run; the model was saved by trans" in text
    assert {one.dataset_split for one in card.data.eval_results} == {"validation"}
    (run / "training_log.json").unlink()
    assert card_of(run)[0].data.eval_results is None


def test_a_reward_of_ones_own_keeps_its_folder_and_options(tmp_path, tiny):
    own = {"reward": ["/home/anna/mine.py:judge"], "reward_options": {"/home/anna/mine.py:judge": {"api_key": "k3y"}}}
    text = card_of(make_run(tmp_path / "run", tiny, **own))[1]
    assert "mine.py:judge" in text and "anna" not in text and "k3y" not in text


def test_more_evaluations_and_one_on_the_training_data(run, tmp_path):
    groups = {"groups": {"spaq": {**MEASURES, "srcc": 0.5}, "flive": {**MEASURES, "srcc": 0.25}}}
    (tmp_path / "many.json").write_text(json.dumps({**MEASURES, **groups}))
    seen = {"settings": {"manifest": str(run / "train.jsonl")}}
    (tmp_path / "seen.json").write_text(json.dumps({**MEASURES, **seen}))
    card, text = card_of(run, evaluations=[tmp_path / "many.json", tmp_path / "seen.json"])
    values = {one.dataset_name: one.metric_value for one in card.data.eval_results if one.metric_type == "spearmanr"}
    assert (values["spaq"], values["flive"]) == (0.5, 0.25)
    assert values["train, also trained on"] == MEASURES["srcc"] and "train, also trained on" in text


def test_the_demo_and_its_warm_start_wherever_they_were_moved_to(tmp_path, tiny):
    """The demo's settings lie in mr_grpo/ and name the warm start's model, which itself came from a hub model."""
    first = tmp_path / "first"
    make_run(first / "embedded" / "warm_start", tiny, seed=7)
    settings_file = first / "embedded" / "warm_start" / "resolved_config.yaml"
    settings = yaml.safe_load(settings_file.read_text())
    settings_file.write_text(yaml.safe_dump({key: value for key, value in settings.items() if "reward" not in key}))
    make_run(first / "mr_grpo", tiny, model=str(first / "embedded" / "warm_start" / "model"), seed=8)
    (first / "mr_grpo" / "model").rename(first / "model")
    before = {**MEASURES, "srcc": 0.1}
    (first / "results.json").write_text(json.dumps({"warm_start": before, "mr_grpo": MEASURES}))
    card, text = card_of(first.rename(tmp_path / "second"))
    assert card.data.base_model == "Qwen/Qwen3-VL-2B-Instruct"
    assert "supervised warm start → MR-GRPO (reward: margin + format)" in text and "Seeds: 7, then 8" in text
    assert results(card, "test")["spearmanr"] == MEASURES["srcc"]  # the warm start's is in the table only
    assert "test, warm start, for comparison | 30 | 100.0 % | 0.100" in text and "20 pictures of 7 contents" in text


def test_a_run_on_the_broad_set_says_where_its_pictures_and_labels_come_from(tmp_path, tiny):
    """As the demo leaves it: the data set's settings lie beside the manifest."""
    folder = make_run(tmp_path / "demo", default_model_folder(), model=str(tmp_path / "untrained"))
    rows = (folder / "train.jsonl").read_text().replace('"koniq10k"', '"broad"')
    (folder / "train.jsonl").write_text(rows)
    (folder / "settings.json").write_text(json.dumps({"photos": ["mine"], "scenes": 24, "seed": 5}))
    (folder / "results.json").write_text(json.dumps({"warm_start": MEASURES, "mr_grpo": MEASURES}))
    card, text = card_of(folder)
    assert {one.dataset_type for one in card.data.eval_results if one.dataset_split == "test"} == {"broad"}
    for fact in (
        "| `broad` | 20 pictures of 7 contents | by its parts, below |", "of the trainer's own", "(scikit-image)",
        "full-reference measures", "KADID-10k", "Seed of the data: 5.", "Nobody rated its training pictures",
        "training saw none", "EfficientNet-Lite0 with the weights that the model in the package",
    ):  # fmt: skip
        assert fact in text, fact
    assert "mine" not in text


def test_a_run_from_the_model_in_the_package_says_so(tmp_path):
    folder = make_run(tmp_path / "run", default_model_folder(), model="default")
    assert "* Base model: the small model that comes with `mriqa`, as `default`\n" in card_of(folder)[1]


@pytest.mark.parametrize("prompt", ["non_thinking", "thinking"])
def test_the_transformers_example_runs(run, tmp_path, prompt, monkeypatch):
    from mriqa import Scorer
    from mriqa.models import save_scoring_settings

    save_scoring_settings(run / "model", load_format(prompt))
    text = card_of(run)[1]
    (code,) = re.findall(r"### transformers.*?```python\n(.*?)```", text, re.DOTALL)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    code, count = re.subn(r"max_new_tokens=\d+", "max_new_tokens=24", code)
    exec(code.replace("you/scorer", str(run / "model")), found)
    assert count == 1
    scorer = Scorer.from_pretrained(run / "model", "greedy", max_new_tokens=24)
    (ours,) = scorer.score([tmp_path / "photo.jpg"])
    assert ours.text is not None and str(found["answer"]).strip() == ours.text.strip()


def test_the_command_keeps_a_card_that_was_edited(run):
    done = invoke("card", run, "--license", "mit", "--data-license", "koniq10k=CC BY 4.0")
    card = run / "MODEL_CARD.md"
    assert done.exit_code == 0 and "koniq10k` | 20 pictures of 7 contents | CC BY 4.0" in card.read_text()
    card.write_text("mine")
    assert "--overwrite" in one_sentence(invoke("card", run)) and card.read_text() == "mine"
    assert invoke("card", run, "--overwrite").exit_code == 0
    assert ModelCard.load(card).data.library_name == "transformers"


def test_bad_input_is_one_sentence(run, tmp_path, tiny):
    (tmp_path / "empty").mkdir()
    assert "There is no folder" in one_sentence(invoke("card", tmp_path / "nothing"))
    assert "is no training run" in one_sentence(invoke("card", tmp_path / "empty"))
    assert "is no training run" in one_sentence(invoke("card", tiny))
    assert "NAME=LICENCE" in one_sentence(invoke("card", run, "--data-license", "CC-BY"))
    assert "is no name of a repository" in one_sentence(invoke("card", run, "--repo", "only-a-name"))
    assert "cannot be read" in one_sentence(invoke("card", run, "--eval", tmp_path / "no.json"))
    (run / "other.json").write_text('{"a": 1}')
    assert "mriqa eval --out" in one_sentence(invoke("card", run, "--eval", run / "other.json"))
    (run / "results.json").write_text('{"a": {}}')
    assert "no evaluation that is known" in one_sentence(invoke("card", run))
    (run / "results.json").write_text('{"n": ')
    assert "is broken" in one_sentence(invoke("card", run))
    shutil.rmtree(run / "model")
    assert "no finished model" in one_sentence(invoke("card", run))
    os.remove(run / "resolved_config.yaml")
    with pytest.raises(HubError, match="is no training run"):
        read_run(run)


def test_stability_is_shown_or_said_to_be_unmeasured(run):
    assert "## Stability\n\n**Not measured.** `mriqa stability" in card_of(run)[1]
    change = {"name": "mirrored", "n": 48, "move_mean": 0.0341, "move_max": 0.158, "srcc_with_plain": None}
    found = {"pictures": 48, "source": "48 holiday photos", "readout": "greedy", "changes": [change],
             "left_out": {"vLLM instead of transformers": "It isn't installed."}}  # fmt: skip
    (run / "model" / "stability.json").write_text(json.dumps(found))
    text = card_of(run)[1]
    assert "| mirrored | 48 | 0.034 | 0.158 | – |" in text and "on 48 holiday photos (readout greedy)" in text
    assert "Not measured: vLLM instead of transformers. It isn't installed." in text
    (run / "model" / "stability.json").write_text("{")
    with pytest.raises(StabilityError, match="is broken"):
        card_of(run)


def test_how_sure_it_is_is_shown_or_said_to_be_unmeasured(run):
    assert "## How sure it is\n\n**Not measured.** `mriqa calibrate" in card_of(run)[1]
    SMALL_CALIBRATION.save(run / "model")
    text = card_of(run)[1]
    assert "| 80% interval | 81.2 % | 1.500 |" in text and "1,250 rated pictures of 81 contents" in text
    assert "up to an expected error of 1.10 points" in text
    assert "calibration.json" in {upload.name for upload in plan_upload(read_run(run), text).uploads}
