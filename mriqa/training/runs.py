"""What every training recipe does before and after training: its folder, its data, its model, its log."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState

from mriqa.answers import AnswerFormat, AnswerFormatError, load_format
from mriqa.errors import SettingsError
from mriqa.files import write_json
from mriqa.frozen.cached_tower import cache_towers
from mriqa.frozen.store import FeatureStore
from mriqa.manifest import RatedImage, read_manifest
from mriqa.models import load_scoring_settings, load_vlm
from mriqa.policy.checkpoints import REPLACED, STAGING, find_checkpoint, one_per_disk, restore_replaced
from mriqa.training.checks import check_images, check_leaks
from mriqa.training.config import EMBEDDED, RunArguments, write_resolved_config
from mriqa.training.cpu_memory import return_freed_memory
from mriqa.training.four_bit import four_bit, quantised_device
from mriqa.training.vision import TOWER_PATTERN, freeze_vision, set_pixel_budget

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel, ProcessorMixin, Trainer, TrainerState

MODEL_DIR = "model"
CONFIG_FILE = "resolved_config.yaml"
LOG_FILE = "training_log.json"
NO_CACHE = "none"
RECORDED = ("mriqa", "torch", "transformers", "trl", "peft", "accelerate")  # packages whose versions a run records


@dataclass(frozen=True)
class TrainingResult:
    """Where the trained model lies, the log (one dict per logged step), and the best validation value, if any."""

    model_dir: Path
    history: list[dict[str, Any]]
    best: float | None


def open_run(arguments: RunArguments, config: Any) -> str | None:
    """Make the run's folder ready, write the resolved configuration there, return the checkpoint to resume from.

    Raises SettingsError where the folder holds an earlier run that is neither resumed nor overwritten, and
    CheckpointError where the checkpoint asked for isn't there.
    """
    state = PartialState()
    folder = Path(config.output_dir)
    resuming = config.resume_from_checkpoint is not None
    for _ in one_per_disk(state):
        restore_replaced(folder)
    checkpoint = find_checkpoint(folder, config.resume_from_checkpoint)
    if folder.is_file():
        raise SettingsError(f"output_dir {folder} is a file: give a folder.")
    overwrites = arguments.overwrite and not resuming
    occupied = folder.is_dir() and any(entry.name not in (STAGING, REPLACED) for entry in folder.iterdir())
    if occupied and overwrites and not (folder / CONFIG_FILE).is_file():
        raise SettingsError(
            f"output_dir {folder} holds something else than an earlier run (no {CONFIG_FILE}), so nothing in it is "
            "overwritten: choose another folder."
        )
    if occupied and not (resuming or overwrites):
        raise SettingsError(
            f"output_dir {folder} is not empty: go on with --resume_from_checkpoint auto, start again with "
            "--overwrite, or choose another folder."
        )
    state.wait_for_everyone()  # nobody may write before everybody has looked
    if state.is_main_process:
        if occupied and overwrites:
            _remove_results(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_resolved_config(folder / CONFIG_FILE, arguments, config)
    state.wait_for_everyone()
    return checkpoint


def read_format(arguments: RunArguments) -> AnswerFormat:
    """The prompt and answer grammar that `prompt_mode` names. Raises SettingsError where there is no such one."""
    try:
        return load_format(arguments.prompt_mode)
    except AnswerFormatError as error:
        raise SettingsError(f"prompt_mode: {error}") from error


def read_images(arguments: RunArguments, path: str, name: str) -> list[RatedImage]:
    """The rated images of manifest `path`, on the 1..5 scale, checked; `name` is the option to blame."""
    rows = read_rows(arguments, path)
    check_images(rows, name)
    return rows


def read_rows(arguments: RunArguments, path: str | Path, check_images: bool = True) -> list[RatedImage]:
    """The rows of manifest `path` by the scale, the folder of images and the way with bad rows of the arguments."""
    return read_manifest(
        path,
        image_root=arguments.image_root,
        scale=arguments.scale,
        on_bad_row=arguments.on_bad_row,
        check_images=check_images,
    )


def read_validation_images(arguments: RunArguments, config: Any, train_rows: Sequence[RatedImage]) -> list[RatedImage]:
    """The rated images to validate on, `val_limit` of them at most; none switches validation off in `config`.

    Raises SettingsError where training would leak into validation, as `leaks` says.
    """
    if arguments.val_manifest is None:
        config.eval_strategy, config.load_best_model_at_end, config.eval_on_start = "no", False, False
        return []
    rows = read_images(arguments, arguments.val_manifest, "val_manifest")
    check_leaks(train_rows, rows, arguments.leaks)
    return evenly_spread(rows, arguments.val_limit)


def evenly_spread(rows: Sequence[RatedImage], limit: int | None) -> list[RatedImage]:
    """`limit` rows at even distances, or all of them."""
    if limit is None or limit >= len(rows):
        return list(rows)
    if limit < 2:
        raise SettingsError(f"val_limit is {limit}, and a correlation needs two images: set it to 2 or more.")
    return [rows[round(step * (len(rows) - 1) / (limit - 1))] for step in range(limit)]


def load_policy(arguments: RunArguments) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The model to train, on CPU unless in 4 bits (the Trainer places it), and its processor, as the arguments say."""
    if not torch.accelerator.is_available():
        return_freed_memory()
    quantisation = four_bit(arguments)
    model, processor = load_vlm(
        arguments.model,
        dtype=arguments.dtype,
        device=quantised_device() if quantisation else "cpu",
        trust_remote_code=arguments.allow_remote_code,
        quantisation=quantisation,
    )
    processor.tokenizer.padding_side = "left"  # type: ignore[attr-defined]  # set by subclasses
    set_pixel_budget(processor, arguments.min_pixels, arguments.max_pixels)
    if arguments.freeze_vision:
        freeze_vision(model)
        if arguments.vision_cache != NO_CACHE:
            cache_towers(model, _open_store(arguments.vision_cache))
    return model, processor


