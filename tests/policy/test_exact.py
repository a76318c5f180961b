"""The exact estimator against ordinary forward passes over all answers, and against what sampling finds on average."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mriqa.reward
from mriqa.answers import load_format
from mriqa.errors import SettingsError
from mriqa.frozen.cached_tower import cache_towers
from mriqa.frozen.store import FeatureStore
from mriqa.manifest import write_manifest
from mriqa.models import load_vlm
from mriqa.policy.exact import ExactScoreTrainer, images_per_batch, outcome_kl
from mriqa.shared_prefix.score_tree import AnswerTree, ScoreTree
from mriqa.training.config import ScoreGRPOConfig
from mriqa.training.training_sets import policy_dataset

FORMAT = load_format("tiny")
TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, rows: list) -> Path:
    """A tiny FastVLM that has begun to see: its scores spread by 0.8 around means that hardly follow the human ones."""
    from mriqa.embedded import build_tiny_fastvlm

    folder = build_tiny_fastvlm(tmp_path_factory.mktemp("taught"), image_size=64, grid=2, hidden_size=64)
    model, processor = load_vlm(folder, device="cpu")
    cache_towers(model.requires_grad_(False), FeatureStore(None))
    trained = [model.model.language_model, model.model.multi_modal_projector]
    parameters = [parameter.requires_grad_() for module in trained for parameter in module.parameters()]
    with torch.no_grad():  # random projections begin too small for the image to be noticed beside the text
        for weight in model.model.multi_modal_projector.parameters():
            weight.mul_(16)
    optimiser = torch.optim.AdamW(parameters, lr=4e-3)
    means = torch.tensor([3.2 + 0.6 * (row.mos - 3) for row in rows]).repeat(4)
    generator = torch.Generator().manual_seed(0)
    prompt = prompts(processor, [Image.open(row.image) for row in rows] * 4)
    for _ in range(130):
        scores = (means + 0.8 * torch.randn(len(means), generator=generator)).clamp(1, 5).tolist()
        ids = answer_ids(processor, [FORMAT.format(score) for score in scores])
        inputs = continued(prompt, ids)
        logits = model(**inputs, logits_to_keep=ids.shape[1] + 1).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    return folder


def prompts(processor: Any, pictures: list) -> dict[str, torch.Tensor]:
    content = [{"type": "image"}, {"type": "text", "text": FORMAT.user}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return dict(processor(images=pictures, text=[text] * len(pictures), return_tensors="pt"))


def answer_ids(processor: Any, texts: list[str], end: str = "<|im_end|>") -> torch.Tensor:
    return processor.tokenizer([text + end for text in texts], add_special_tokens=False, return_tensors="pt")[
        "input_ids"
    ]


def continued(prompt: dict[str, torch.Tensor], ids: torch.Tensor) -> dict[str, torch.Tensor]:
    whole = torch.cat([prompt["input_ids"], ids], dim=1)
    return {**prompt, "input_ids": whole, "attention_mask": torch.ones_like(whole)}


def ordinary(model: Any, prompt: dict[str, torch.Tensor], ids_BC: torch.Tensor) -> torch.Tensor:
    """Log-probability (B, C) of each token of B continuations of one prompt, each read from its beginning."""
    repeated = {name: value.expand(len(ids_BC), *value.shape[1:]) for name, value in prompt.items()}
    logits = model(**continued(repeated, ids_BC), use_cache=False).logits[:, -ids_BC.shape[1] - 1 : -1] / TEMPERATURE
    return logits.log_softmax(-1).gather(-1, ids_BC[..., None]).squeeze(-1)


def enumerated(model: Any, processor: Any, prompt: dict[str, torch.Tensor], ended: int) -> torch.Tensor:
    """Log-probability (S,) of all 401 answers by ordinary passes, the tail and end as behind score `ended`."""
    logp_SC = ordinary(model, prompt, answer_ids(processor, [FORMAT.format(float(t)) for t in FORMAT.score_texts()]))
    return logp_SC[:, :-2].sum(-1) + logp_SC[ended, -2:].sum()  # `</answer>` is one token, and the end another


@pytest.fixture(scope="module")
def double(taught: Path, rows: list) -> tuple[Any, Any, dict[str, torch.Tensor], AnswerTree]:
    """The taught model in float64, and three prompts."""
    model, processor = load_vlm(taught, device="cpu")
    model = model.double().eval()
    model.model.vision_tower.requires_grad_(False)
    cache_towers(model, FeatureStore(None))
    inputs = prompts(processor, [Image.open(row.image) for row in rows[::2]])
    tree = ScoreTree.build(processor.tokenizer, FORMAT, "prompt\n")
    return model, processor, inputs, AnswerTree(tree, [processor.tokenizer.eos_token_id])


def of_image(inputs: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    return {name: value[number : number + 1] for name, value in inputs.items()}


def test_probabilities_and_gradients_equal_those_of_all_answers_one_by_one(double: Any) -> None:
    model, processor, inputs, answers = double
    parameters = list(model.model.language_model.parameters())
    rewards_NS = torch.rand(3, 401, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ended = [10, 250, 400]

    ours_NS = answers.log_probs(model, inputs, torch.tensor(ended), TEMPERATURE)
    ours = torch.autograd.grad((ours_NS.exp() * rewards_NS).sum(), parameters)
    theirs_NS = torch.stack([enumerated(model, processor, of_image(inputs, n), ended[n]) for n in range(3)])
    theirs = torch.autograd.grad((theirs_NS.exp() * rewards_NS).sum(), parameters)

    assert (ours_NS - theirs_NS).abs().max() < 1e-6
    assert (theirs_NS[0] - theirs_NS[1]).abs().max() > 1e-3, "the model is meant to look at its image"
    for mine, reference in zip(ours, theirs, strict=True):
        # Qwen2's norms compute in float32 whatever the model's type.
        assert (mine - reference).norm() < 1e-5 * reference.norm()
    assert ours_NS.exp().sum(-1).min() > 0.5 and ours_NS.exp().sum(-1).max() < 1


def test_several_ends_of_a_turn_add_up(double: Any) -> None:
    model, processor, inputs, answers = double
    ends = [processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id]
    one = of_image(inputs, 0)
    with torch.no_grad():
        both = AnswerTree(answers.tree, ends + ends[:1]).log_probs(model, one, torch.tensor([9]), TEMPERATURE).exp()
        each = [AnswerTree(answers.tree, [end]).log_probs(model, one, torch.tensor([9]), TEMPERATURE) for end in ends]
    assert torch.allclose(both, each[0].exp() + each[1].exp(), rtol=1e-10)


def test_sampled_gradient_averages_to_the_exact_one(double: Any) -> None:
    """REINFORCE on answers from `generate`, malformed ones included, with the reward function's own numbers."""
    model, processor, inputs, answers = double
    values_S, mos_N = answers.tree.values_S, np.array([4.4, 3.0, 1.6])
    ended_N = torch.tensor([int(np.abs(values_S - mos).argmin()) for mos in mos_N])
    logp_NS = answers.log_probs(model, inputs, ended_N, TEMPERATURE)
    probs_NS = logp_NS.detach().softmax(-1).numpy()
    rewards = mriqa.reward.load("margin", answer_format=FORMAT)
    table_NS = mriqa.reward.reward_table([rewards])(values_S, probs_NS, mos_N, np.full(3, np.nan))
    expected = (logp_NS[0].exp() * torch.from_numpy(table_NS[0])).sum()
    weight = model.model.language_model.layers[-1].mlp.down_proj.weight
    exact = torch.autograd.grad(expected, weight)[0]

    torch.manual_seed(0)
    one, n_batches, batch = of_image(inputs, 0), 24, 100
    sampled = model.generate(
        **one,
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=0,
        max_new_tokens=8,
        num_return_sequences=n_batches * batch,
        pad_token_id=processor.tokenizer.pad_token_id,
        eos_token_id=processor.tokenizer.eos_token_id,
    )[:, one["input_ids"].shape[1] :]
    texts = processor.tokenizer.batch_decode(sampled, skip_special_tokens=True)
    reward_of = {FORMAT.format(score): reward for score, reward in zip(values_S, table_NS[0])}
    reward_B = torch.tensor([reward_of.get(text, 0.0) for text in texts])
    ends = sampled == processor.tokenizer.eos_token_id
    written = (ends.cumsum(-1) - ends.long()) == 0  # up to the first end, and with it
    baseline = expected.detach()
    projections = []
    for chunk in torch.arange(len(sampled)).split(batch):
        logp_B = (ordinary(model, one, sampled[chunk]) * written[chunk]).sum(-1)
        gradient = torch.autograd.grad(((reward_B[chunk] - baseline) * logp_B).mean(), weight)[0]
        projections.append(float((gradient * exact).sum() / exact.square().sum()))
    error = np.std(projections, ddof=1) / np.sqrt(n_batches)
    assert error < 0.15
    assert abs(np.mean(projections) - 1) < 4 * error
    assert abs(float(reward_B.mean()) - float(baseline)) < 4 * float(reward_B.std()) / len(reward_B) ** 0.5


