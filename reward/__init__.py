"""Rewards for policy training: pure functions on arrays, and callables with TRL's reward contract.

    from . import load
    trainer = GRPOTrainer(reward_funcs=[load("margin", scale="unit"), load("format")], …)

| name         | rewards                                             | options                    | columns            |
|--------------|-----------------------------------------------------|----------------------------|--------------------|
| `margin`     | margins to the other images equal to human ones     | `scale`                    | mos, image_id, std |
| `ranking`    | preferring the image that people prefer             |                            | mos, image_id      |
| `regression` | the human score of the image itself                 | `form`, `threshold`, `tau` | mos                |
| `format`     | one well-formed answer, and nothing beside it       |                            |                    |

All take `mode` ("non_thinking" or "thinking") or `answer_format`, and ignore every other column; `std` is needed for
`scale="sigma"` only. `margin` and `ranking` compare the images of one call (`compares_images` is True): under several
processes TRL calls a reward with each process's slice, and whoever wants the global batch gathers before calling.
Your own: `load("my_rewards.py:function")`. `reward_table` gives the rewards of all scores a policy could write.
"""

from .comparison import ComparisonSet
from .format import FormatReward, format_reward
from .loading import REWARDS, Reward, load
from .margin import MarginReward, margin_reward
from .ranking import RankingReward, ranking_reward
from .regression import RegressionReward, regression_reward
from .score_table import RewardTable, reward_table

__all__ = [
    "REWARDS",
    "ComparisonSet",
    "FormatReward",
    "MarginReward",
    "RankingReward",
    "RegressionReward",
    "Reward",
    "RewardTable",
    "format_reward",
    "load",
    "margin_reward",
    "ranking_reward",
    "regression_reward",
    "reward_table",
]