def saved_views(arguments: RunArguments) -> dict[str, Any] | None:
    """How the model to train looks at pictures when it scores them; training hands this on to what it saves."""
    settings = load_scoring_settings(arguments.model)
    return settings.views if settings else None


def lora_config(arguments: RunArguments) -> LoraConfig | None:
    """LoRA as the arguments ask for it, none where lora_r is 0; a frozen vision tower gets no adapters."""
    if arguments.lora_r == 0:
        return None
    from peft import LoraConfig

    targets = arguments.lora_target_modules
    return LoraConfig(
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=targets[0] if targets == ["all-linear"] else targets,
        exclude_modules=TOWER_PATTERN if arguments.freeze_vision else None,
        task_type="CAUSAL_LM",
    )


def close_run(trainer: Any, config: Any, started: float) -> TrainingResult:
    """Save the final (best) model with its scoring settings, and the log; print where they are."""
    folder = Path(config.output_dir)
    model_dir = trainer.save_final_model(folder / MODEL_DIR)
    state = trainer.state
    result = TrainingResult(model_dir, list(state.log_history), state.best_metric)
    if trainer.is_world_process_zero():
        write_training_log(folder / LOG_FILE, trainer, time.monotonic() - started)
        if better_start := start_above_best(state, config.metric_for_best_model):
            print(f"\n{better_start}")
        print(f"\nThe model is in {model_dir}, the log in {folder / LOG_FILE}.")
        print(f"Score with it: mriqa score IMAGES --model {model_dir}")
    return result


def start_above_best(state: TrainerState, metric: str | None) -> str:
    """A sentence where the model that training started from is better by validation than the best checkpoint, or ""."""
    metric = (metric or "srcc").removeprefix("eval_")
    name = f"eval_{metric}"
    start = next((line[name] for line in state.log_history if line.get("step") == 0 and name in line), None)
    if start is None or state.best_metric is None or start <= state.best_metric:
        return ""
    return (
        f"Training did not help: validation {metric.upper()} was {start:.3f} before it and "
        f"{state.best_metric:.3f} at best after it. Keep the model you started from, or train with a lower learning "
        "rate, a larger comparison set, or from a warm start that states answers by itself."
    )


def write_training_log(path: Path, trainer: Trainer, seconds: float) -> None:
    """Write the log of a run as JSON: versions, every logged step, the best checkpoint, the time it took.

    NaN becomes null.
    """
    state = trainer.state
    content = {
        "seconds": round(seconds, 1),
        "steps": state.global_step,
        "best_step": state.best_global_step,
        "best_metric": state.best_metric,
        "versions": installed_versions(),
        "history": state.log_history,
    }
    write_json(content, path, indent=1)


def installed_versions() -> dict[str, str]:
    """The versions of what a run's results depend on, by package; one that is not installed is left out."""
    versions = {}
    for name in RECORDED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def uses_embedded(arguments: RunArguments) -> bool:
    """Whether the model or the data are to be built here."""
    return EMBEDDED in (arguments.model, arguments.train_manifest, arguments.val_manifest)


def _remove_results(folder: Path) -> None:
    """Delete what an earlier run wrote, and nothing else that may have been put beside it."""
    for path in [*folder.glob("checkpoint-*"), folder / MODEL_DIR, folder / STAGING, folder / "completions"]:
        shutil.rmtree(path, ignore_errors=True)
    for name in (CONFIG_FILE, LOG_FILE):
        (folder / name).unlink(missing_ok=True)


def _open_store(folder: str) -> FeatureStore:
    try:
        return FeatureStore(folder)
    except OSError as error:
        raise SettingsError(
            f"vision_cache {folder} can't be used ({error.strerror}): give a folder that can be written, or 'none'."
        ) from error
