"""Rewards for policy training: pure functions on arrays, and callables with TRL's reward contract.

    from mriqa.reward import load
    trainer = GRPOTrainer(reward_funcs=[load("margin", scale="unit"), load("format")], …)

| name         | rewards                                             | options                    | columns            |
|--------------|-----------------------------------------------------|----------------------------|--------------------|
| `margin`     | margins to the other images equal to human ones     | `scale`                    | mos, image_id, std |
| `ranking`    | preferring the image that people prefer             |                            | mos, image_id      |
| `regression` | the human score of the image itself                 | `form`, `threshold`, `tau` | mos                |
| `format`     | one well-formed answer, and nothing beside it       |                            |                    |

All take `mode` ("non_thinking" or "thinking") or `answer_format`, and ignore every other column; `std` is needed for
`scale="sigma"` only. A column `answers` of `mriqa.answers.Answer`s spares them reading the completions again. `margin`
and `ranking` compare the images of one call (`compares_images` is True): under several processes TRL calls a reward
with each process's slice, and whoever wants the global batch gathers before calling. Your own:
`load("my_rewards.py:function")`, a function of scores as ours are (see `score_reward.py`), or one of completions.
`reward_table` gives the rewards of all scores a policy could write.
"""

from .comparison import ComparisonSet, RewardError
from .format import FormatReward, format_reward
from .loading import REWARDS, Reward, load
from .margin import margin_reward
from .ranking import ranking_reward
from .regression import regression_reward
from .score_reward import ScoreReward
from .score_table import RewardTable, reward_table

__all__ = [
    "REWARDS",
    "ComparisonSet",
    "FormatReward",
    "Reward",
    "RewardError",
    "RewardTable",
    "ScoreReward",
    "format_reward",
    "load",
    "margin_reward",
    "ranking_reward",
    "regression_reward",
    "reward_table",
]
