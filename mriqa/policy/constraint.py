"""Let the policy sample well-formed answers only: a mask over the trie of all answers' tokens.

A non-thinking answer states one of a few hundred scores (401 from 1.00 to 5.00), so all answers fit into one trie of
tokens, whatever the tokenizer makes of digits. At each step only the tokens that continue some answer are allowed, and
behind a whole answer only the end of the sequence. Among the allowed tokens the policy's own odds stay as they are.

Legend: R rows, P prompt tokens, T tokens so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from mriqa.answers import AnswerFormat
from mriqa.policy.checks import SettingsError
from mriqa.shared_prefix.score_tree import all_answers, why_not_listed


@dataclass(frozen=True)
class AnswerGrammar:
    """What may follow each beginning of an answer.

    Attributes:
        allowed: sorted token ids by the tokens written so far.
        longest: tokens of the longest answer with its end.
    """

    allowed: dict[tuple[int, ...], list[int]]
    longest: int

    @classmethod
    def build(
        cls, tokenizer: PreTrainedTokenizerBase, answer_format: AnswerFormat, eos_ids: Sequence[int]
    ) -> AnswerGrammar:
        """The grammar of a format's answers in a model's tokens, each ended by one of `eos_ids`.

        Raises SettingsError for a format whose answers think first or are too many to list, and for a tokenizer that
        loses part of an answer.
        """
        if reason := why_not_listed(answer_format):
            raise SettingsError(
                f"constrain_answers lists every answer, but {reason}: leave out --constrain_answers, or use a prompt "
                "mode without thinking and with few decimals."
            )
        answers = all_answers(answer_format)
        sequences = tokenizer(answers, add_special_tokens=False)["input_ids"]
        for answer, decoded in zip(answers, tokenizer.batch_decode(sequences, skip_special_tokens=True), strict=True):
            if answer_format.parse(decoded) != answer_format.parse(answer):
                raise SettingsError(
                    f"constrain_answers needs a tokenizer that gives answers back, and this model's reads {answer!r} "
                    f"back as {decoded!r}: leave out --constrain_answers."
                )
        return cls(_continuations(sequences, eos_ids), 1 + max(map(len, sequences)))

    def processor(self, prompt_length: int) -> LogitsProcessor:
        """The mask as a logits processor for rows whose first P = `prompt_length` tokens are the prompt."""
        return _Mask(self, prompt_length)


def _continuations(sequences: Iterable[Sequence[int]], eos_ids: Sequence[int]) -> dict[tuple[int, ...], list[int]]:
    following: dict[tuple[int, ...], set[int]] = {}
    for sequence in sequences:
        for length, token in enumerate(sequence):
            following.setdefault(tuple(sequence[:length]), set()).add(token)
        following.setdefault(tuple(sequence), set()).update(eos_ids)
    return {beginning: sorted(tokens) for beginning, tokens in following.items()}


class _Mask(LogitsProcessor):
    """Rows that have ended, which no answer begins like, are left alone: what they draw is thrown away."""

    def __init__(self, grammar: AnswerGrammar, prompt_length: int):
        self.grammar, self.prompt_length = grammar, prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Logits (R, V) for tokens (R, T), with -inf for every token that continues no answer."""
        rows, tokens = [], []
        barred_R = torch.zeros(len(scores), dtype=torch.bool)
        for row, written in enumerate(input_ids[:, self.prompt_length :].tolist()):
            allowed = self.grammar.allowed.get(tuple(written), [])
            barred_R[row] = bool(allowed)
            rows += [row] * len(allowed)
            tokens += allowed
        barred_RV = barred_R.to(scores.device)[:, None].repeat(1, scores.shape[1])
        barred_RV[rows, tokens] = False
        return scores.masked_fill(barred_RV, -torch.inf)  # type: ignore[return-value]
