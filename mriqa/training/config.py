"""Options of a training run, as dataclasses that become command-line options and YAML keys.

TRL's own options keep their names, and those of GRPO gain MR-IQA's learning rate, epochs, G, temperature, KL weight and
clip range as defaults; ours are added beside them. All that is published stands in configs/qwen3_vl_2b_koniq.yaml.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from trl import GRPOConfig, SFTConfig

from mriqa.errors import SettingsError
from mriqa.files import write_text
from mriqa.training.checks import check_whole_groups

EMBEDDED = "embedded"
PLAIN = (str, int, float, bool, list, dict)
SECRETS = ("hub_token", "push_to_hub_token")


@dataclass
class RunArguments:
    """What every training recipe needs to know about the model and the data."""

    model: str = field(
        default=EMBEDDED,
        metadata={
            "help": "Model to train: a folder, a hub name such as Qwen/Qwen3-VL-2B-Instruct, 'default' for the small "
            "model in the package, or 'embedded' for the tiny one that is built here without any download."
        },
    )
    train_manifest: str = field(
        default=EMBEDDED,
        metadata={
            "help": "Rated images to train on: a manifest file (JSONL, JSON, CSV, Parquet), or 'embedded' for the "
            "data set that is built here from photographs inside installed packages."
        },
    )
    val_manifest: str | None = field(
        default=None,
        metadata={
            "help": "Rated images to validate on during training; without them there is no best checkpoint. Defaults "
            "to the embedded ones where train_manifest is 'embedded'. Their contents should not occur in training."
        },
    )
    image_root: str | None = field(
        default=None,
        metadata={
            "help": "Folder that image paths in the manifests start from and may not leave (default: the manifest's)."
        },
    )
    scale: str | None = field(
        default=None,
        metadata={
            "help": "The manifests' own scale, converted to 1..5: LOW:HIGH, LOW:HIGH:lower where lower is better, or "
            "the name of a known data set; in YAML also a mapping from data set names to these. Default: 1..5."
        },
    )
    on_bad_row: Literal["fail", "skip"] = field(
        default="fail",
        metadata={"help": "What to do with an unusable manifest row: 'fail', or 'skip' it into a rejects file."},
    )
    prompt_mode: str = field(
        default="non_thinking",
        metadata={
            "help": "'non_thinking', 'thinking', or a YAML file with a prompt and an answer grammar of your own."
        },
    )
    min_pixels: int | None = field(default=None, metadata={"help": "Qwen-VL: enlarge images below this many pixels."})
    max_pixels: int | None = field(
        default=None, metadata={"help": "Qwen-VL: shrink images above this many pixels (published: 196608)."}
    )
    freeze_vision: bool = field(
        default=False, metadata={"help": "Train the language model only, not the vision tower."}
    )
    dtype: str = field(
        default="float32",
        metadata={
            "help": "Type of the loaded weights. float32 with bf16 mixed precision for full fine-tuning (bfloat16 "
            "weights lose small updates); bfloat16 for LoRA, or under DeepSpeed, which keeps a float32 copy."
        },
    )
    allow_remote_code: bool = field(
        default=False, metadata={"help": "Run Python code that ships with the model. Read that code first."}
    )
    lora_r: int = field(default=0, metadata={"help": "Rank of LoRA adapters; 0 trains all weights."})
    lora_alpha: int = field(default=64, metadata={"help": "LoRA scaling numerator."})
    lora_dropout: float = field(default=0.05, metadata={"help": "LoRA dropout."})
    lora_target_modules: list[str] = field(
        default_factory=lambda: ["all-linear"], metadata={"help": "Modules that get LoRA adapters, by name."}
    )
    load_in_4bit: bool = field(
        default=False,
        metadata={
            "help": "With LoRA on CUDA: keep the base model's linear layers in 4 bits (QLoRA, by bitsandbytes), which "
            "takes a quarter of bfloat16's memory; needs pip install 'mriqa[quantised]'."
        },
    )
    preflight: Literal["refuse", "warn", "off"] = field(
        default="refuse",
        metadata={
            "help": "Look at the run before its first update (`mriqa check`): 'refuse' it where a problem is found, "
            "'warn' and go on, or don't look ('off')."
        },
    )
    leaks: Literal["refuse", "allow"] = field(
        default="refuse",
        metadata={
            "help": "What to do where training and validation images share a file, its bytes, a name or a content: "
            "'refuse', or 'allow'. `mriqa audit` lists them, and finds near duplicates too."
        },
    )
    val_readout: str = field(
        default="auto",
        metadata={"help": "How validation reads a score off the model: 'expected', 'greedy', 'sample', or 'auto'."},
    )
    val_limit: int | None = field(
        default=None, metadata={"help": "Validate on this many images at most, spread evenly over the manifest."}
    )
    val_batch_size: int = field(default=16, metadata={"help": "Images scored at once during validation."})
    photos: str | None = field(
        default=None,
        metadata={"help": "Folder of photographs to build the embedded data set from instead of the shipped ones."},
    )
    embedded_set: str = field(
        default="labelled",
        metadata={
            "help": "What the embedded pictures are: 'labelled' (five of KADID-10k's distortions) or 'broad' (all "
            "damages of mriqa.broad, labelled through full-reference measures; needs piq)."
        },
    )
    embedded_images: int | None = field(
        default=None, metadata={"help": "Pictures in the embedded training set (default 1600; 1000 of the broad set)."}
    )
    embedded_distortions: list[str] | None = field(
        default=None,
        metadata={
            "help": "Distortions in the labelled embedded set (default: those of mriqa.embedded); a name given twice "
            "is drawn twice as often."
        },
    )
    embedded_dir: str = field(
        default="outputs/embedded", metadata={"help": "Where the embedded data set and models are built, once."}
    )
    vision_cache: str = field(
        default="outputs/vision_cache",
        metadata={
            "help": "With freeze_vision: folder for the vision tower's outputs, each computed once for all epochs, "
            "passes and runs, or 'none'. Where the model is 'embedded', its own folder under embedded_dir."
        },
    )
    overwrite: bool = field(default=False, metadata={"help": "Delete the results of an earlier run in output_dir."})

    def __post_init__(self) -> None:
        if self.preflight is False:  # what YAML makes of the word off
            self.preflight = "off"
        if isinstance(self.lora_target_modules, str):  # one name in a YAML file
            self.lora_target_modules = [self.lora_target_modules]


@dataclass
class ScoreTrainerDefaults:
    """TRL options whose defaults change in every recipe: validate, keep the best, and fit the machine."""

    bf16: bool | None = field(
        default=None,
        metadata={"help": "bfloat16 mixed precision; by default where the accelerator has it, never on CPU."},
    )
    eval_strategy: str = field(default="steps", metadata={"help": "When to validate: no, steps, epoch."})
    eval_steps: float | None = field(default=50, metadata={"help": "Validate every this many steps."})
    eval_on_start: bool = field(default=True, metadata={"help": "Validate the initial model too, for comparison."})
    save_strategy: str = field(default="steps", metadata={"help": "When to save: no, steps, epoch, best."})
    save_steps: float = field(default=50, metadata={"help": "Save every this many steps; a multiple of eval_steps."})
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Checkpoints to keep, the best one always among them."}
    )
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "End with the checkpoint that validated best."}
    )
    metric_for_best_model: str | None = field(default="srcc", metadata={"help": "What 'best' means: srcc or plcc."})
    greater_is_better: bool | None = field(default=True, metadata={"help": "Whether more of that metric is better."})
    logging_steps: float = field(default=1, metadata={"help": "Log every this many steps."})
    report_to: str | None = field(
        default="none", metadata={"help": "none, tensorboard, trackio, wandb; in YAML also a list of them."}
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "Go on from a checkpoint-N folder, or from the latest whole one: 'auto'."}
    )


@dataclass
class ScoreGRPOConfig(ScoreTrainerDefaults, GRPOConfig):  # type: ignore[misc]  # narrower defaults of TRL's fields
    """TRL's GRPOConfig with several of MR-IQA's settings as defaults, safe on a machine without an accelerator."""

    output_dir: str | None = field(
        default="outputs/mr_grpo", metadata={"help": "Where checkpoints, logs and the model go."}
    )
    learning_rate: float = field(default=1e-5, metadata={"help": "Initial learning rate of AdamW."})
    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the training images."})
    num_generations: int | None = field(default=6, metadata={"help": "Scores sampled per image, G; 2 or more."})
    per_device_train_batch_size: int = field(
        default=48,
        metadata={
            "help": "Completions per process and forward pass: images times num_generations. Short of memory, "
            "divide it and multiply gradient_accumulation_steps."
        },
    )
    images_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "With --estimator exact: images a process takes at a time. A comparison set has that many times "
            "steps_per_generation times processes (default: per_device_train_batch_size / num_generations)."
        },
    )
    temperature: float = field(
        default=0.7, metadata={"help": "Sampling temperature; the higher, the more G scores differ."}
    )
    logps_temperature: float | None = field(
        default=None,
        metadata={
            "help": "What logits are divided by for the log-probabilities of the update. Default: the sampling "
            "temperature, as TRL does; 1.0 takes the raw logits, as MR-IQA's authors do."
        },
    )
    beta: float = field(
        default=0.02,
        metadata={"help": "Weight of the KL penalty towards the initial model; 0 saves its copy in memory."},
    )
    epsilon: float = field(default=0.2, metadata={"help": "Clip range of the probability ratio."})
    loss_type: str = field(
        default="grpo", metadata={"help": "Loss: grpo, dr_grpo, dapo, bnpo, cispo, sapo, luspo, vespo."}
    )
    shared_prefix: bool = field(
        default=True,
        metadata={
            "help": "Read each prompt once for all its completions; off, TRL repeats it. The result is the same."
        },
    )
    constrain_answers: bool = field(
        default=False,
        metadata={"help": "Sample well-formed answers only; not for prompt modes that think first, nor with vLLM."},
    )
    token_credit: str = field(
        default="uniform",
        metadata={
            "help": "Tokens that a reward's advantage goes to: all ('uniform'), or those of the score only, save for "
            "the format reward's ('score', for the thinking prompt mode)."
        },
    )
    max_completion_length: int | None = field(
        default=32,
        metadata={"help": "Longest answer in tokens (published: 256); raise it (512) for the thinking prompt mode."},
    )
    # Validation scores images instead of sampling groups, so TRL's rule that eval batches hold whole groups is moot.
    num_generations_eval: int | None = field(
        default=1, metadata={"help": "Not used: validation doesn't sample groups."}
    )

    def __post_init__(self) -> None:
        _switch_off_evaluation(self)
        if self.generation_batch_size is None:  # TRL's own sentence would name this setting, which nobody set
            steps = self.steps_per_generation or self.gradient_accumulation_steps
            processes = int(os.environ.get("WORLD_SIZE", "1"))
            check_whole_groups(self.num_generations or 0, self.per_device_train_batch_size, steps, processes)
        _check_logps_temperature(self)
        _suit_the_machine(self)
        super().__post_init__()


@dataclass
class ScoreSFTConfig(ScoreTrainerDefaults, SFTConfig):  # type: ignore[misc]  # as above
    """TRL's SFTConfig with defaults for a warm start on (image, answer) pairs."""

    output_dir: str | None = field(
        default="outputs/sft", metadata={"help": "Where checkpoints, logs and the model go."}
    )
    learning_rate: float = field(default=1e-5, metadata={"help": "Initial learning rate of AdamW."})
    num_train_epochs: float = field(default=1.0, metadata={"help": "Passes over the training images."})
    max_length: int | None = field(
        default=None, metadata={"help": "Cut sequences to this many tokens. Off: a cut would drop image tokens."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep False: images are decoded on access."})

    def __post_init__(self) -> None:
        _switch_off_evaluation(self)
        _suit_the_machine(self)
        super().__post_init__()


def _switch_off_evaluation(config: Any) -> None:
    """Without validation there is none at the start either, and no best checkpoint to end with."""
    if config.eval_strategy == "no":
        config.eval_on_start = config.load_best_model_at_end = False


def _check_logps_temperature(config: Any) -> None:
    own = config.logps_temperature
    if own is None:
        return
    if not 0 < own < float("inf"):
        raise SettingsError(f"logps_temperature must be a number above 0, not {own}; 1.0 takes the raw logits.")
    if config.use_vllm and config.vllm_importance_sampling_correction and own != config.temperature:
        raise SettingsError(
            "vLLM's log-probabilities, by which the importance sampling correction goes, are those at the sampling "
            "temperature: set --vllm_importance_sampling_correction false, or leave out --logps_temperature."
        )


def _suit_the_machine(config: Any) -> None:
    """TRL asks for bfloat16 everywhere, and torchrun on a machine without accelerator needs use_cpu to take gloo."""
    config.use_cpu = config.use_cpu or not torch.accelerator.is_available()
    if config.use_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # accelerate's device would be "cpu:0", to which torch.load can't restore the state of an optimiser.
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
    if config.bf16 is None:
        config.bf16 = (
            not (config.fp16 or config.use_cpu) and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        )


def parse_options(value: Any, name: str) -> dict[str, Any]:
    """A mapping given as such (YAML) or as JSON text (command line). Raises SettingsError for anything else."""
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise SettingsError(
                f'{name} is not JSON ({error}): write it like \'{{"margin": {{"scale": "sigma"}}}}\'.'
            ) from error
    if not isinstance(value, dict):
        raise SettingsError(f"{name} must be a mapping, not {value!r}.")
    return value


def write_resolved_config(path: str | Path, *arguments: Any) -> None:
    """Write every option that has a plain value to one YAML file that `--config` reads back; secrets stay out of it."""
    import yaml

    settings: dict[str, Any] = {}
    for group in arguments:
        for option in dataclasses.fields(group):
            value = getattr(group, option.name)
            value = value.value if isinstance(value, enum.Enum) else value
            if option.init and isinstance(value, PLAIN) and option.name not in SECRETS:
                settings[option.name] = value
    # TRL fills in each of these two from the other and then refuses to be given both.
    if "steps_per_generation" in settings:
        settings.pop("generation_batch_size", None)
    write_text(yaml.safe_dump(settings, sort_keys=True, allow_unicode=True), path)
