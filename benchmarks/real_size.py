"""A model of real size through a whole run on this machine: pre-flight, LoRA steps, resuming, scores.

    python benchmarks/real_size.py                        # Qwen3-VL-2B, 16 GiB of memory, 5 of disk
    python benchmarks/real_size.py --model qwen2_5_vl_3b --dtype bfloat16
    python benchmarks/real_size.py --layers 2             # the same with two layers of each kind, to try it out

The model has the real configuration and random weights, and Qwen's real vocabulary (pip install --no-deps dashscope).
Each stage is the command that a user gives, in a process of its own: `mriqa check`; two updates of recipes/mr_grpo.py
by the LoRA configuration of that model, both on one rollout, since a rollout's first loss is 0 by its making; the
second of them again, from the checkpoint of the first; and `mriqa score` with the exact readout. Answers are drawn at
temperature 10: at the recipe's a random model gave the same one each time, with nothing to learn from. Said are the
seconds and the peak of resident memory of each, and whether the resumed update had the loss of the uninterrupted one;
exit code 1 where it hadn't, or where the update had no gradient and so compares nothing.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mriqa.errors import UserError
from mriqa.files import write_json

REPOSITORY = Path(__file__).parents[1]
IMAGES = 4
TEMPERATURE = 10.0
EXACT = ("--readout", "expected")
LOSSES = ("loss", "grad_norm", "reward", "kl")

QWEN2_5_VL_3B: dict[str, Any] = {  # as in the config.json of Qwen/Qwen2.5-VL-3B-Instruct
    "text": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2,
    },
}


@dataclass(frozen=True)
class Size:
    """A model's family, its configuration and the recipe's file for it."""

    family: str
    config: dict[str, Any]
    recipe: str
    patch: int


def sizes() -> dict[str, Size]:
    from grpo_sides import QWEN3_VL_2B

    return {
        "qwen3_vl_2b": Size("qwen3_vl", QWEN3_VL_2B, "qwen3_vl_2b_koniq_lora.yaml", 16),
        "qwen2_5_vl_3b": Size("qwen2_5_vl", QWEN2_5_VL_3B, "qwen2_5_vl_3b_koniq_lora.yaml", 14),
    }


def build(folder: Path, size: Size, layers: int | None, vocabulary: Path) -> int:
    """Write model and processor to `folder`, its weights in bfloat16; the number of its weights."""
    import torch
    import transformers
    from qwen_vocabulary import qwen_tokenizer
    from transformers import (
        AutoConfig,
        AutoModelForImageTextToText,
        GenerationConfig,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = qwen_tokenizer(vocabulary)
    token = tokenizer.convert_tokens_to_ids
    text, vision = dict(size.config["text"]), dict(size.config["vision"])
    if layers is not None:
        text["num_hidden_layers"], vision["depth"] = layers, layers
        for name in ("deepstack_visual_indexes", "fullatt_block_indexes"):
            if name in vision:
                vision[name] = [layers - 1]
    config = AutoConfig.for_model(
        size.family,
        text_config={**text, "eos_token_id": token("<|im_end|>"), "pad_token_id": token("<|endoftext|>")},
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model: Any = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.generation_config = GenerationConfig(
        eos_token_id=token("<|im_end|>"), pad_token_id=token("<|endoftext|>"), do_sample=False
    )
    model.save_pretrained(folder)
    shown = {"patch_size": size.patch, "size": {"shortest_edge": 56**2, "longest_edge": 1280 * 28**2}}
    older: Any = transformers.Qwen2VLVideoProcessor  # type: ignore[attr-defined]  # made when it is asked for
    third = size.family == "qwen3_vl"
    processor: Any = (Qwen3VLProcessor if third else Qwen2_5_VLProcessor)(
        image_processor=Qwen2VLImageProcessor(**shown),
        tokenizer=tokenizer,
        video_processor=(Qwen3VLVideoProcessor if third else older)(**shown),
        chat_template=tokenizer.chat_template,
    )
    processor.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def write_pictures(folder: Path) -> Path:
    """A manifest of pictures of mixed sizes, noisier ones rated lower."""
    import numpy as np
    from PIL import Image

    from mriqa.manifest import RatedImage, write_manifest

    generator = np.random.default_rng(0)
    rows = []
    for index in range(IMAGES):
        height, width = ((384, 512), (512, 384), (320, 640), (400, 400))[index % 4]
        noisy = np.clip(128 + generator.normal(0, 8 + 24 * index, (height, width, 3)), 0, 255).astype(np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(noisy).save(path)
        rows.append(RatedImage(path, 4.5 - index, 0.5, "noise", str(index), str(index)))
    write_manifest(rows, folder / "rows.jsonl")
    return folder / "rows.jsonl"


def stage(name: str, command: list[str], log: Path) -> dict[str, Any]:
    """Run a command, its output into a file; its seconds and its peak of resident memory. Ends where it fails."""
    print(f"{name} …", flush=True)
    began = time.monotonic()
    with log.open("wb") as file:
        child = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), each) for each in (1, 2)],
        )
        _, status, used = os.wait4(child, 0)
    found = {"seconds": round(time.monotonic() - began, 1), "peak_gib": round(used.ru_maxrss / 2**20, 2)}
    print(f"  {found['seconds']:.0f} s, {found['peak_gib']:.1f} GiB", flush=True)
    if status != 0:
        raise SystemExit(f"{name} failed:\n{log.read_text(errors='replace')[-3000:]}")
    return found


def losses(run: Path, step: int) -> dict[str, float]:
    history = json.loads((run / "training_log.json").read_text())["history"]
    line = next(line for line in history if line.get("step") == step and "loss" in line)
    return {name: line[name] for name in LOSSES if name in line}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("--model", choices=tuple(sizes()), default="qwen3_vl_2b")
    own.add_argument("--dtype", default="float32", help="of the loaded weights (default: float32)")
    own.add_argument("--layers", type=int, help="only so many layers of tower and language model")
    own.add_argument("--pixels", type=int, default=65536, help="of a picture at most (default: 65536)")
    own.add_argument("--vocabulary", type=Path, help="qwen.tiktoken (default: that of the package dashscope)")
    own.add_argument("--folder", type=Path, help="where to work and leave the logs (default: a temporary folder)")
    own.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    arguments = own.parse_args(argv)
    from qwen_vocabulary import ranks_file

    try:
        vocabulary = arguments.vocabulary or ranks_file()
    except UserError as error:
        own.error(str(error))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = measure(folder, sizes()[arguments.model], arguments, vocabulary)
    print(json.dumps(results, indent=1))
    if arguments.json:
        write_json(results, arguments.json)
    return 0 if results["resumed_equals_uninterrupted"] else 1


def measure(folder: Path, size: Size, arguments: argparse.Namespace, vocabulary: Path) -> dict[str, Any]:
    """All stages, by name, and the loss of the second update both ways."""
    began = time.monotonic()
    parameters = build(folder / "model", size, arguments.layers, vocabulary)
    print(f"{parameters / 1e9:.3f} B weights in {time.monotonic() - began:.0f} s", flush=True)
    manifest = write_pictures(folder)
    whole, resumed = folder / "run", folder / "resumed"
    options = {
        "config": REPOSITORY / "recipes" / "configs" / size.recipe, "model": folder / "model",
        "train_manifest": manifest, "val_manifest": manifest, "leaks": "allow", "eval_strategy": "no",
        "dtype": arguments.dtype, "max_pixels": arguments.pixels, "vision_cache": folder / "cache",
        "num_generations": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "num_iterations": 2,
        "constrain_answers": "true", "temperature": TEMPERATURE, "max_steps": 2, "save_steps": 1, "report_to": "none",
        "disable_tqdm": "true",
    }  # fmt: skip
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    python, recipe = sys.executable, str(REPOSITORY / "recipes" / "mr_grpo.py")
    again = ["--resume_from_checkpoint", str(whole / "checkpoint-1"), "--preflight", "off"]
    commands = {
        "check": ["-m", "mriqa", "check", *given, "--output_dir", str(whole)],
        "train": [recipe, *given, "--output_dir", str(whole)],
        "resume": [recipe, *given, "--output_dir", str(resumed), *again],
        "score": ["-m", "mriqa", "score", str(folder / "0.png"), "--model", str(whole / "model"), *EXACT],
    }  # fmt: skip
    stages = {name: stage(name, [python, *command], folder / f"{name}.log") for name, command in commands.items()}
    uninterrupted, from_checkpoint = losses(whole, 2), losses(resumed, 2)
    return {
        "model": arguments.model,
        "parameters": parameters,
        "dtype": arguments.dtype,
        "stages": stages,
        "seconds": round(time.monotonic() - began, 1),
        "uninterrupted": uninterrupted,
        "resumed": from_checkpoint,
        "resumed_equals_uninterrupted": uninterrupted == from_checkpoint and uninterrupted["grad_norm"] > 0,
    }


if __name__ == "__main__":
    sys.exit(main())
