"""Let a model write well-formed answers only: a mask over the tokens that continue some answer.

An answer without reasoning states one of a few hundred scores (401 from 1.00 to 5.00), so that all answers can be
listed. After each token only those are allowed that lead on to some answer, and behind a whole answer only the end.
Among the allowed tokens the model's odds stay as they are.

Training samples answers as the format and the tokenizer write them: all digits, and one way to split them into tokens.
Scoring lets a score have fewer digits and an answer be split in any way, as structured outputs in vLLM do, so that
greedy decoding takes the same way here and there.

Legend: R rows, P prompt tokens, T tokens so far, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from mriqa.answers import AnswerFormat
from mriqa.errors import UserError

Continuations = Callable[[tuple[int, ...]], list[int]]
"""The tokens that may follow those written so far; empty where no answer begins so."""


class GrammarError(UserError, ValueError):
    """Answers that cannot be held to a grammar, as one sentence with the cure."""


@dataclass(frozen=True)
class AnswerGrammar:
    """What may follow each beginning of an answer.

    Attributes:
        allowed: the token ids that may follow those written so far.
        longest: tokens of the longest answer with its end.
    """

    allowed: Continuations
    longest: int

    @classmethod
    def build(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        answer_format: AnswerFormat,
        end_ids: Sequence[int],
        *,
        any_length: bool = False,
        any_split: bool = False,
    ) -> AnswerGrammar:
        """The grammar of a format's answers in a model's tokens.

        Args:
            tokenizer, answer_format: whose tokens and whose answers.
            end_ids: the tokens of which any one ends an answer.
            any_length: let scores have fewer digits than the format writes, too: "3.5" beside "3.50".
            any_split: let an answer be split into tokens in any way, not only as the tokenizer does it.

        Raises GrammarError for a format whose answers think first or are too many to list, and, without `any_split`,
        for a tokenizer that loses part of an answer.
        """
        if reason := answer_format.why_not_listed:
            raise GrammarError(
                f"constrain_answers lists every answer, but {reason}: leave out --constrain_answers, or use a prompt "
                "mode without thinking and with few decimals."
            )
        answers = answer_format.all_answers(any_length)
        if any_split:
            return cls(_any_split(tokenizer, answers, end_ids), 1 + max(map(len, answers)))
        sequences = tokenizer(answers, add_special_tokens=False)["input_ids"]
        for answer, decoded in zip(answers, tokenizer.batch_decode(sequences, skip_special_tokens=True), strict=True):
            if answer_format.parse(decoded) != answer_format.parse(answer):
                raise GrammarError(
                    f"constrain_answers needs a tokenizer that gives answers back, and this model's reads {answer!r} "
                    f"back as {decoded!r}: leave out --constrain_answers."
                )
        return cls(_one_split(sequences, end_ids), 1 + max(map(len, sequences)))

    def processor(self, prompt_length: int) -> LogitsProcessor:
        """The mask as a logits processor for rows whose first P = `prompt_length` tokens are the prompt."""
        return _Mask(self, prompt_length)


def _one_split(sequences: Iterable[Sequence[int]], end_ids: Sequence[int]) -> Continuations:
    """A trie of token sequences, whatever the tokenizer makes of digits."""
    following: dict[tuple[int, ...], set[int]] = {}
    for sequence in sequences:
        for length, token in enumerate(sequence):
            following.setdefault(tuple(sequence[:length]), set()).add(token)
        following.setdefault(tuple(sequence), set()).update(end_ids)
    trie = {beginning: sorted(tokens) for beginning, tokens in following.items()}
    return lambda written: trie.get(written, [])


def _any_split(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], end_ids: Sequence[int]) -> Continuations:
    """By the text that the tokens make, with every token of the vocabulary that is a piece of some answer."""
    whole = frozenset(answers)
    beginnings = frozenset(text[:end] for text in whole for end in range(len(text) + 1))
    pieces = {text[start:] for text in beginnings for start in range(len(text))}
    tokens_of: dict[str, list[int]] = defaultdict(list)
    for token in range(len(tokenizer)):
        text = str(tokenizer.decode([token]))
        if text in pieces:
            tokens_of[text].append(token)

    @cache
    def allowed(written: tuple[int, ...]) -> list[int]:
        so_far = str(tokenizer.decode(list(written), skip_special_tokens=True))
        following = [tokens for text, tokens in tokens_of.items() if so_far + text in beginnings]
        end = list(end_ids) if so_far in whole else []
        # Where nothing leads on, behind an end or where a vocabulary lacks a piece, the answer ends.
        return [token for tokens in following for token in tokens] + end or list(end_ids)

    return allowed


class _Mask(LogitsProcessor):
    """Rows that no answer begins like have ended, and are left alone: what they draw is thrown away."""

    def __init__(self, grammar: AnswerGrammar, prompt_length: int):
        self.grammar, self.prompt_length = grammar, prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Logits (R, V) for tokens (R, T), with -inf for every token that continues no answer."""
        rows, tokens = [], []
        barred_R = torch.zeros(len(scores), dtype=torch.bool)
        for row, written in enumerate(input_ids[:, self.prompt_length :].tolist()):
            allowed = self.grammar.allowed(tuple(written))
            barred_R[row] = bool(allowed)
            rows += [row] * len(allowed)
            tokens += allowed
        barred_RV = barred_R.to(scores.device)[:, None].repeat(1, scores.shape[1])
        barred_RV[rows, tokens] = False
        masked_RV: Any = scores.masked_fill(barred_RV, -torch.inf)  # a FloatTensor, which torch does not declare
        return masked_RV
