"""Make the model inside the package, the one that `mriqa score photo.jpg` uses where none is named.

    python recipes/default_model.py --photos FOLDER
    python recipes/default_model.py --photos FOLDER --install     # put it into the package, in place of the one there

1. Data: photographs spoiled in every way at hand, labelled by KADID-10k's raters and by full-reference measures
   (`mriqa.broad`), 3.7 GB of them. Some kinds of damage are held out: training never sees them.
2. A network for quality: EfficientNet-Lite0's weights trained on crops (`mriqa.embedded.trained_trunk`).
3. The tiny model with this network as its eye is trained to state the scores (configs/default_model_sft.yaml). Other
   networks can be candidates beside it (--candidates): the one that ranks validation pictures best, of kinds seen and
   held out alike, is taken.
4. It goes on to policy training (configs/default_model_grpo.yaml). The better of before and after by the same measure
   is taken.
5. It is packed in half precision, measured on contents that it has not seen, and gets a card.

No rated data set is read. A second run reuses what is finished, and shows on the card what `mriqa eval` has found in
the meantime (--eval FILE).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriqa.embedded.lite_network import LiteBackbone

CONFIGS = Path(__file__).parent / "configs"
HELD_OUT = ("denoised", "upscaled", "chain")  # kinds of damage that training never sees
TILE_GRID = 6  # cells of 32 pixels along each side of a tile, as those that the network was trained on
WARM, POLICY = "warm_start", "mr_grpo"
NOT_TAKEN = "; not taken"
NETWORKS = {
    "frozen": "with its ImageNet weights",
    "trained": "trained on the pictures below from its ImageNet weights on, to state the score and, in training alone, "
    "the damage, its severity and what full-reference measures found",
    "shamisa": "pretrained without labels (`recipes/shamisa.py`)",
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The recipe's options; how the model is trained stands in the YAML files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos", nargs="+", default=[], help="folders of pristine photographs, beside those in the wheels"
    )
    parser.add_argument("--credit", help="whose photographs these are and under which licence, for the card")
    parser.add_argument(
        "--candidates",
        nargs="+",
        choices=("frozen", "trained"),
        default=["trained"],
        help="networks to choose among by validation: ImageNet's as it is, or trained here (default: trained)",
    )
    parser.add_argument("--shamisa", help="a folder of recipes/shamisa.py, as one more candidate's network")
    parser.add_argument("--output", type=Path, default=Path("outputs/default_model"), help="folder to write to")
    parser.add_argument("--train_images", type=int, default=14000, help="pictures to train on (default 14000)")
    parser.add_argument("--codec_images", type=int, default=3000, help="and through real codecs alone (default 3000)")
    parser.add_argument("--val_images", type=int, default=1000, help="pictures to choose by (default 1000)")
    parser.add_argument("--test_images", type=int, default=1500, help="pictures for the card (default 1500)")
    parser.add_argument("--trunk_steps", type=int, default=5000, help="updates of the network (default 5000)")
    parser.add_argument("--max_steps", type=int, help="updates of each candidate (default: as the YAML file says)")
    parser.add_argument("--seed", type=int, default=0, help="of the data and of training (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads in training (default 1)")
    parser.add_argument(
        "--eval", type=Path, nargs="+", default=[], help="what `mriqa eval --out` wrote for this model, for its card"
    )
    parser.add_argument(
        "--looks",
        type=Path,
        help="JSON of what rated sets said of each candidate: {candidate: {set: SRCC}}, for its card",
    )
    parser.add_argument("--install", action="store_true", help="replace the model inside the package by this one")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> Path:
    """Run the recipe and return the model's folder."""
    import torch

    torch.set_num_threads(arguments.threads)

    from mriqa.broad.broad_set import BroadSettings, build_broad_set, split_contents
    from mriqa.embedded.packaged import HELD_OUT_FILE, default_model_folder
    from mriqa.files import new_folder, write_json, write_text
    from mriqa.training.default_model.default_model_choice import choose, split_by_kind

    output: Path = arguments.output
    settings = BroadSettings(
        photos=tuple(arguments.photos),
        train_images=arguments.train_images,
        val_images=arguments.val_images,
        test_images=arguments.test_images,
        codec_images=arguments.codec_images,
        seed=arguments.seed,
    )
    splits = split_contents(settings)
    _check_enough(len(splits["val"]), settings.val_images)
    data = build_broad_set(output / "data", settings)
    manifests = split_by_kind(data, HELD_OUT, output)

    makers = _trunks(arguments, data, manifests)
    judged = {}
    for name, make in makers.items():
        folder = output / "candidates" / name
        _build(folder, _kept(output / f"{name}.safetensors", make), manifests, arguments)
        _warm_start(folder / WARM, folder, manifests, arguments)
        judged[name] = _judged(folder / WARM, folder, manifests)
    chosen = choose(judged)
    print(f"By validation: {chosen}.")
    folder = output / "candidates" / chosen
    _policy(folder / WARM, folder, manifests, arguments)
    stages = {WARM: judged[chosen], POLICY: _judged(folder / POLICY, folder, manifests)}
    stage = choose(stages)

    model_dir = output / "model"
    if not model_dir.is_dir():
        with new_folder(model_dir) as staged:
            _pack(folder / stage / "model", staged)
            write_json(sorted(content.name for content in splits["val"] + splits["test"]), staged / HELD_OUT_FILE)
    choice = {"chosen": chosen, "candidates": judged, "stage": stage, "stages": stages}
    write_text(_card(model_dir, data, settings, choice, arguments), model_dir / "README.md")
    print(f"The model is in {model_dir}: mriqa score PICTURES --model {model_dir}")
    if arguments.install:
        with new_folder(default_model_folder(), overwrite=True) as staged:
            shutil.copytree(model_dir, staged, dirs_exist_ok=True)
        print(f"It is also in {default_model_folder()}.")
    return model_dir


