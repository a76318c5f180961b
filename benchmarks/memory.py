"""How near the pre-flight's estimate of memory comes to what training takes.

    python benchmarks/memory.py                # four shapes, some minutes on a CPU core to itself
    python benchmarks/memory.py --quick        # two of them, smaller

Each shape trains two updates by recipes/mr_grpo.py in a process of its own. Measured is the peak of that process's
resident memory less what it held when all was imported and no model was loaded; estimated is what `mriqa check` states
for the same options. Costs are GiB, and the ratio is measured / estimated.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timing import Claim, machine, parser, write

GIB = 2**30
RECIPES = Path(__file__).parents[1] / "recipes"
COMMON = {
    "max_steps": 2,
    "eval_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "vision_cache": "none",
    "max_completion_length": 10,
    "num_generations": 6,
    "preflight": "off",
    "reward": "regression",
}


@dataclass(frozen=True)
class Shape:
    """A model and the options it is trained with."""

    name: str
    family: str
    sizes: dict[str, int]
    options: dict[str, Any] = field(default_factory=dict)
    images: int = 4
    image_tokens: int = 196


WIDE = {"hidden_size": 768, "intermediate_size": 2304, "num_hidden_layers": 8, "vocab_size": 16384}
DEEP = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 16, "vocab_size": 32768}
NO_CHECKPOINTS = {"gradient_checkpointing": False}
ADAPTER = {"lora_r": 16, "freeze_vision": True}
EXACT = {"estimator": "exact", "images_per_batch": 8, "per_device_train_batch_size": 48}
SHAPES = [
    Shape("full, shared prefix", "qwen3_vl", WIDE, {"per_device_train_batch_size": 24, "beta": 0.0} | NO_CHECKPOINTS),
    Shape("full, checkpoints, reference", "qwen3_vl", DEEP, {"per_device_train_batch_size": 12, "beta": 0.02}),
    Shape(
        "LoRA, prompts repeated",
        "qwen2_5_vl",
        WIDE,
        {"per_device_train_batch_size": 6, "shared_prefix": False} | ADAPTER | NO_CHECKPOINTS,
    ),
    Shape("LoRA, checkpoints, exact", "qwen2_5_vl", DEEP, EXACT | ADAPTER | {"lora_r": 64}),
]
SMALL = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4, "vocab_size": 8192}


def build_model(folder: Path, shape: Shape) -> Path:
    """A random model of a shape with the tiny tokenizer and pictures as large as they are."""
    import torch
    from grpo_sides import CELL
    from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig, Qwen3VLConfig

    from mriqa.embedded import build_tiny_qwen3_vl

    build_tiny_qwen3_vl(folder, image_size=40 * CELL)
    small: Any = Qwen3VLConfig.from_pretrained(folder)
    text = {**small.text_config.to_dict(), **shape.sizes}
    text |= {"head_dim": 64, "num_attention_heads": text["hidden_size"] // 64, "num_key_value_heads": 4}
    text["rope_parameters"] = {**text["rope_parameters"], "mrope_section": [16, 8, 8]}
    vision = {**small.vision_config.to_dict(), "num_position_embeddings": 256, "out_hidden_size": text["hidden_size"]}
    special = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    if shape.family == "qwen2_5_vl":
        text.pop("model_type"), vision.pop("model_type")
        vision |= {"window_size": 128, "fullatt_block_indexes": [1]}
    config = AutoConfig.for_model(
        shape.family, text_config=text, vision_config=vision, tie_word_embeddings=True,
        **{name: getattr(small, name) for name in special},
    )  # fmt: skip
    generation = GenerationConfig.from_pretrained(folder)
    torch.manual_seed(0)
    model: Any = AutoModelForImageTextToText.from_config(config)
    model.generation_config = generation
    model.save_pretrained(folder)
    return folder


def recipe_options(folder: Path, shape: Shape) -> dict[str, Any]:
    """What the recipe is given; the pictures and the model are written to `folder`."""
    from grpo_sides import rated_images

    from mriqa.manifest import write_manifest

    rows = rated_images(folder, shape.image_tokens, 8)
    write_manifest(rows, folder / "rows.jsonl")
    model = build_model(folder / "model", shape)
    place = {"model": str(model), "train_manifest": str(folder / "rows.jsonl"), "output_dir": str(folder / "run")}
    return {**COMMON, **shape.options, **place}


def as_arguments(options: dict[str, Any]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def run_one(options: dict[str, Any]) -> dict[str, float]:
    """Estimate, then train and measure, in this process; bytes."""
    sys.path.insert(0, str(RECIPES))
    import mr_grpo
    import psutil

    from mriqa.manifest import read_manifest
    from mriqa.training.preflight.planned_run import PlannedRun
    from mriqa.training.runs import read_format

    arguments, config = mr_grpo.parse_arguments(as_arguments(options))
    rows = read_manifest(arguments.train_manifest)
    run = PlannedRun(arguments, config, rows, read_format(arguments), estimator=arguments.estimator)
    estimated = run.memory
    before = psutil.Process().memory_info().rss
    if mr_grpo.main(as_arguments(options)) != 0:
        raise RuntimeError("The run was refused.")
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "estimated": estimated.peak,
        "measured": peak - before,
        "process": before,
        **{f"at {name}": size for name, size in estimated.moments.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry; `--one FILE` is this script's own way to start a shape in a process of its own."""
    own = parser(__doc__)
    own.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = own.parse_args(argv)
    if arguments.one:
        print(json.dumps(run_one(json.loads(arguments.one.read_text()))))
        return 0
    shapes = SHAPES
    if arguments.quick:
        shapes = [
            Shape(each.name, each.family, SMALL, each.options, image_tokens=100) for each in (SHAPES[0], SHAPES[2])
        ]
    claims = []
    for shape in shapes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            options = folder / "options.json"
            options.write_text(json.dumps(recipe_options(folder, shape)))
            print(f"{shape.name} …", flush=True)
            ran = subprocess.run(
                [sys.executable, __file__, "--one", str(options)], stdout=subprocess.PIPE, text=True, check=True
            )
        found = {name: size / GIB for name, size in json.loads(ran.stdout.splitlines()[-1]).items()}
        settings = {"family": shape.family, **shape.sizes, **shape.options, "gib": found, **machine()}
        claims.append(Claim(f"memory/{shape.name}", found["estimated"], found["measured"], "measured", "GiB", settings))
        print(f"  {claims[-1]}", flush=True)
    write(claims, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
