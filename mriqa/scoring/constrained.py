"""Hold generated answers to the grammar, as structured outputs do in vLLM, where there are only so many answers.

After each token, those may follow that continue what is written to the beginning of some answer, whichever way the
tokenizer would split it; the end may follow a whole answer. So greedy decoding takes the same way here and there.
Answers that think first, or with many decimals, are not held to anything here: they are too many to list.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from mriqa.answers import AnswerFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@lru_cache(maxsize=2)
def answer_guide(
    tokenizer: PreTrainedTokenizerBase, answer_format: AnswerFormat, end_ids: tuple[int, ...]
) -> AnswerGuide:
    """The guide for a format whose answers can be listed; `end_ids` are the tokens of which any one ends an answer.

    Made once, as it reads the whole vocabulary.
    """
    return AnswerGuide(tokenizer, answer_format, list(end_ids))


class AnswerGuide:
    """Which tokens may come next; see `answer_guide`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, answer_format: AnswerFormat, end_ids: list[int]) -> None:
        self.tokenizer, self.end_ids = tokenizer, end_ids
        self.answers = frozenset(answer_format.short_answers())
        self.beginnings = frozenset(text[:end] for text in self.answers for end in range(len(text) + 1))
        pieces = {text[start:] for text in self.beginnings for start in range(len(text))}
        self.tokens: dict[str, list[int]] = defaultdict(list)
        for token in range(len(tokenizer)):
            text = str(tokenizer.decode([token]))
            if text in pieces:
                self.tokens[text].append(token)
        self._known: dict[tuple[int, ...], list[int]] = {}

    def allowed(self, ids_T: torch.Tensor) -> list[int]:
        """The tokens that may follow the answer's tokens so far; behind an end, an end."""
        key = tuple(ids_T.tolist())
        if key not in self._known:
            written = str(self.tokenizer.decode(ids_T, skip_special_tokens=True))
            following = [ids for text, ids in self.tokens.items() if written + text in self.beginnings]
            end = self.end_ids if written in self.answers else []
            self._known[key] = [token for ids in following for token in ids] + end or self.end_ids
        return self._known[key]
