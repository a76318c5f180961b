"""Make the model inside the package, the one that `mriqa score photo.jpg` uses where none is named.

    python recipes/default_model.py --photos FOLDER
    python recipes/default_model.py --photos FOLDER --install     # put it into the package, in place of the one there

Distorts crops of the photographs (JPEG, JPEG 2000, strong noise), labels them by what KADID-10k's raters thought of
such distortions, trains the embedded tiny model on them (configs/default_model_sft.yaml), measures it on contents that
it has not seen, under every distortion that has labels, and writes the folder OUTPUT/model: weights in half precision,
settings, and a card that says what the model is good and bad at. A second run reuses what is finished, and shows on the
card what `mriqa eval` has found in the meantime (--eval FILE).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriqa.embedded.dataset import DatasetSettings

CONFIGS = Path(__file__).parent / "configs"
# Strong noise only, and no blur at all: the smooth or grainy part of a content nobody has seen passes for slight blur
# or noise. With blur in the mix, whether slight or strong, rank correlation on other people's compressed pictures falls
# from 0.94 to below 0.88.
DISTORTIONS = ("jpeg",) * 4 + ("jpeg2000",) * 4 + ("white_noise",)
MILDEST = {"white_noise": 0.6}
SHARES = {"train": 0.85, "val": 0.05, "test": 0.10}  # of the photographs: more contents help more than anything else
# The model judges a square at the centre, at about the scale of its training; larger pictures are shrunk first. 384 to
# 512 pixels give the same rank correlation on rated pictures within 0.01, and 448 cost a quarter less than 512.
SIDE, LIMIT = 448, 672


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The recipe's options; how the model is trained stands in the YAML file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of pristine photographs (default: those in the wheels)")
    parser.add_argument("--credit", help="whose photographs these are and under which licence, for the card")
    parser.add_argument("--output", type=Path, default=Path("outputs/default_model"), help="folder to write to")
    parser.add_argument("--train_images", type=int, default=4500, help="pictures to train on (default 4500)")
    parser.add_argument("--max_steps", type=int, help="updates (default: as configs/default_model_sft.yaml)")
    parser.add_argument("--seed", type=int, default=0, help="of the data and of training (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads in training (default 1)")
    parser.add_argument(
        "--eval", type=Path, nargs="+", default=[], help="what `mriqa eval --out` wrote for this model, for its card"
    )
    parser.add_argument("--install", action="store_true", help="replace the model inside the package by this one")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> Path:
    """Run the recipe and return the model's folder."""
    import torch

    torch.set_num_threads(arguments.threads)
    import sft

    from mriqa.embedded import DatasetSettings
    from mriqa.embedded.packaged import default_model_folder
    from mriqa.eval.stability import STABILITY_FILE, read_stability
    from mriqa.files import new_folder, write_json, write_text
    from mriqa.training.embedded_preparation import prepare
    from mriqa.training.runs import MODEL_DIR

    output: Path = arguments.output
    settings = DatasetSettings(
        photos=str(arguments.photos) if arguments.photos else None,
        distortions=DISTORTIONS,
        mildest=MILDEST,
        train_images=arguments.train_images,
        shares=SHARES,
        seed=arguments.seed,
    )
    training, model_dir = output / "training", output / "model"
    prepared = prepare(output / "embedded", settings=settings)
    if not (training / MODEL_DIR).is_dir():
        options = [
            "--config",
            str(CONFIGS / "default_model_sft.yaml"),
            "--output_dir",
            str(training),
            "--seed",
            str(arguments.seed),
        ]
        options += ["--model", str(prepared.model), "--vision_cache", str(prepared.features)]
        options += ["--train_manifest", str(prepared.train), "--val_manifest", str(prepared.val)]
        options += ["--max_steps", str(arguments.max_steps)] if arguments.max_steps else []
        sft.train(*sft.parse_arguments(options))
    if not model_dir.is_dir():
        with new_folder(model_dir) as staged:
            _pack(training / MODEL_DIR, staged)
    strengths = _strengths(model_dir, output / "strengths", settings)
    write_json(strengths, output / "strengths.json")
    if read_stability(model_dir) is None:
        write_json(_stability(model_dir, output / "stability"), model_dir / STABILITY_FILE)
    write_text(_card(strengths, model_dir, settings, arguments.credit, arguments.eval), model_dir / "README.md")
    print(f"The model is in {model_dir}: mriqa score PICTURES --model {model_dir}")
    if arguments.install:
        with new_folder(default_model_folder(), overwrite=True) as staged:
            shutil.copytree(model_dir, staged, dirs_exist_ok=True)
        print(f"It is also in {default_model_folder()}.")
    return model_dir