def _check_enough(contents: int, images: int) -> None:
    """Refuse at once what calibration, the last stage, would refuse: contents that are too few."""
    from mriqa.embedded.contents import EmbeddedDataError
    from mriqa.scoring.calibrating import FEWEST_CONTENTS, FEWEST_IMAGES

    if contents < FEWEST_CONTENTS or images < FEWEST_IMAGES:
        raise EmbeddedDataError(
            f"Intervals are calibrated on at least {FEWEST_IMAGES} validation pictures of {FEWEST_CONTENTS} contents, "
            f"and there are {images} of {contents}: give more photographs by --photos, or --val_images."
        )


def _trunks(arguments: argparse.Namespace, data: Any, manifests: Any) -> dict[str, Callable[[], LiteBackbone]]:
    """How each network that may be the eye's is made, by name."""
    from mriqa.broad.broad_set import read_details
    from mriqa.embedded.lite_tower import imagenet_trunk
    from mriqa.embedded.trained_trunk import TrunkSettings, train_trunk
    from mriqa.embedded.trunk_hints import Hints
    from mriqa.manifest import read_manifest
    from mriqa.progress import progress_bar

    def trained() -> LiteBackbone:
        settings = TrunkSettings(steps=arguments.trunk_steps, seed=arguments.seed)
        rows, details = read_manifest(manifests.train, check_images=False), read_details(data.train)
        known = {row.id: details[row.id] for row in rows}
        hints = Hints(
            {name: each.damage for name, each in known.items()},
            {name: (each.severity, *each.measures) for name, each in known.items()},
        )
        with progress_bar(settings.steps, description="Training the network", unit="steps") as bar:
            return train_trunk(rows, hints, settings, lambda done, loss: bar.move_to(done))

    def shamisa() -> LiteBackbone:
        from mriqa.embedded.lite_tower import trunk_of
        from mriqa.pretrain.quality_encoder import load_quality_encoder

        return trunk_of(load_quality_encoder(arguments.shamisa)[0].backbone)

    known = {"frozen": imagenet_trunk, "trained": trained, "shamisa": shamisa}
    return {name: known[name] for name in (*arguments.candidates, *(["shamisa"] if arguments.shamisa else []))}


