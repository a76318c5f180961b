"""The readout "expected": the exact distribution over all well-formed scores, without sampling.

A non-thinking answer such as `<answer>3.52</answer>` is a fixed head, a score of a few digits and a fixed tail, and
there are only 401 scores. As a tree of digits behind the prompt (`mriqa.shared_prefix`) they are read in one pass. A
model whose architecture that doesn't know takes two: the prompt and the head are run once, with a key-value cache; then
every way to begin a score (1.0 … 5.0: 41 branches) continues the repeated cache in one batch, and the last digit's
distribution is read off the end of each branch. The probability of a score is the product of its tokens', renormalised
over the well-formed scores: what sampling at temperature 1 converges to when other answers are thrown away.

Legend: B prompts, T tokens of prompt and head, S scores, D tokens of a score, L tokens of head and score, K branches
(distinct first D-1 tokens), V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from mriqa.answers import AnswerFormat
from mriqa.scoring.backend import Wanted
from mriqa.scoring.prompts import prompt_text
from mriqa.scoring.reading import Reading, ReadoutError
from mriqa.shared_prefix import Suffix, core_of, family_of, suffix_log_probs
from mriqa.shared_prefix.score_tree import ScoreTree, ScoreTreeError

if TYPE_CHECKING:
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin


@dataclass(frozen=True)
class DigitTree:
    """Every well-formed score of an answer format in a model's tokens.

    Attributes:
        scores: the scores and their tokens.
        trie: head and scores as a suffix of the prompt.
        paths_SL: its columns that make up each score.
        branch_ids_KP: the distinct beginnings of scores, P = D - 1 tokens each.
        branch_S: which of them each score continues.
    """

    scores: ScoreTree
    trie: Suffix
    paths_SL: torch.Tensor
    branch_ids_KP: torch.Tensor
    branch_S: torch.Tensor

    name: ClassVar[str] = "expected"

    @classmethod
    def build(cls, processor: ProcessorMixin, answer_format: AnswerFormat) -> DigitTree:
        """Raises ReadoutError where answers do not begin with the score or its characters are not single tokens."""
        prompt = prompt_text(processor, answer_format)
        try:
            scores = ScoreTree.build(processor.tokenizer, answer_format, prompt)
        except ScoreTreeError as error:
            raise ReadoutError(f"The expected readout {error}; use --readout sample or --readout greedy.") from error
        branch_ids_KP, branch_S = torch.unique(scores.score_ids_SD[:, :-1], dim=0, return_inverse=True)
        return cls(scores, *scores.trie(), branch_ids_KP, branch_S)

    def read(
        self, model: PreTrainedModel, processor: ProcessorMixin, inputs_BT: BatchFeature, seed: int
    ) -> list[Reading]:
        """One exact reading per prompt; nothing is sampled, so the seed plays no part."""
        with torch.no_grad():
            probabilities_BS = self.probabilities(model, inputs_BT).double().cpu().numpy()
        return [Reading(self.scores.values_S, weights_S, exact=True) for weights_S in probabilities_BS]

    def probabilities(self, model: PreTrainedModel, inputs_BT: BatchFeature) -> torch.Tensor:
        """The probability of every score (B, S) in float32, each row summing to 1, for left-padded model inputs.

        Gradients go through it, to the pixels too (`mriqa.adapters.DifferentiableReward`).
        """
        if family_of(model) is None:
            return self._in_two_passes(model, inputs_BT)
        suffix = self.trie.expand(len(inputs_BT["input_ids"])).to(inputs_BT["input_ids"].device)
        logp_BK, _ = suffix_log_probs(model, inputs_BT, suffix)
        return logp_BK[:, self.paths_SL.to(logp_BK.device)].sum(-1).softmax(-1)

    def _in_two_passes(self, model: PreTrainedModel, inputs_BT: BatchFeature) -> torch.Tensor:
        inputs = _append(inputs_BT, self.scores.head_ids)
        mask_BT = inputs["attention_mask"]
        uses_mrope = hasattr(core_of(model).base_model, "rope_deltas")
        # Qwen-VL models work out their 3-D positions from the image grid; the others do not look at the padding.
        own_positions = {} if uses_mrope else {"position_ids": _positions(mask_BT)}
        prefill = model(**inputs, **own_positions, use_cache=True, logits_to_keep=1)

        ids_SD = self.scores.score_ids_SD.to(mask_BT.device)
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
        deltas = getattr(core_of(model).base_model, "rope_deltas", None)
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
        next_ids_SP = self.scores.score_ids_SD[:, 1:].to(device)
        return logp_BKPV[:, self.branch_S.to(device)[:, None], at_P, next_ids_SP].sum(-1)


def expected(processor: ProcessorMixin, wanted: Wanted) -> DigitTree:
    """The readout of the exact distribution. Raises ReadoutError; see `DigitTree.build`."""
    return DigitTree.build(processor, wanted.answer_format)


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
