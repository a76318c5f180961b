"""Every score an answer can state, in a model's tokens, and the probability of each from one pass.

A non-thinking answer such as `<answer>3.52</answer>` is a fixed head, a score of a few digits, a fixed tail and the end
of the turn, and there are only 401 scores. As a trie they share most of their tokens: some fifty run through the model.

The probability of a whole answer also has that of the tail and the end behind its score in it. Behind all the scores
these would be hundreds of tokens more, for a probability that hardly depends on the score; so `AnswerTree` reads them
behind one score of each prompt, which the caller names, and takes them for all.

Legend: N prompts, S scores, D tokens of a score, H tokens of the head, T of the tail, L = H + D, K suffix tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from mriqa.answers import AnswerFormat
from mriqa.shared_prefix.forward import suffix_log_probs
from mriqa.shared_prefix.suffix import Suffix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ScoreTreeError(ValueError):
    """An answer format or a tokenizer whose scores are no tree of single digits, as half a sentence.

    Never reaches a person: whoever builds the tree turns it into a refusal that names its own cure.
    """


@dataclass(frozen=True)
class ScoreTree:
    """Every well-formed score of an answer format in a model's tokens.

    Attributes:
        values_S: the scores in 1..5, lowest first.
        head_ids: (H,) tokens between the prompt and the score.
        score_ids_SD: tokens of each score, one per character.
        tail_ids: (T,) tokens between the score and the end of the turn.
    """

    values_S: np.ndarray
    head_ids: torch.Tensor
    score_ids_SD: torch.Tensor
    tail_ids: torch.Tensor

    @classmethod
    def build(cls, tokenizer: PreTrainedTokenizerBase, answer_format: AnswerFormat, prompt: str) -> ScoreTree:
        """The tree of the answers to `prompt`, the text that the model continues.

        Raises ScoreTreeError where the answers cannot be listed, where the characters of a score are not tokens of
        their own, or where an answer's tokens merge with the prompt's.
        """
        if reason := answer_format.why_not_listed:
            raise ScoreTreeError(f"goes through all answers, but {reason}")
        texts = answer_format.score_texts()
        answers = answer_format.all_answers()
        head, scores, tail = _split_tokens(tokenizer, answers, texts)
        _check_continues(tokenizer, prompt, answers)
        return cls(
            values_S=np.array([answer_format.parse(answer) for answer in answers]),
            head_ids=torch.tensor(head, dtype=torch.long),
            score_ids_SD=torch.tensor(scores),
            tail_ids=torch.tensor(tail, dtype=torch.long),
        )

    def trie(self) -> tuple[Suffix, torch.Tensor]:
        """Heads and scores as a suffix of one prompt, and the columns (S, L) of each score's tokens in it."""
        head = self.head_ids.tolist()
        return Suffix.trie([head + score for score in self.score_ids_SD.tolist()])


class AnswerTree:
    """The whole answers of a `ScoreTree`: head, score, tail and end.

    Args:
        tree: the scores.
        end_ids: the tokens of which any one ends an answer.
    """

    def __init__(self, tree: ScoreTree, end_ids: Sequence[int]) -> None:
        self.tree = tree
        end_ids = list(dict.fromkeys(end_ids))  # a model's settings may name one twice
        self._trie, self._paths_SL = tree.trie()
        n_trie, n_tail = self._trie.ids_NK.shape[1], len(tree.tail_ids)
        # Behind the trie: the last digit of the score to end behind, once more in a column of its own, so that the
        # other 400 last digits stay leaves, which needn't run through the model; then the tail, and the ends as leaves.
        chain = range(n_trie, n_trie + n_tail)
        self._behind_parents = torch.tensor([*chain, *([n_trie + n_tail] * len(end_ids))])
        self._behind_ids = torch.cat([tree.tail_ids, torch.tensor(end_ids)])
        self._tail = slice(n_trie + 1, n_trie + 1 + n_tail)

    def log_probs(
        self,
        model: nn.Module,
        prompt_inputs: Mapping[str, Any],
        ended_N: torch.Tensor,
        temperature: float = 1.0,
    ) -> torch.Tensor:
        """Log-probability of the whole answer that states each score, (N, S) in float32, with gradients.

        Its `exp` sums to the probability of a well-formed answer, at most 1.

        Args:
            model, prompt_inputs, temperature: see `suffix_log_probs`.
            ended_N: the score, as an index into `tree.values_S`, behind which each prompt's tail and end are read.
        """
        suffix = self.suffix(ended_N.cpu()).to(prompt_inputs["input_ids"].device)
        logp_NK, _ = suffix_log_probs(model, prompt_inputs, suffix, temperature)
        scores_NS = logp_NK[:, self._paths_SL.to(logp_NK.device)].sum(-1)
        ending_N = logp_NK[:, self._tail].sum(-1) + logp_NK[:, self._tail.stop :].logsumexp(-1)
        return scores_NS + ending_N[:, None]

    def suffix(self, ended_N: torch.Tensor) -> Suffix:
        """The tree behind N prompts: the trie's columns, the last digit of score `ended_N` again, tail, ends."""
        n_prompts = len(ended_N)
        trie = self._trie.expand(n_prompts)
        last_N1 = self._paths_SL[ended_N, -1:]
        ids_NK = torch.cat(
            [trie.ids_NK, trie.ids_NK[0, last_N1], self._behind_ids.expand(n_prompts, -1)],
            dim=1,
        )
        parents_NK = torch.cat(
            [trie.parents_NK, trie.parents_NK[0, last_N1], self._behind_parents.expand(n_prompts, -1)], dim=1
        )
        return Suffix(ids_NK, parents_NK, torch.ones_like(ids_NK, dtype=torch.bool))


def _split_tokens(
    tokenizer: PreTrainedTokenizerBase, answers: list[str], texts: list[str]
) -> tuple[list[int], list[list[int]], list[int]]:
    """Tokens before the score, of each score, and behind it, once it is sure that each character is its own token."""
    ids = tokenizer(answers, add_special_tokens=False)["input_ids"]
    head = list(commonprefix(ids))
    tail = list(commonprefix([row[::-1] for row in ids]))[::-1]
    scores = [row[len(head) : len(row) - len(tail)] for row in ids]
    token_of: dict[str, int] = {}
    single = all(
        len(row) == len(text) == len(texts[0])
        and all(token_of.setdefault(character, token) == token for character, token in zip(text, row, strict=True))
        for row, text in zip(scores, texts, strict=True)
    )
    if not single:
        raise ScoreTreeError(
            "needs a tokenizer that writes every score in the same number of tokens, one for each character, and this "
            "model's does not"
        )
    return head, scores, tail


def _check_continues(tokenizer: PreTrainedTokenizerBase, prompt: str, answers: list[str]) -> None:
    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    for answer in (answers[0], answers[len(answers) // 2], answers[-1]):
        if encode(prompt + answer) != encode(prompt) + encode(answer):
            raise ScoreTreeError("needs answer tokens that don't merge with the prompt's, and this model's do")