def make_trainer(model_path: Path, rows: list, folder: Path, **options: Any) -> ExactScoreTrainer:
    settings = {
        "max_steps": 1,
        "images_per_batch": 6,
        "gradient_checkpointing": False,
        "beta": 0.0,
        "learning_rate": 1e-3,
        "temperature": TEMPERATURE,
        "eval_strategy": "no",
        "eval_on_start": False,
        "load_best_model_at_end": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        **options,
    }
    answer_format = settings.pop("answer_format", FORMAT)
    model, processor = load_vlm(model_path, device="cpu")
    model.model.vision_tower.requires_grad_(False)
    rewards = [mriqa.reward.load("margin")]
    return ExactScoreTrainer(
        model=model,
        processing_class=processor,
        args=ScoreGRPOConfig(output_dir=str(folder), **settings),
        reward_table=mriqa.reward.reward_table(rewards),
        train_dataset=policy_dataset(rows, answer_format),
        answer_format=answer_format,
    )


def test_training_raises_the_expected_reward_and_keeps_the_format(taught: Path, rows: list, tmp_path: Path) -> None:
    trainer = make_trainer(taught, rows, tmp_path, max_steps=40, beta=1e-3, learning_rate=5e-4)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(log) == 40
    assert log[0]["kl"] == pytest.approx(0, abs=1e-5) and log[-1]["kl"] > 0.01
    assert log[-1]["reward"] > log[0]["reward"] + 0.1
    assert log[-1]["score/parse_rate"] > log[0]["score/parse_rate"] - 0.01 > 0.9
    assert log[-1]["score/predicted_std"] > log[0]["score/predicted_std"]
    assert log[0]["score/human_mean"] == pytest.approx(np.mean([row.mos for row in rows]), abs=1e-5)

    # What is logged is what sampling finds: the format is kept by the model itself and not by the tree.
    model, processor = trainer.model.eval(), trainer.processing_class
    one = prompts(processor, [Image.open(rows[0].image)])
    torch.manual_seed(0)
    ids = model.generate(
        **one, do_sample=True, temperature=TEMPERATURE, top_k=0, max_new_tokens=8, num_return_sequences=300
    )
    texts = processor.tokenizer.batch_decode(ids[:, one["input_ids"].shape[1] :], skip_special_tokens=True)
    parsed = np.isfinite([FORMAT.parse(text) for text in texts])
    assert parsed.mean() > log[-1]["score/parse_rate"] - 0.05