def _kept(file: Path, make: Callable[[], LiteBackbone]) -> LiteBackbone:
    """The network in a file, made and written there where it is not yet."""
    from mriqa.embedded.lite_network import load_trunk, save_trunk

    if not file.is_file():
        save_trunk(make(), file)
    return load_trunk(file)


def _build(folder: Path, trunk: LiteBackbone, manifests: Any, arguments: argparse.Namespace) -> None:
    """Build an untrained candidate in the folder, with what its tower gives for every picture."""
    from mriqa.embedded.eye import TILE
    from mriqa.manifest import read_manifest
    from mriqa.training.embedded_preparation import FEATURES, build_standardised

    if not (folder / "untrained").is_dir():
        splits = [read_manifest(path, check_images=False) for path in (manifests.train, manifests.val)]
        build_standardised(
            folder / "untrained", folder / FEATURES, splits,
            seed=arguments.seed, tile=TILE, grid=TILE_GRID, summed_up=True, trunk=trunk,
        )  # fmt: skip


def _warm_start(run: Path, folder: Path, manifests: Any, arguments: argparse.Namespace) -> None:
    """Train a candidate to state scores."""
    import sft

    if not (run / "model").is_dir():
        options = _options("default_model_sft.yaml", folder / "untrained", run, folder, manifests)
        options += ["--seed", str(arguments.seed)]
        options += ["--max_steps", str(arguments.max_steps)] if arguments.max_steps else []
        sft.train(*sft.parse_arguments(options))


def _policy(warm: Path, folder: Path, manifests: Any, arguments: argparse.Namespace) -> None:
    """Go on from a candidate's warm start by MR-GRPO."""
    import mr_grpo

    if not (folder / POLICY / "model").is_dir():
        options = _options("default_model_grpo.yaml", warm / "model", folder / POLICY, folder, manifests)
        options += ["--seed", str(arguments.seed)]
        mr_grpo.train(*mr_grpo.parse_arguments(options))


def _options(config: str, model: Path, run: Path, folder: Path, manifests: Any) -> list[str]:
    from mriqa.training.embedded_preparation import FEATURES

    options = ["--config", str(CONFIGS / config), "--model", str(model), "--output_dir", str(run)]
    options += ["--vision_cache", str(folder / FEATURES)]
    return [*options, "--train_manifest", str(manifests.train), "--val_manifest", str(manifests.val)]


def _judged(run: Path, folder: Path, manifests: Any) -> dict[str, float]:
    """What a trained model's validation scores are worth, kept beside it."""
    import json

    from mriqa.files import write_json
    from mriqa.training.default_model.default_model_choice import judge_choice

    file = run / "validation.json"
    if not file.is_file():
        write_json(judge_choice(run / "model", folder, manifests), file)
    return json.loads(file.read_text(encoding="utf-8"))


def _pack(trained: Path, folder: Path) -> None:
    """The trained model in half precision."""
    from mriqa.models import load_scoring_settings, load_vlm, save_scoring_settings

    model, processor = load_vlm(trained, device="cpu")
    saved = load_scoring_settings(trained)
    assert saved is not None, "a recipe's model has its prompt beside it"
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    save_scoring_settings(folder, saved.answer_format, None)


def _measured(model_dir: Path, data: Any, settings: Any, output: Path) -> dict[str, Any]:
    """What the model is on test contents; how sure and how stable its scores are goes into its folder."""
    import json

    from mriqa.eval.stability import STABILITY_FILE
    from mriqa.files import write_json
    from mriqa.manifest import read_manifest
    from mriqa.progress import with_progress
    from mriqa.scoring import Scorer
    from mriqa.scoring.calibrating import calibrate
    from mriqa.scoring.certainty import CALIBRATION_FILE
    from mriqa.training.default_model.default_model_card import judge_broad, judge_labelled, without_pristine

    file = output / "measured.json"
    if not file.is_file():
        scorer = Scorer.from_pretrained(model_dir, device="cpu")
        labelled = judge_labelled(scorer, settings).by_name()
        kinds = without_pristine(judge_broad(scorer, data.test)).by_name()
        write_json({"labelled": labelled, "kinds": kinds}, file)
    if not (model_dir / CALIBRATION_FILE).is_file():
        rows = read_manifest(data.val, check_images=False)
        calibrate(Scorer.from_pretrained(model_dir, device="cpu"), rows, progress=with_progress).save(model_dir)
    if not (model_dir / STABILITY_FILE).is_file():
        write_json(_stability(model_dir, output / "stability"), model_dir / STABILITY_FILE)
    return json.loads(file.read_text(encoding="utf-8"))


