"""Token credit on completions whose tokens are counted by hand, and in a training step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mriqa.reward
from mriqa.answers import load_format
from mriqa.embedded.tokenizer import train_tokenizer
from mriqa.errors import SettingsError
from mriqa.models import load_vlm
from mriqa.policy.token_credit import format_advantages, score_tokens, tokens_of_span
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.training.config import ScoreGRPOConfig
from mriqa.training.training_sets import policy_dataset

NON_THINKING, THINKING = load_format("non_thinking"), load_format("thinking")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(added_tokens=("<answer>", "</answer>"))


@pytest.mark.parametrize(
    ("answer_format", "before", "score", "after"),
    [
        (NON_THINKING, "<answer>", "3.52", "</answer>"),
        (NON_THINKING, " \n<answer> ", "4", " </answer>\n"),
        (THINKING, '<thinking>I see 3.52 blurs</thinking><answer>{"rating": ', "3.52", "}</answer>"),
        (THINKING, '<thinking>Schärfe 画质 🙂 é</thinking>\n<answer>{"rating": ', "1.07", "}</answer>"),
    ],
)
def test_score_tokens_of_an_answer(tokenizer: Any, answer_format: Any, before: str, score: str, after: str) -> None:
    """The tokenizer keeps offsets when it encodes: its own word on which tokens write the score."""
    encoded = tokenizer(before + score + after + "<|im_end|>", add_special_tokens=False, return_offsets_mapping=True)
    text = tokenizer.decode(encoded["input_ids"], skip_special_tokens=True)
    span = tokens_of_span(encoded["input_ids"], tokenizer, text, answer_format.read(text).span)
    start, end = len(before), len(before) + len(score)
    expected = [i for i, (low, high) in enumerate(encoded["offset_mapping"]) if low < end and high > start]
    assert span == (expected[0], expected[-1] + 1)
    assert tokenizer.decode(encoded["input_ids"][slice(*span)]) == score


def test_a_token_that_holds_more_than_the_score_counts(tokenizer: Any) -> None:
    class Pieces:
        """Decodes tokens 0, 1, 2 … to these pieces."""

        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            return "".join(["<answer>", "3", ".52</", "answer>"][token] for token in ids)

    text = "<answer>3.52</answer>"
    assert tokens_of_span([0, 1, 2, 3], Pieces(), text, NON_THINKING.read(text).span) == (1, 3)


def test_all_tokens_answer_where_nothing_parses(tokenizer: Any) -> None:
    texts = ["<answer>3.52</answer>", "no idea", "<answer>9.50</answer>", "<answer>2.0</answer>"]
    padded = tokenizer([text + "<|im_end|>" for text in texts], padding=True, padding_side="right", return_tensors="pt")
    answers = [NON_THINKING.read(text) for text in texts]
    found_BC = score_tokens(padded["input_ids"], padded["attention_mask"], tokenizer, texts, answers)
    assert found_BC[0].nonzero().flatten().tolist() == [1, 2, 3, 4]
    assert found_BC[3].nonzero().flatten().tolist() == [1, 2, 3]
    assert found_BC[1].all() and found_BC[2].all()


def test_a_completion_that_was_stripped_is_found_again(tokenizer: Any) -> None:
    """A chat template's parser may hand on less than the tokens write."""
    ids = tokenizer("  \n<answer>3.52</answer>", add_special_tokens=False, return_tensors="pt")["input_ids"]
    text = "<answer>3.52</answer>"
    found_BC = score_tokens(ids, torch.ones_like(ids), tokenizer, [text], [NON_THINKING.read(text)])
    assert tokenizer.decode(ids[found_BC]) == "3.52"


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_parts_add_up_to_trls_advantages(scale: str) -> None:
    """By hand, in float64: (format - its group's mean) over the deviation of the sum."""
    generator = torch.Generator().manual_seed(0)
    weighted_AF = torch.rand(8, 3, dtype=torch.float64, generator=generator)
    weighted_AF[2, 0] = torch.nan
    weighted_AF[5] = torch.nan
    ours_A = format_advantages(weighted_AF, torch.tensor([False, True, False]), 4, scale)
    total_A = weighted_AF.nansum(dim=1)
    for group in ([0, 1, 2, 3], [4, 6, 7]):
        parts = weighted_AF[group, 1]
        deviation = {"group": total_A[group].std(), "batch": total_A[[0, 1, 2, 3, 4, 6, 7]].std(), "none": None}[scale]
        expected = (parts - parts.mean()) / (1 if deviation is None else deviation + 1e-4)
        assert torch.allclose(ours_A[group], expected, rtol=1e-6)
    assert ours_A[5] == 0


