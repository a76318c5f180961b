"""What policy training needs to know beside TRL's options, and what follows from it: rewards and trainer class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mriqa.reward
from mriqa.answers import AnswerFormat
from mriqa.errors import SettingsError
from mriqa.policy.exact import ExactScoreTrainer, check_exact, images_per_batch
from mriqa.policy.run_trainer import RunTrainer
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.training.checks import check_rollout_size, check_set_size
from mriqa.training.config import RunArguments, ScoreGRPOConfig
from mriqa.training.mixing import MixArguments
from mriqa.training.policy_head import AuxiliaryArguments


@dataclass
class MRGRPOArguments(MixArguments, AuxiliaryArguments, RunArguments):
    """What MR-GRPO needs to know beside TRL's options."""

    reward: list[str] = field(
        default_factory=lambda: ["margin"],
        metadata={
            "help": "Reward functions, summed: margin, ranking, regression, format, or a function of your own as "
            "path/to/file.py:function. Weigh them with --reward_weights."
        },
    )
    reward_options: str | None = field(
        default=None,
        metadata={"help": 'Options by reward, a mapping in YAML or JSON here: \'{"margin": {"scale": "sigma"}}\'.'},
    )
    comparison: str = field(
        default="global",
        metadata={"help": "Compare the images of the whole rollout ('global') or of each process ('local')."},
    )

    estimator: str = field(
        default="sampled",
        metadata={
            "help": "'sampled' answers, G an image (GRPO), or the 'exact' expectation of the reward over all scores, "
            "for prompt modes without thinking; images_per_batch then says how many images a batch holds."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.reward, str):  # one name in a YAML file
            self.reward = [self.reward]


def load_rewards(
    names: Sequence[str], options: dict[str, dict[str, object]], answer_format: AnswerFormat
) -> list[mriqa.reward.Reward]:
    """The reward functions by name, which read answers the way the model is asked to write them."""
    common: dict[str, Any] = {"answer_format": answer_format}
    return [mriqa.reward.load(name, **{**common, **options.get(name, {})}) for name in names]


def choose_estimator(
    arguments: MRGRPOArguments, rewards: Sequence[mriqa.reward.Reward], config: ScoreGRPOConfig, images: int
) -> tuple[type[RunTrainer], dict[str, Any]]:
    """The trainer class of an estimator and how it judges. Raises SettingsError for batches that teach it nothing."""
    processes, steps = config.world_size, config.steps_per_generation or 1
    if arguments.estimator == "sampled":
        check_rollout_size(
            images=images,
            num_generations=config.num_generations or 0,
            per_device_batch=config.per_device_train_batch_size,
            steps_per_generation=steps,
            processes=processes,
            comparison=arguments.comparison,
        )
        return ScoreGRPOTrainer, {"reward_funcs": list(rewards)}
    if arguments.estimator != "exact":
        raise SettingsError(f'estimator is "sampled" or "exact", not "{arguments.estimator}".')
    check_exact(config)
    config.images_per_batch = images_per_batch(config)
    check_set_size(
        images=images,
        images_per_batch=config.images_per_batch,
        steps_per_generation=steps,
        processes=processes,
        comparison=arguments.comparison,
    )
    return ExactScoreTrainer, {"reward_table": mriqa.reward.reward_table(rewards, config.reward_weights)}