def _stability(model_dir: Path, folder: Path) -> dict[str, Any]:
    """How far its scores move; what `mriqa stability --model MODEL_DIR` measures."""
    from mriqa.eval.stability import RunChange, measure_stability, package_pictures
    from mriqa.scoring import Scorer

    def in_bfloat16() -> Scorer:
        return Scorer.from_pretrained(model_dir, device="cpu", dtype="bfloat16")

    pictures, source = package_pictures(folder)
    more = {"bfloat16 instead of float32": RunChange(in_bfloat16)}
    return {"source": source, **measure_stability(Scorer.from_pretrained(model_dir, device="cpu"), pictures, more)}


def _card(model_dir: Path, data: Any, settings: Any, choice: dict[str, Any], arguments: argparse.Namespace) -> str:
    """configs/default_model_card.md with what was measured in the places left for it."""
    import json

    from mriqa.broad.broad_set import REPORT_FILE
    from mriqa.broad.damage_table import DAMAGES, KINDS
    from mriqa.embedded.eye import LIMIT, TILE
    from mriqa.eval.report import markdown_table
    from mriqa.eval.stability import COLUMNS, read_stability, stability_rows
    from mriqa.hub.run import read_evaluation
    from mriqa.scoring.calibrating import COVERAGE_COLUMNS, coverage_rows
    from mriqa.scoring.certainty import Calibration
    from mriqa.training.default_model.default_model_card import (
        WITH_ORIGINAL,
        describe_candidates,
        describe_looks,
        describe_stage,
        fill_card,
        kinds_of,
        with_originals,
    )

    measured = _measured(model_dir, data, settings, arguments.output)
    accuracy = json.loads((arguments.output / "data" / REPORT_FILE).read_text(encoding="utf-8"))
    unseen = accuracy["accuracy_on_unseen_contents"]["test"]
    stability = read_stability(model_dir)
    assert stability is not None, "it was measured before"
    calibration = Calibration.load(model_dir)
    assert calibration is not None, "likewise"
    evaluations = {path.stem: read_evaluation(path) for path in arguments.eval}
    found = {
        "tile": TILE, "limit": LIMIT, "network": NETWORKS[choice["chosen"]],
        "train_images": f"{settings.train_images:,}", "codec_images": f"{settings.codec_images:,}",
        "damages": len(DAMAGES), "kinds": ", ".join(KINDS),
        "photos": arguments.credit or ("folders of them" if settings.photos else "those inside two wheels"),
        "map_srcc": f"{unseen['srcc']:.2f}", "map_mae": f"{unseen['mae']:.2f}", "held_out": kinds_of(HELD_OUT),
        "stage_warm": describe_stage(choice["stages"][WARM]),
        "stage_policy": describe_stage(choice["stages"][POLICY]) + ("" if choice["stage"] == POLICY else NOT_TAKEN),
        "candidates": describe_candidates(choice),
        "labelled": markdown_table(
            with_originals(measured["labelled"], (data.val, data.test)), ["n", "srcc", "plcc", WITH_ORIGINAL]
        ),
        "kinds_table": markdown_table(measured["kinds"], ["n", "srcc", "plcc"]),
        "evaluations": markdown_table(evaluations, ["n", "srcc", "krcc", "plcc"]) if evaluations else "None yet.\n",
        "looks": describe_looks(arguments.looks),
        "coverage": markdown_table(coverage_rows(calibration), COVERAGE_COLUMNS),
        "stable_pictures": stability["pictures"],
        "stability": markdown_table(stability_rows(stability), COLUMNS),
    }  # fmt: skip
    return fill_card(CONFIGS / "default_model_card.md", found)


if __name__ == "__main__":
    from mriqa.training.launching import exit_code

    sys.exit(exit_code(lambda: run(parse_arguments())))
