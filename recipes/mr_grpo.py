"""Train a vision-language model to score images by policy optimisation with margin rewards (MR-IQA).

    accelerate launch recipes/mr_grpo.py --config recipes/configs/tiny.yaml
    accelerate launch recipes/mr_grpo.py --config recipes/configs/qwen3_vl_2b_koniq_lora.yaml
    torchrun --nproc_per_node 2 recipes/mr_grpo.py --config recipes/configs/tiny.yaml        # several processes on CPU

The 2B model of MR-IQA's table is recipes/configs/qwen3_vl_2b_koniq.yaml; recipes/compare_rewards.py is its comparison
of rewards.

The policy sees an image, samples G scores for it, and each score is rewarded for how well its margins to the other
images of the comparison set match the human margins. A comparison set has generation_batch_size / num_generations
images, where generation_batch_size = per_device_train_batch_size × steps_per_generation × processes, in completions;
`--comparison global` compares all of them, `local` (as published) those of each process. Every option below can stand
in the YAML file given by --config, and the command line overrides it.

Before the first update a pre-flight looks at data, memory and log-probabilities, and refuses a run with a problem;
`mriqa check` shows it alone, `--preflight off` leaves it out.

The run writes to output_dir: model/ (the best by validation SRCC, for `mriqa score --model`), checkpoint-N/,
training_log.json and resolved_config.yaml, which repeats the run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sft import warm_start

from mriqa.errors import SettingsError
from mriqa.training.checks import check_rewards
from mriqa.training.config import ScoreGRPOConfig, parse_options
from mriqa.training.launching import exit_code, parse
from mriqa.training.mixing import open_mix
from mriqa.training.policy_head import auxiliary_on, check_aux
from mriqa.training.policy_options import MRGRPOArguments, choose_estimator, load_rewards
from mriqa.training.preflight.planned_run import PlannedRun
from mriqa.training.preflight.preflight_run import Preflight
from mriqa.training.runs import (
    TrainingResult,
    close_run,
    load_policy,
    lora_config,
    open_run,
    read_format,
    read_images,
    read_validation_images,
    saved_views,
    uses_embedded,
)
from mriqa.training.training_progress import show_progress
from mriqa.training.training_sets import policy_dataset
from mriqa.training.validating import validation_on


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[MRGRPOArguments, ScoreGRPOConfig]:
    """Options from the command line and the YAML file it names. Raises SettingsError for what cannot be right."""
    arguments, config = parse((MRGRPOArguments, ScoreGRPOConfig), __doc__, argv)
    return arguments, config


def train(arguments: MRGRPOArguments, config: ScoreGRPOConfig) -> TrainingResult:
    """Run the recipe. Raises a UserError for settings, data, a model or a disk that won't do."""
    started = time.monotonic()

    # Data and settings first: whatever cannot train is refused before a model is loaded.
    if arguments.mix:
        arguments = replace(arguments, train_manifest=arguments.mix)
    if uses_embedded(arguments):
        from mriqa.training.embedded_runs import fill_in_embedded

        arguments = fill_in_embedded(arguments, warm_start)
    mix = open_mix(arguments)
    train_rows = mix.rows if mix else read_images(arguments, arguments.train_manifest, "train_manifest")
    val_rows = read_validation_images(arguments, config, train_rows)
    reward_options = parse_options(arguments.reward_options, "reward_options")
    check_rewards(arguments.reward, reward_options, train_rows)
    check_aux(arguments, config)
    if config.use_vllm and find_spec("vllm") is None:
        raise SettingsError("--use_vllm needs vLLM: pip install 'mriqa[vllm]' on Linux, or leave out --use_vllm.")
    if config.beta and not arguments.lora_r and (Path(arguments.model) / "adapter_config.json").is_file():
        raise SettingsError(
            f"{arguments.model} is an adapter, and the KL penalty would refer to its base model instead of it: "
            "merge it first, go on with LoRA (--lora_r), or set --beta 0."
        )
    answer_format = read_format(arguments)
    rewards = load_rewards(arguments.reward, reward_options, answer_format)
    trainer_class, judging = choose_estimator(arguments, rewards, config, len(train_rows))
    validation = validation_on(val_rows, answer_format, arguments)
    estimator: Literal["exact", "sampled"] = "exact" if arguments.estimator == "exact" else "sampled"
    preflight = Preflight(
        PlannedRun(arguments, config, train_rows, answer_format, estimator=estimator, rewards=rewards)
    )
    preflight.before_loading()
    checkpoint = open_run(arguments, config)

    # Model, trainer, training.
    model, processor = load_policy(arguments)
    trainer = trainer_class(
        model=model,
        processing_class=processor,
        args=config,
        train_dataset=policy_dataset(train_rows, answer_format),
        eval_dataset=policy_dataset(val_rows, answer_format) if val_rows else None,
        peft_config=lora_config(arguments),
        answer_format=answer_format,
        comparison=arguments.comparison,
        validation=validation,
        views=saved_views(arguments),
        auxiliary=auxiliary_on(arguments, config, model, train_rows),
        **judging,
    )
    preflight.before_training(trainer)
    if mix:
        mix.attach(trainer, checkpoint)
    show_progress(trainer)
    trainer.train(resume_from_checkpoint=checkpoint)
    return close_run(trainer, config, started)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when trained, 2 with one sentence on stderr for settings, data or a disk that won't do."""
    return exit_code(lambda: train(*parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
