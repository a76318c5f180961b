"""The readout "expected": the exact distribution over all well-formed scores, from two forward passes and no sampling.

A non-thinking answer such as `<answer>3.52</answer>` is a fixed head, a score of a few digits and a fixed tail, and
there are only 401 scores. The prompt and the head are run once, with a key-value cache. Then every way to begin a
score (1.0 … 5.0: 41 branches) continues the repeated cache in one batch, and the last digit's distribution is read off
the end of each branch. The probability of a score is the product of its tokens', renormalised over the well-formed
scores: what sampling at temperature 1 converges to when other answers are thrown away.

Legend: B prompts, T tokens of prompt and head, S scores, D tokens of a score, K branches (distinct first D-1 tokens),
V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from mriqa.answers import AnswerFormat
from mriqa.scoring.prompts import prompt_text
from mriqa.scoring.reading import Reading, ReadoutError

if TYPE_CHECKING:
    from transformers import BatchFeature, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

OTHER_READOUTS = "use --readout sample or --readout greedy."


@dataclass(frozen=True)
class DigitTree:
    """Every well-formed score of an answer format in a model's tokens.

    Attributes:
        values_S: the scores in 1..5.
        head_ids: tokens between the prompt and the score.
        score_ids_SD: tokens of each score, one per character.
        branch_ids_KP: the distinct beginnings of scores, P = D - 1 tokens each.
        branch_S: which of them each score continues.
    """

    values_S: np.ndarray
    head_ids: torch.Tensor
    score_ids_SD: torch.Tensor
    branch_ids_KP: torch.Tensor
    branch_S: torch.Tensor

    name: ClassVar[str] = "expected"

    @classmethod
    def build(cls, processor: ProcessorMixin, answer_format: AnswerFormat) -> DigitTree:
        """Raises ReadoutError where answers do not begin with the score or its characters are not single tokens."""
        texts = score_texts(answer_format)
        if "{thinking}" in answer_format.template:
            raise ReadoutError(
                f"The expected readout needs answers that state the score at once, but {answer_format.name} answers "
                f"think first; {OTHER_READOUTS}"
            )
        answers = [answer_format.template.replace("{score}", text) for text in texts]
        head_ids, score_ids = _split_tokens(processor.tokenizer, answers, texts)
        _check_continues(processor.tokenizer, prompt_text(processor, answer_format), answers)
        score_ids_SD = torch.tensor(score_ids)
        branch_ids_KP, branch_S = torch.unique(score_ids_SD[:, :-1], dim=0, return_inverse=True)
        values_S = np.array([answer_format.parse(answer) for answer in answers])
        return cls(values_S, torch.tensor(head_ids, dtype=torch.long), score_ids_SD, branch_ids_KP, branch_S)

    def read(
        self, model: PreTrainedModel, processor: ProcessorMixin, inputs_BT: BatchFeature, seed: int
    ) -> list[Reading]:
        """One exact reading per prompt; nothing is sampled, so the seed plays no part."""
        probabilities_BS = self.probabilities(model, inputs_BT).double().cpu().numpy()
        return [Reading(self.values_S, weights_S, exact=True) for weights_S in probabilities_BS]

    @torch.no_grad()
    def probabilities(self, model: PreTrainedModel, inputs_BT: BatchFeature) -> torch.Tensor:
        """The probability of every score (B, S) in float32, each row summing to 1, for left-padded model inputs."""
        inputs = _append(inputs_BT, self.head_ids)
        mask_BT = inputs["attention_mask"]
        uses_mrope = hasattr(_core(model).base_model, "rope_deltas")
        # Qwen-VL models work out their 3-D positions from the image grid; the others do not look at the padding.
        own_positions = {} if uses_mrope else {"position_ids": _positions(mask_BT)}
        prefill = model(**inputs, **own_positions, use_cache=True, logits_to_keep=1)

        ids_SD = self.score_ids_SD.to(mask_BT.device)
        logp_BV = prefill.logits[:, -1].float().log_softmax(-1)
        logp_BS = logp_BV[:, ids_SD[:, 0]]
        if ids_SD.shape[1] > 1:
            logp_BS = logp_BS + self._branches(model, mask_BT, prefill.past_key_values)
        return logp_BS.softmax(-1)

    def _branches(self, model: PreTrainedModel, mask_BT: torch.Tensor, cache: Any) -> torch.Tensor:
        """Log-probability (B, S) of each score's tokens after the first, given the cache of prompt and head."""
        device, n_prompts = mask_BT.device, mask_BT.shape[0]
        n_branches, length = self.branch_ids_KP.shape
        rows = torch.arange(n_prompts, device=device).repeat_interleave(n_branches)
        cache.reorder_cache(rows)  # repeats it; unlike batch_repeat_interleave, every kind of cache layer has it
        new_mask = mask_BT.new_ones(len(rows), length)
        mask = torch.cat([mask_BT[rows], new_mask], dim=1)
        positions = _positions(mask)[:, -length:]
        deltas = getattr(_core(model).base_model, "rope_deltas", None)
        if deltas is not None:
            positions = (positions + deltas.to(device).reshape(n_prompts, 1)[rows]).expand(3, -1, -1)
        branches = model(
            input_ids=self.branch_ids_KP.to(device).repeat(n_prompts, 1),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        logp_BKPV = branches.logits.float().log_softmax(-1).unflatten(0, (n_prompts, n_branches))
        at_P = torch.arange(length, device=device)
        next_ids_SP = self.score_ids_SD[:, 1:].to(device)
        return logp_BKPV[:, self.branch_S.to(device)[:, None], at_P, next_ids_SP].sum(-1)


def score_texts(answer_format: AnswerFormat) -> list[str]:
    """Every score that can be written in the format, lowest first: "1.00" … "5.00"."""
    steps = round((answer_format.high - answer_format.low) * 10**answer_format.decimals)
    values = (answer_format.low + step / 10**answer_format.decimals for step in range(steps + 1))
    return [f"{value:.{answer_format.decimals}f}" for value in values]


def _split_tokens(
    tokenizer: PreTrainedTokenizerBase, answers: list[str], texts: list[str]
) -> tuple[list[int], list[list[int]]]:
    """(Tokens before the score, tokens of each score), once it is sure that each character is its own token."""
    ids = tokenizer(answers, add_special_tokens=False)["input_ids"]
    head = commonprefix(ids)
    tail = len(commonprefix([row[::-1] for row in ids]))
    scores = [row[len(head) : len(row) - tail] for row in ids]
    token_of: dict[str, int] = {}
    single = all(
        len(row) == len(text) == len(texts[0])
        and all(token_of.setdefault(character, token) == token for character, token in zip(text, row, strict=True))
        for row, text in zip(scores, texts, strict=True)
    )
    if not single:
        raise ReadoutError(
            "The expected readout needs a tokenizer that writes every score in the same number of tokens, one for each "
            f"character, and this model's does not; {OTHER_READOUTS}"
        )
    return list(head), scores


def _check_continues(tokenizer: PreTrainedTokenizerBase, prompt: str, answers: list[str]) -> None:
    """Raises ReadoutError unless an answer's tokens stay the same behind the prompt."""

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    for answer in (answers[0], answers[len(answers) // 2], answers[-1]):
        if encode(prompt + answer) != encode(prompt) + encode(answer):
            raise ReadoutError(
                f"The expected readout needs answer tokens that don't merge with the prompt's; {OTHER_READOUTS}"
            )


def _append(inputs_BT: BatchFeature, ids: torch.Tensor) -> dict[str, Any]:
    """The model inputs with tokens `ids` after each prompt; per-token inputs other than the mask get zeros (text)."""
    shape = inputs_BT["input_ids"].shape
    inputs = dict(inputs_BT)
    for name, tensor in inputs_BT.items():
        if isinstance(tensor, torch.Tensor) and tensor.shape == shape:
            new = ids.to(tensor) if name == "input_ids" else torch.full_like(ids, name == "attention_mask").to(tensor)
            inputs[name] = torch.cat([tensor, new.expand(shape[0], -1)], dim=1)
    return inputs


def _positions(mask_BT: torch.Tensor) -> torch.Tensor:
    """Positions (B, T) that count the tokens and not the padding before them."""
    return (mask_BT.long().cumsum(-1) - 1).clamp_min(0)


def _core(model: Any) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