class Answering(ScoreGRPOTrainer):
    """Writes fixed thinking answers, one of them malformed, and keeps the rollout and TRL's own advantages."""

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        texts = [THINKING.format(1.5 + 0.7 * place, thinking="blur " * (place + 1)) for place in range(len(prompt_ids))]
        texts[1] = "nothing"
        return self._tokenizer([text + "<|im_end|>" for text in texts], add_special_tokens=False)["input_ids"], None

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self.rollout = super()._generate_and_score_completions(inputs)
        return self.rollout


def trained(tiny_model: Path, rows: list, folder: Path, **options: Any) -> Answering:
    model, processor = load_vlm(tiny_model, device="cpu")
    settings = {"max_steps": 1, "per_device_train_batch_size": 6, "num_generations": 3, "max_completion_length": 200}
    settings |= {"gradient_checkpointing": False, "beta": 0.0, "eval_strategy": "no", "eval_on_start": False}
    settings |= {"load_best_model_at_end": False, "save_strategy": "no", "disable_tqdm": True, **options}
    trainer = Answering(
        model=model,
        processing_class=processor,
        args=ScoreGRPOConfig(output_dir=str(folder), **settings),
        reward_funcs=[mriqa.reward.load(name, mode="thinking") for name in ("margin", "format")],
        train_dataset=policy_dataset(rows, THINKING),
        answer_format=THINKING,
    )
    trainer.train()
    return trainer


def test_in_training(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    uniform = trained(tiny_model, rows, tmp_path)
    credited = trained(tiny_model, rows, tmp_path, token_credit="score")
    total_B, advantages_BC = uniform.rollout["advantages"], credited.rollout["advantages"]
    ids_BC, mask_BC = credited.rollout["completion_ids"], credited.rollout["completion_mask"]
    assert total_B.ndim == 1 and advantages_BC.shape == ids_BC.shape
    texts = credited._tokenizer.batch_decode(ids_BC, skip_special_tokens=True)
    answers = [THINKING.read(text) for text in texts]
    scores_BC = score_tokens(ids_BC, mask_BC, credited._tokenizer, texts, answers)
    assert scores_BC[0].sum() == 4 and scores_BC[1].all()
    assert torch.equal(advantages_BC[scores_BC], total_B[:, None].expand_as(scores_BC)[scores_BC])
    # Both images' groups hold three answers: one of the first is malformed, and the second's are all well formed.
    logs = uniform._logs["rewards"]
    total_G = torch.tensor([sum(values[i] for values in logs.values()) for i in range(3)])
    formed = torch.tensor([1.0, 0.0, 1.0])
    expected_G = (formed - formed.mean()) / (total_G.std() + 1e-4)
    elsewhere = ~scores_BC
    assert advantages_BC[0][elsewhere[0]] == pytest.approx(expected_G[0].item(), rel=1e-4)
    assert advantages_BC[2][elsewhere[2]] == pytest.approx(expected_G[2].item(), rel=1e-4)
    assert (advantages_BC[3:][elsewhere[3:]] == 0).all()
    assert credited.state.log_history[0]["grad_norm"] != uniform.state.log_history[0]["grad_norm"]


def test_refusals(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="token_credit is one of uniform, score, not 'all'"):
        trained(tiny_model, rows, tmp_path, token_credit="all")
    with pytest.raises(SettingsError, match="summed before they are normalised"):
        trained(tiny_model, rows, tmp_path, token_credit="score", multi_objective_aggregation="normalize_then_sum")
