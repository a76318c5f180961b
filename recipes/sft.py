"""Warm start: teach a vision-language model to answer an image with a score, from (image, answer) pairs.

    accelerate launch recipes/sft.py --config recipes/configs/tiny_sft.yaml
    accelerate launch recipes/sft.py --model Qwen/Qwen3-VL-2B-Instruct --train_manifest koniq/train.jsonl \
        --val_manifest koniq/val.jsonl --max_pixels 196608 --target sampled

A policy that never writes a well-formed answer, or always the same one, gives policy optimisation nothing to compare.
`--target sampled` states a score drawn from N(mos, std) instead of the MOS, anew in every epoch, so that the model
learns the spread of human opinion as well. Large instruction-tuned models need no warm start. Every option below can
stand in the YAML file given by --config, and the command line overrides it.

The run writes to output_dir what recipes/mr_grpo.py writes; give its model/ folder to that recipe as --model.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mriqa.errors import SettingsError
from mriqa.policy.run_trainer import ScoreSFTTrainer
from mriqa.training.config import RunArguments, ScoreSFTConfig
from mriqa.training.launching import exit_code, parse
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
from mriqa.training.training_sets import answer_dataset
from mriqa.training.validating import validation_on
from mriqa.training.vision import jitter_features

WARM_START_CONFIG = Path(__file__).parent / "configs" / "tiny_sft.yaml"


@dataclass
class SFTArguments(RunArguments):
    """What the warm start needs to know beside TRL's options."""

    target: str = field(
        default="mos",
        metadata={"help": "Score in the answer: the 'mos', or one 'sampled' from N(mos, std) at every access."},
    )
    feature_jitter: float = field(
        default=0.0,
        metadata={
            "help": "Shift each channel of an image's vision features by noise of this deviation while training, a "
            "regulariser; for models with a multi_modal_projector (FastVLM, LLaVA)."
        },
    )


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[SFTArguments, ScoreSFTConfig]:
    """Options from the command line and the YAML file it names. Raises SettingsError for what cannot be right."""
    arguments, config = parse((SFTArguments, ScoreSFTConfig), __doc__, argv)
    return arguments, config


def train(arguments: SFTArguments, config: ScoreSFTConfig) -> TrainingResult:
    """Run the recipe. Raises a UserError for settings, data, a model or a disk that won't do."""
    started = time.monotonic()
    if uses_embedded(arguments):
        from mriqa.training.embedded_runs import fill_in_embedded

        arguments = fill_in_embedded(arguments)
    train_rows = read_images(arguments, arguments.train_manifest, "train_manifest")
    val_rows = read_validation_images(arguments, config, train_rows)
    if arguments.target not in ("mos", "sampled"):
        raise SettingsError(f'target is "mos" or "sampled", not "{arguments.target}".')
    without_std = [row for row in train_rows if row.std is None]
    if arguments.target == "sampled" and without_std:
        raise SettingsError(
            f'target "sampled" needs the standard deviation of each image\'s ratings, and {len(without_std)} of '
            f'{len(train_rows)} training images have none (the first is {without_std[0].id}): use target "mos".'
        )
    answer_format = read_format(arguments)
    validation = validation_on(val_rows, answer_format, arguments)
    preflight = Preflight(PlannedRun(arguments, config, train_rows, answer_format, estimator="supervised"))
    preflight.before_loading()
    checkpoint = open_run(arguments, config)

    model, processor = load_policy(arguments)
    if arguments.feature_jitter:
        jitter_features(model, arguments.feature_jitter)
    trainer = ScoreSFTTrainer(
        model=model,
        processing_class=processor,
        args=config,
        train_dataset=answer_dataset(train_rows, answer_format, arguments.target),
        eval_dataset=answer_dataset(val_rows, answer_format) if val_rows else None,
        peft_config=lora_config(arguments),
        answer_format=answer_format,
        validation=validation,
        views=saved_views(arguments),
    )
    preflight.before_training(trainer)
    show_progress(trainer)
    trainer.train(resume_from_checkpoint=checkpoint)
    return close_run(trainer, config, started)


def warm_start(arguments: RunArguments, run: Path) -> TrainingResult:
    """Train the embedded model that `arguments` describe by configs/tiny_sft.yaml, in the folder `run`."""
    options = ["--embedded_dir", arguments.embedded_dir, "--output_dir", str(run), "--overwrite"]
    options += ["--preflight", arguments.preflight]
    options += ["--photos", arguments.photos] if arguments.photos else []
    options += ["--embedded_set", arguments.embedded_set]
    options += ["--embedded_images", str(arguments.embedded_images)] if arguments.embedded_images else []
    options += ["--embedded_distortions", *arguments.embedded_distortions] if arguments.embedded_distortions else []
    return train(*parse_arguments(["--config", str(WARM_START_CONFIG), *options]))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when trained, 2 with one sentence on stderr for settings, data or a disk that won't do."""
    return exit_code(lambda: train(*parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