def _pack(trained: Path, folder: Path) -> None:
    """The trained model in half precision, with how to look at pictures of any size."""
    from mriqa.models import load_scoring_settings, load_vlm, save_scoring_settings

    model, processor = load_vlm(trained, device="cpu")
    saved = load_scoring_settings(trained)
    assert saved is not None, "a recipe's model has its prompt beside it"
    model.half().save_pretrained(folder)
    images = processor.image_processor  # type: ignore[attr-defined]  # set by subclasses
    images.size = images.crop_size = {"height": SIDE, "width": SIDE}
    processor.patch_size = SIDE // model.model.vision_tower.config.grid  # type: ignore[attr-defined, union-attr]  # likewise
    processor.save_pretrained(folder)
    save_scoring_settings(folder, saved.answer_format, {"limit": LIMIT, "crop": SIDE, "count": 1})


def _strengths(model_dir: Path, folder: Path, settings: DatasetSettings) -> dict[str, dict[str, Any]]:
    """Agreement with the labels on contents not seen in training, for every distortion that has labels."""
    from mriqa.distortions import LABELLED
    from mriqa.embedded import build_dataset
    from mriqa.eval.evaluation import evaluate_scores
    from mriqa.manifest import read_manifest
    from mriqa.scoring import Scorer

    # The same photographs and seed, so the same test contents. No split can be empty.
    every = replace(
        settings, distortions=tuple(LABELLED), mildest={}, train_images=1, val_images=1, test_images=40 * len(LABELLED)
    )
    rows = read_manifest(build_dataset(folder, every).test, check_images=False)
    scores = Scorer.from_pretrained(model_dir, device="cpu").score([row.image for row in rows], progress=True)
    found = {}
    for name in LABELLED:
        chosen = [k for k, row in enumerate(rows) if row.id.split("-")[-2] == name]
        found[name] = evaluate_scores([scores[k].score for k in chosen], [rows[k].mos for k in chosen])
    return dict(sorted(found.items(), key=lambda one: -one[1]["srcc"]))


def _stability(model_dir: Path, folder: Path) -> dict[str, Any]:
    """How far its scores move; what `mriqa stability --model MODEL_DIR` measures."""
    from mriqa.eval.stability import RunChange, measure_stability, package_pictures
    from mriqa.scoring import Scorer

    def in_bfloat16() -> Scorer:
        return Scorer.from_pretrained(model_dir, device="cpu", dtype="bfloat16")

    pictures, source = package_pictures(folder)
    more = {"bfloat16 instead of float32": RunChange(in_bfloat16)}
    return {"source": source, **measure_stability(Scorer.from_pretrained(model_dir, device="cpu"), pictures, more)}


def _card(
    strengths: dict[str, dict[str, Any]],
    model_dir: Path,
    settings: DatasetSettings,
    credit: str | None,
    evaluations: Sequence[Path],
) -> str:
    """configs/default_model_card.md with what was measured in the places left for it."""
    from mriqa.eval.report import markdown_table
    from mriqa.eval.stability import COLUMNS, read_stability, stability_rows
    from mriqa.hub.run import read_evaluation

    stability = read_stability(model_dir)
    assert stability is not None, "it was measured before"
    found = {path.stem: read_evaluation(path) for path in evaluations}
    built_in = "those inside two wheels, and drawn scenes"
    return Template((CONFIGS / "default_model_card.md").read_text(encoding="utf-8")).substitute(
        side=SIDE,
        limit=LIMIT,
        photos=credit or ("a folder of them" if settings.photos else built_in),
        train_images=f"{settings.train_images:,}",
        strengths=markdown_table(strengths, ["n", "srcc", "plcc"]),
        stable_pictures=stability["pictures"],
        stability=markdown_table(stability_rows(stability), COLUMNS),
        evaluations=markdown_table(found, ["n", "srcc", "krcc", "plcc"]) if found else "None yet.\n",
    )


if __name__ == "__main__":
    from mriqa.training.launching import exit_code

    sys.exit(exit_code(lambda: run(parse_arguments())))