def test_micro_batches_and_processes_add_up_to_the_whole_comparison_set(
    taught: Path, rows: list, tmp_path: Path
) -> None:
    """Six images at once, in two micro-batches, and three on each of two processes: the same step."""
    manifest = rows[0].image.parent / "exact.jsonl"
    write_manifest(rows, manifest)
    options = {"optim": "sgd", "learning_rate": 0.05, "beta": 0.1, "save_strategy": "steps", "save_steps": 1}
    options["max_grad_norm"] = 0.0
    make_trainer(taught, rows, tmp_path / "whole", **options).train()
    halves = {"images_per_batch": 3, "gradient_accumulation_steps": 2}
    make_trainer(taught, rows, tmp_path / "halves", **options, **halves).train()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29531"]
    script = "\n".join(
        [
            "import sys; from pathlib import Path",
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})",
            "from test_exact import make_trainer; from mriqa.manifest import read_manifest",
            f"rows = read_manifest({str(manifest)!r})",
            f"make_trainer(Path({str(taught)!r}), rows, Path({str(tmp_path / 'two')!r}),"
            f" images_per_batch=3, **{options!r}).train()",
        ]
    )
    (tmp_path / "two.py").write_text(script)
    finished = subprocess.run(
        [*command, str(tmp_path / "two.py")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]

    initial = load_file(taught / "model.safetensors")
    whole = load_file(tmp_path / "whole/checkpoint-1/model.safetensors")
    name = "model.language_model.layers.0.mlp.down_proj.weight"
    name = next(key for key in whole if key.endswith(name.removeprefix("model.")))
    step = (whole[name] - initial[name]).abs().max()
    assert step > 1e-5
    for other in ("halves", "two"):
        weights = load_file(tmp_path / other / "checkpoint-1/model.safetensors")
        assert (weights[name] - whole[name]).abs().max() < 1e-4 * step, other


def test_kl_of_outcomes_counts_the_malformed_rest() -> None:
    p, q = np.array([[0.5, 0.2]]), np.array([[0.3, 0.3]])
    expected = 0.5 * np.log(0.5 / 0.3) + 0.2 * np.log(0.2 / 0.3) + 0.3 * np.log(0.3 / 0.4)
    assert outcome_kl(torch.tensor(p).log(), torch.tensor(q).log()).item() == pytest.approx(expected, rel=1e-9)


def test_refusals(taught: Path, rows: list, tmp_path: Path) -> None:
    old = {"images_per_batch": None, "steps_per_generation": 2, "num_generations": 4}
    with pytest.raises(SettingsError, match="takes whole images.* 4 doesn't divide 6: set images_per_batch"):
        images_per_batch(ScoreGRPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=6, **old))
    with pytest.warns(UserWarning, match="= 2 images at a time: set images_per_batch: 2 to say so"):
        assert images_per_batch(ScoreGRPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=8, **old)) == 2
    with pytest.raises(SettingsError, match="images_per_batch is 0"):
        images_per_batch(ScoreGRPOConfig(output_dir=str(tmp_path), images_per_batch=0))
    with pytest.raises(SettingsError, match="leave out --constrain_answers"):
        make_trainer(taught, rows, tmp_path, constrain_answers=True)
    with pytest.raises(SettingsError, match="set --temperature instead of --logps_temperature"):
        make_trainer(taught, rows, tmp_path, logps_temperature=1.0)
    with pytest.raises(SettingsError, match="think first; use --estimator sampled"):
        make_trainer(taught, rows, tmp_path, answer_format=load_format("thinking"))
    of_100 = dataclasses.replace(FORMAT, low=0.0, high=100.0)
    with pytest.raises(SettingsError, match="one for each character.*; use --estimator sampled"):
        make_trainer(taught, rows, tmp_path, answer_format=of_100)
    with pytest.raises(ValueError, match="judges completions only.*use --estimator sampled"):
        mriqa.reward.reward_table([len])
