"""The whole way on photographs, in minutes on two CPU cores: data, warm start, MR-GRPO, evaluation, scoring.

    python recipes/demo.py
    python recipes/demo.py --photos FOLDER        # your own photographs too

Builds a small broad data set (docs/broad_set.md) and a model with the packaged one's eye, warms the model up on (image,
answer) pairs (configs/tiny_sft.yaml), trains it by MR-GRPO (configs/tiny.yaml), and scores the test pictures, whose
contents neither training nor validation has seen, nor the training of the eye. With --set labelled the data have five
labelled distortions, and the eye is a network that knows none of them.
Writes results.json, scatter.png, training_curve.png, predictions.jsonl and model/, for `mriqa score --model`. A second
run reuses what is finished; --fresh starts again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The demo's few options; everything else stands in the two YAML files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, help="folder to write to (default outputs/demo; outputs/demo_labelled of that set)"
    )
    parser.add_argument(
        "--photos", type=Path, help="folder of photographs, beside those in the wheels or, labelled, instead"
    )
    parser.add_argument("--train_images", type=int, help="pictures to train on (default 1000; labelled 1600)")
    parser.add_argument(
        "--set",
        choices=("broad", "labelled"),
        default="broad",
        help="62 damages of 17 kinds, or KADID-10k's distortions, one a picture (default broad)",
    )
    parser.add_argument(
        "--distortions", nargs="+", metavar="NAME", help="with --set labelled: e.g. jpeg jpeg2000 (default: five)"
    )
    parser.add_argument(
        "--warm_start_steps", type=int, help="length of the warm start (default: as configs/tiny_sft.yaml)"
    )
    parser.add_argument("--estimator", choices=("exact", "sampled"), help="see recipes/mr_grpo.py (default: exact)")
    parser.add_argument("--seed", type=int, default=42, help="seed of both trainings (default 42)")
    # Two torch threads fall twentyfold behind one as soon as another process wants one of their cores.
    parser.add_argument("--threads", type=int, default=1, help="torch threads in training (default 1)")
    parser.add_argument("--fresh", action="store_true", help="delete the folder's earlier demo first")
    arguments = parser.parse_args(argv)
    if arguments.distortions and arguments.set != "labelled":
        parser.error("--distortions are those of the labelled set: add --set labelled")
    arguments.output = arguments.output or Path("outputs/demo" if arguments.set == "broad" else "outputs/demo_labelled")
    return arguments


def run(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Run the demo and return the content of results.json."""
    started = time.monotonic()
    output: Path = arguments.output
    if arguments.fresh and output.exists():
        shutil.rmtree(output)
    _check_set(arguments)
    output.mkdir(parents=True, exist_ok=True)

    import torch

    torch.set_num_threads(arguments.threads)
    import mr_grpo
    import sft

    from mriqa.broad.broad_set import read_details
    from mriqa.eval.evaluation import evaluate_scores
    from mriqa.eval.plots import scatter, training_curve
    from mriqa.eval.report import print_table
    from mriqa.files import new_folder, write_json, write_jsonl
    from mriqa.manifest import read_manifest
    from mriqa.training.embedded_runs import BROAD, WARM_START, scores_of
    from mriqa.training.runs import LOG_FILE, MODEL_DIR

    # Train. The first recipe builds the data and the untrained model, if they are not there.
    prepared_dir, policy_dir, model_dir = output / "embedded", output / "mr_grpo", output / "model"
    warm_dir = prepared_dir / WARM_START
    common = ["--embedded_dir", str(prepared_dir), "--seed", str(arguments.seed)]
    common += ["--photos", str(arguments.photos)] if arguments.photos else []
    common += ["--embedded_images", str(arguments.train_images)] if arguments.train_images else []
    common += ["--embedded_set", arguments.set]
    common += ["--embedded_distortions", *arguments.distortions] if arguments.distortions else []
    if not (warm_dir / MODEL_DIR).is_dir():
        steps = ["--max_steps", str(arguments.warm_start_steps)] if arguments.warm_start_steps else []
        warm_options = ["--config", str(CONFIGS / "tiny_sft.yaml"), "--output_dir", str(warm_dir), *common, *steps]
        sft.train(*sft.parse_arguments(warm_options))
    if not model_dir.is_dir():
        options = ["--config", str(CONFIGS / "tiny.yaml"), "--output_dir", str(policy_dir), *common]
        options += ["--estimator", arguments.estimator] if arguments.estimator else []
        mr_grpo.train(*mr_grpo.parse_arguments(options))
        with new_folder(model_dir) as staged:
            shutil.copytree(policy_dir / MODEL_DIR, staged, dirs_exist_ok=True)

    # Evaluate on contents that nobody has seen.
    rows = read_manifest(prepared_dir / "data" / "test.jsonl", check_images=False)
    mos = [row.mos for row in rows]
    if arguments.set == BROAD:
        kinds = [details.kind for details in read_details(prepared_dir / "data" / "test.jsonl").values()]
    else:
        kinds = [row.id.split("-")[-2] for row in rows]
    predictions = {
        "warm_start": scores_of(warm_dir / MODEL_DIR, prepared_dir, rows),
        "mr_grpo": scores_of(model_dir, prepared_dir, rows),
    }
    results = {name: evaluate_scores(scores, mos) for name, scores in predictions.items()}

    # Report.
    write_json(results, output / "results.json")
    lines = []
    for index, row in enumerate(rows):
        scores = {name: round(float(values[index]), 4) for name, values in predictions.items()}
        lines.append({"id": row.id, "content": row.content, "mos": row.mos, **scores})
    write_jsonl(lines, output / "predictions.jsonl")
    scatter(
        predictions["mr_grpo"],
        mos,
        output / "scatter.png",
        title="After MR-GRPO: test pictures, unseen contents",
        hue=kinds,
    )
    history = json.loads((policy_dir / LOG_FILE).read_text(encoding="utf-8"))["history"]
    training_curve(history, output / "training_curve.png", title="MR-GRPO")
    print_table(
        {"warm start": results["warm_start"], "after MR-GRPO": results["mr_grpo"]},
        title=f"{len(rows)} pictures of {len({row.content for row in rows})} unseen contents",
        columns=["n", "srcc", "plcc"],
    )
    print(f"Plots and results are in {output}; {time.monotonic() - started:.0f} s.")
    print(f"Score pictures with it: mriqa score PICTURES --model {model_dir}")
    return results


def _check_set(arguments: argparse.Namespace) -> None:
    """Refuse to go on with what was made of the other set of pictures."""
    from mriqa.errors import SettingsError
    from mriqa.training.embedded_runs import holds_other_set

    if holds_other_set(arguments.output / "embedded", arguments.set):
        raise SettingsError(
            f"{arguments.output} holds a demo of the other set of pictures: give another --output, --set as it was, or "
            "--fresh to start again."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    arguments = parse_arguments(argv)

    from mriqa.training.launching import exit_code

    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
