"""Token credit: the tokens that state the score answer for the score, all tokens for the form of the answer.

GRPO gives every token of a completion the same advantage. In the thinking mode a score is a handful of tokens among
hundreds, and whether its margins are right says little about each word before it. With `--token_credit score` the
advantage of the format reward goes to all tokens, and that of the other rewards to the score's tokens only. TRL's
advantage is a sum over rewards once its divisor is fixed, so the two parts add up to it: a score token keeps exactly
the advantage it has under "uniform", another token the format's part of it. A completion without a score has no token
to blame more than others, and keeps its advantage on all.

Legend: B completions of this process, A those of all processes, C completion tokens, F reward functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.utils import nanstd

from mriqa.answers import AnswerFormat
from mriqa.policy.checks import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT_REWARD = "format"
CREDITS = ("uniform", "score")


class TokenCredit:
    """Mixin for GRPOTrainer, governed by `args.token_credit`; `answer_format` says where the score stands.

    Raises SettingsError for an unknown `token_credit`, and for "score" with `multi_objective_aggregation`
    "normalize_then_sum", whose advantages are no such sum.
    """

    answer_format: AnswerFormat
    _rewards_AF: torch.Tensor  # of the rollout, for all processes (once or, where it was gathered before, repeatedly)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.token_credit not in CREDITS:
            raise SettingsError(f"token_credit is one of {', '.join(CREDITS)}, not {self.args.token_credit!r}.")
        if self.args.token_credit == "score" and self.multi_objective_aggregation != "sum_then_normalize":
            raise SettingsError(
                'token_credit "score" needs rewards that are summed before they are normalised: leave out '
                "--multi_objective_aggregation, or use token_credit uniform."
            )

    def _calculate_rewards(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._rewards_AF = super()._calculate_rewards(*args, **kwargs)  # type: ignore[misc]
        return self._rewards_AF

    def _generate_and_score_completions(self: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        rollout = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        if self.args.token_credit == "uniform":
            return rollout
        n_own = len(inputs)
        rewards_AF = self._rewards_AF[: n_own * self.accelerator.num_processes]
        weights_F = self.reward_weights.to(rewards_AF.device)
        is_format_F = torch.tensor([name == FORMAT_REWARD for name in self.reward_func_names], device=rewards_AF.device)
        format_A = format_advantages(rewards_AF * weights_F, is_format_F, self.num_generations, self.scale_rewards)
        start = self.accelerator.process_index * n_own
        ids_BC, mask_BC = rollout["completion_ids"], rollout["completion_mask"]
        scores_BC = score_tokens(ids_BC, mask_BC, self._tokenizer, self.answer_format)
        total_B = rollout["advantages"]
        credited_BC = torch.where(scores_BC, total_B[:, None], format_A[start : start + n_own, None].to(total_B))
        return {**rollout, "advantages": credited_BC}


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
    ids_BC: torch.Tensor, mask_BC: torch.Tensor, tokenizer: PreTrainedTokenizerBase, answer_format: AnswerFormat
) -> torch.Tensor:
    """Which tokens answer for the score (B, C): those that write its characters, or all where there is no score."""
    found_BC = torch.ones_like(ids_BC, dtype=torch.bool)
    for row, (ids_C, mask_C) in enumerate(zip(ids_BC.cpu(), mask_BC.cpu(), strict=True)):
        span = score_token_span(ids_C[mask_C.bool()].tolist(), tokenizer, answer_format)
        if span is not None:
            found_BC[row] = False
            found_BC[row, slice(*span)] = True
    return found_BC


def score_token_span(
    ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, answer_format: AnswerFormat
) -> tuple[int, int] | None:
    """The first token of a completion that writes part of its score, and the one behind the last; None without one.

    A tokenizer decodes, but keeps no offsets into what a model wrote, so the beginnings of the completion are decoded:
    the score's first character is written by the last token of the shortest beginning that shows it.
    """

    def decode(count: int) -> str:
        return str(tokenizer.decode(list(ids[:count]), skip_special_tokens=True))

    text = decode(len(ids))
    span = answer_format.read(text).span
    if span is None:
        return None

    def tokens_up_to(characters: int) -> int:
        low, high = 0, len(ids)  # bisection: a beginning that shows these characters still does when it grows
        while low < high:
            middle = (low + high) // 2
            if decode(middle)[:characters] == text[:characters]:
                high = middle
            else:
                low = middle + 1
        return low

    return tokens_up_to(span[0] + 1) - 1, tokens_up_to(span[1])
