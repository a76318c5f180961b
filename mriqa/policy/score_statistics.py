"""What one rollout of scores looks like: how many parsed, how widely they spread, how many groups teach nothing.

Legend: N images, G completions per image, A all completions, F reward functions. `scores_NG` holds parsed
scores (1..5), NaN where nothing parsed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mriqa.errors import SettingsError


def score_statistics(scores_NG: torch.Tensor, mos_N: torch.Tensor, rewards_NG: torch.Tensor) -> dict[str, float]:
    """Summarise one comparison batch as plain numbers for the training log.

    Args:
        scores_NG: (N, G) parsed scores, NaN where nothing parsed.
        mos_N: (N,) human mean opinion scores.
        rewards_NG: (N, G) total reward of each completion.

    Returns:
        `parse_rate`: share of completions with a score; `unique_ratio`: distinct scores per parsed completion of an
        image, averaged over images (1/G means that the policy no longer explores); `zero_advantage_share`: share of
        images whose completions all earned the same; `predicted_std`, `predicted_mean`: over images, of the group
        means; `human_std`, `human_mean`: the same of the MOS; `within_image_std`: sample standard deviation of one
        image's scores, averaged over images. A number that has nothing to stand on is NaN.
    """
    parsed_NG = scores_NG.isfinite()
    means_N = scores_NG.nanmean(dim=1)
    seen_N = means_N.isfinite()
    groups = [scores[parsed] for scores, parsed in zip(scores_NG, parsed_NG, strict=True)]
    spread_N = rewards_NG.nan_to_num().amax(dim=1) - rewards_NG.nan_to_num().amin(dim=1)
    return {
        "parse_rate": parsed_NG.float().mean().item(),
        "unique_ratio": _mean([group.unique().numel() / group.numel() for group in groups if group.numel()]),
        "zero_advantage_share": (spread_N < 1e-8).float().mean().item(),
        "predicted_mean": means_N[seen_N].mean().item(),
        "predicted_std": means_N[seen_N].std(correction=0).item() if seen_N.any() else float("nan"),
        "human_mean": mos_N.mean().item(),
        "human_std": mos_N.std(correction=0).item(),
        "within_image_std": _mean([group.std(correction=1).item() for group in groups if group.numel() > 1]),
    }


def check_rewards_finite(rewards_AF: torch.Tensor, names: Sequence[str], step: int) -> None:
    """Raises SettingsError for infinite rewards, whose advantages would silently be 0; NaN means not applicable."""
    for name, infinite_A in zip(names, rewards_AF.isinf().unbind(dim=1), strict=True):
        if infinite_A.any():
            raise SettingsError(
                f"The reward {name} is infinite for {int(infinite_A.sum())} of {len(infinite_A)} answers at step "
                f"{step}; give finite rewards, or None where one does not apply."
            )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
