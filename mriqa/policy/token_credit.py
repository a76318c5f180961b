"""Token credit: the tokens that state the score answer for the score, all tokens for the form of the answer.

GRPO gives every token of a completion the same advantage. In the thinking mode a score is a handful of tokens among
hundreds, and whether its margins are right says little about each word before it. With `--token_credit score` the
advantage of the format reward goes to all tokens, and that of the other rewards to the score's tokens only. TRL's
advantage is a sum over rewards once its divisor is fixed, so the two parts add up to it: a score token keeps exactly
the advantage it has under "uniform", another token the format's part of it. A completion without a score has no token
to blame more than others, and keeps its advantage on all.

Legend: R completions of this process, A those of all processes, C completion tokens, F reward functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.utils import nanstd

from mriqa.answers import Answer
from mriqa.errors import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT_REWARD = "format"
CREDITS = ("uniform", "score")


@dataclass(frozen=True)
class Judged:
    """What the rewards were given in a rollout, and what they said.

    Attributes:
        texts, answers: the R completions of this process and what each says; read once, when they were sampled.
        weighted_AF: each reward times its weight, NaN where it didn't apply; whole groups of rows, in process order.
        is_format_F: which of the reward functions judge the form.
        first_row: the first row of this process among those of all.
    """

    texts: Sequence[str]
    answers: Sequence[Answer]
    weighted_AF: torch.Tensor
    is_format_F: torch.Tensor
    first_row: int


def check_credit(token_credit: str, aggregation: str) -> None:
    """Raises SettingsError for an unknown `token_credit`, and for "score" with rewards whose advantages are no sum."""
    if token_credit not in CREDITS:
        raise SettingsError(f"token_credit is one of {', '.join(CREDITS)}, not {token_credit!r}.")
    if token_credit == "score" and aggregation != "sum_then_normalize":
        raise SettingsError(
            'token_credit "score" needs rewards that are summed before they are normalised: leave out '
            "--multi_objective_aggregation, or use token_credit uniform."
        )


def credit_score_tokens(
    rollout: Mapping[str, Any], judged: Judged, tokenizer: PreTrainedTokenizerBase, num_generations: int, scale: str
) -> torch.Tensor:
    """Advantages (R, C): TRL's for the tokens that state the score, the format's part of it for the others.

    Args:
        rollout: TRL's, with advantages (R,), completion_ids and completion_mask (R, C).
        judged: the same rollout's answers and rewards.
        num_generations, scale: TRL's settings num_generations and scale_rewards.
    """
    format_A = format_advantages(judged.weighted_AF, judged.is_format_F, num_generations, scale)
    ids_RC, mask_RC, total_R = (rollout[name] for name in ("completion_ids", "completion_mask", "advantages"))
    stated_RC = score_tokens(ids_RC, mask_RC, tokenizer, judged.texts, judged.answers)
    format_R = format_A[judged.first_row : judged.first_row + len(total_R)].to(total_R)
    return torch.where(stated_RC, total_R[:, None], format_R[:, None])


def format_advantages(
    weighted_AF: torch.Tensor, is_format_F: torch.Tensor, num_generations: int, scale: str
) -> torch.Tensor:
    """The format rewards' part of TRL's advantages (A,).

    Args:
        weighted_AF: each reward times its weight, NaN where it didn't apply; whole groups of `num_generations` rows.
        is_format_F: which of the functions judge the form.
        scale: TRL's `scale_rewards`: what the sum of the rewards, and so each part, is divided by.
    """
    unscorable_A = weighted_AF.isnan().all(dim=1)
    total_NG, format_NG = (
        part_AF.nansum(dim=1).masked_fill(unscorable_A, torch.nan).view(-1, num_generations)
        for part_AF in (weighted_AF, weighted_AF[:, is_format_F])
    )
    advantages_NG = format_NG - format_NG.nanmean(dim=1, keepdim=True)
    if scale == "group":
        advantages_NG = advantages_NG / (nanstd(total_NG, dim=1, keepdim=True) + 1e-4)
    elif scale == "batch":
        advantages_NG = advantages_NG / (nanstd(total_NG) + 1e-4)
    return advantages_NG.flatten().nan_to_num(nan=0.0)


def score_tokens(
    ids_RC: torch.Tensor,
    mask_RC: torch.Tensor,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    answers: Sequence[Answer],
) -> torch.Tensor:
    """Which tokens answer for the score (R, C): those that write its characters, or all where there is no score."""
    found_RC = torch.ones_like(ids_RC, dtype=torch.bool)
    for row, (ids_C, mask_C) in enumerate(zip(ids_RC.cpu(), mask_RC.cpu(), strict=True)):
        ids, span = ids_C[mask_C.bool()].tolist(), answers[row].span
        written = str(tokenizer.decode(ids, skip_special_tokens=True))
        before = written.find(texts[row])  # a chat template's parser may have stripped the completion
        if span is not None and before >= 0:
            place = tokens_of_span(ids, tokenizer, written, (span[0] + before, span[1] + before))
            found_RC[row] = False
            found_RC[row, slice(*place)] = True
    return found_RC


def tokens_of_span(
    ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, text: str, span: tuple[int, int]
) -> tuple[int, int]:
    """The first token of a completion that writes part of `span` of its `text`, and the one behind the last.

    A tokenizer decodes, but keeps no offsets into what a model wrote, so the beginnings of the completion are decoded:
    the span's first character is written by the last token of the shortest beginning that shows it.
    """

    def tokens_up_to(characters: int) -> int:
        low, high = 0, len(ids)  # bisection: a beginning that shows these characters still does when it grows
        while low < high:
            middle = (low + high) // 2
            written = str(tokenizer.decode(list(ids[:middle]), skip_special_tokens=True))
            if written[:characters] == text[:characters]:
                high = middle
            else:
                low = middle + 1
        return low

    return tokens_up_to(span[0] + 1) - 1, tokens_up_to(span[1])
