"""What the checks of the pre-flight look at: a run's settings and data, and its trainer once there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from mriqa.models import load_processor
from mriqa.training.preflight.memory_estimate import MemoryEstimate, estimate_memory
from mriqa.training.preflight.model_shape import ModelShape, shape_of
from mriqa.training.preflight.pass_shape import PassShape, pass_shape
from mriqa.training.preflight.sample_pictures import sample_prompts
from mriqa.training.vision import set_pixel_budget

if TYPE_CHECKING:
    from transformers import ProcessorMixin

    from mriqa.answers import AnswerFormat
    from mriqa.manifest import RatedImage
    from mriqa.policy.run_trainer import RunTrainer
    from mriqa.training.config import RunArguments

Estimator = Literal["sampled", "exact", "supervised"]


@dataclass
class PlannedRun:
    """A run before its first update.

    Attributes:
        arguments, config: the recipe's options, with real paths in the place of "embedded".
        rows: the training images, scores on 1..5.
        answer_format: what is asked and how it is read.
        estimator: "sampled" and "exact" as the policy recipe has them; "supervised" for the warm start.
        rewards: the reward functions, none for the warm start.
        trainer: None before the model is loaded.
    """

    arguments: RunArguments
    config: Any
    rows: Sequence[RatedImage]
    answer_format: AnswerFormat
    estimator: Estimator
    rewards: Sequence[Any] = field(default_factory=list)
    trainer: RunTrainer | None = None

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """A handful of prompts with pictures of mixed sizes."""
        return sample_prompts(self.rows, self.answer_format)

    @cached_property
    def processor(self) -> ProcessorMixin:
        """The model's processor, with the pixel budget of the run; needs no weights."""
        if self.trainer is not None:
            return self.trainer.processor
        processor = load_processor(self.shape.folder, self.arguments.allow_remote_code)
        set_pixel_budget(processor, self.arguments.min_pixels, self.arguments.max_pixels)
        return processor

    @cached_property
    def shape(self) -> ModelShape:
        """The model's sizes. Raises ModelError where there is no such model."""
        return shape_of(self.arguments)

    @cached_property
    def passes(self) -> PassShape:
        """How many tokens and pictures go through the model at a time."""
        return pass_shape(self.config, self.estimator, self.processor, self.samples, self.answer_format, self.shape)

    @cached_property
    def memory(self) -> MemoryEstimate:
        """The most memory that a process of the run is going to need."""
        return estimate_memory(self.shape, self.passes, self.arguments, self.config)
