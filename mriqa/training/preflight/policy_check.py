"""The pre-flight of a policy run alone: read its data, build its trainer, look, and train nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mriqa.training.checks import check_rewards
from mriqa.training.config import ScoreGRPOConfig, parse_options
from mriqa.training.launching import parse
from mriqa.training.mixing import open_mix
from mriqa.training.policy_options import MRGRPOArguments, choose_estimator, load_rewards
from mriqa.training.preflight.check_table import BEFORE_LOADING, ON_THE_TRAINER
from mriqa.training.preflight.findings import Finding, problems_of
from mriqa.training.preflight.planned_run import PlannedRun
from mriqa.training.preflight.preflight_run import look_at
from mriqa.training.runs import load_policy, lora_config, read_format, read_images, uses_embedded
from mriqa.training.training_sets import policy_dataset

TOO_LARGE = "memory"  # the check whose problem keeps the model from being loaded


def check_policy(options: Sequence[str], description: str) -> list[Finding]:
    """What the checks find of the run that these options of recipes/mr_grpo.py would start; nothing is written.

    The embedded model is taken as it is before its warm start. Raises a UserError for what the recipe refuses before
    its pre-flight.
    """
    arguments, config = parse((MRGRPOArguments, ScoreGRPOConfig), description, options)
    if arguments.mix:
        arguments = replace(arguments, train_manifest=arguments.mix)
    if uses_embedded(arguments):
        from mriqa.training.embedded_runs import fill_in_embedded

        arguments = fill_in_embedded(arguments)
    mix = open_mix(arguments)
    rows = mix.rows if mix else read_images(arguments, arguments.train_manifest, "train_manifest")
    config.eval_strategy, config.eval_on_start, config.load_best_model_at_end = "no", False, False
    reward_options = parse_options(arguments.reward_options, "reward_options")
    check_rewards(arguments.reward, reward_options, rows)
    answer_format = read_format(arguments)
    rewards = load_rewards(arguments.reward, reward_options, answer_format)
    trainer_class, judging = choose_estimator(arguments, rewards, config, len(rows))

    run = PlannedRun(arguments, config, rows, answer_format, estimator=arguments.estimator, rewards=rewards)
    findings = [look_at(run, check) for check in BEFORE_LOADING]
    if TOO_LARGE in {finding.check for finding in problems_of(findings)}:
        return findings
    model, processor = load_policy(arguments)
    run.trainer = trainer_class(
        model=model,
        processing_class=processor,
        args=config,
        train_dataset=policy_dataset(rows, answer_format),
        peft_config=lora_config(arguments),
        answer_format=answer_format,
        comparison=arguments.comparison,
        **judging,
    )
    return findings + [look_at(run, check) for check in ON_THE_TRAINER]
