"""What does a trained ConOrd model get right, and where does it fail? Examples after Fig. 8, 9 and 16 to 18 of ConOrd.

    python recipes/conord_examples.py --run outputs/conord_bid --success 8 --failure 8
    python recipes/conord_examples.py --run outputs/conord --failure 0 --split 0

A run of recipes/conord.py gives the predictions. Each test of each split becomes a sheet, split-NN/examples_TEST.png,
with "estimated [true]" below each picture, both angles of a gaze, and of a video its middle frame. The failures (b) are
the pictures of the largest errors, the worst first. The successes (a) are spread over the ranks: all other pictures, in
the order of their true ranks (of several numbers the first), are cut into as many equal parts as there are to be
successes, and the best predicted of each part is shown. No chance is in it. Of a test that is smaller than both
together each gets its share.

A test on another scale than the training's is shown on its own: estimates are brought to it by the ends of both scales.
split-NN/examples.json names the pictures.

Legend: N test items, R numbers in a rank.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mriqa.conord.ranked_sets import RankedSet
from mriqa.conord.video_frames import is_video, middle_frame
from mriqa.errors import SettingsError
from mriqa.eval.example_sheet import Example, Section, example_sheet
from mriqa.files import write_json
from mriqa.images import load_image
from mriqa.manifest import Scale, resolve_scale
from mriqa.training.conord_recipe.conord_options import DISTANCES, ConOrdOptions
from mriqa.training.conord_recipe.conord_runs import RESULT_FILE, read_options, read_rows, test_names
from mriqa.training.launching import exit_code

LARGEST = 720  # pixels of a picture's longer side that are kept in memory


@dataclass(frozen=True)
class PictureSet:
    """What a test's predictions are about: its pictures by their ids, and the scales of the estimates and the truth."""

    paths: dict[str, Path]
    names: list[str]
    estimated: list[Scale]
    true: list[Scale]


def draw(arguments: argparse.Namespace) -> list[Path]:
    """Draw the sheets; their files. Raises a UserError for a run or pictures that won't do."""
    if min(arguments.success, arguments.failure) < 0 or arguments.success + arguments.failure == 0:
        raise SettingsError("success and failure must be at least 0, and one of them more.")
    options = read_options(arguments.run)
    tests: dict[str, PictureSet] = {}
    drawn: list[Path] = []
    for folder in split_folders(arguments.run, arguments.split):
        listed = {}
        for test, predictions in predictions_of(folder).items():
            tests[test] = tests.get(test) or read_test(options, test)
            listed[test] = chosen(predictions, tests[test], options, arguments.success, arguments.failure)
            path = folder / f"examples_{test}.png"
            draw_sheet(listed[test], tests[test], path, f"{arguments.run.resolve().name}, {folder.name}, {test}")
            print(f"Wrote {path}.")
            drawn.append(path)
        write_json(listed, folder / "examples.json")
    return drawn


def split_folders(run: Path, split: int | None) -> list[Path]:
    """Folders of the splits that are done, or that of a single one. SettingsError where there is none."""
    wanted = "split-*" if split is None else f"split-{split:02d}"
    folders = sorted(path.parent for path in run.glob(f"{wanted}/{RESULT_FILE}"))
    if not folders:
        which = "no split" if split is None else f"no split {split}"
        raise SettingsError(f"{run} has {which} that is done; train it with recipes/conord.py, or name another.")
    return folders


def predictions_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The predictions of a split by the name of the test. SettingsError for a broken result."""
    path = folder / RESULT_FILE
    try:
        tests = json.loads(path.read_text(encoding="utf-8"))["tests"]
        return {name: found["predictions"] for name, found in tests.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path} cannot be read; delete it and train this split again.") from error


def read_test(options: ConOrdOptions, test: str) -> PictureSet:
    """The pictures of a test. Raises ManifestError and HeadError where its manifest cannot be used any more."""
    manifests = dict(zip(test_names(options.test_manifest), options.test_manifest, strict=True))
    scales = dict(zip(manifests, options.test_scale, strict=False))
    rows: RankedSet = read_rows(options, manifests.get(test, options.manifest), scales.get(test, options.scale))
    estimated = rows.scales if options.vector else [resolve_scale(options.scale)]
    return PictureSet({row.id: row.image for row in rows.rows}, rows.names, estimated, rows.scales)


def chosen(
    predictions: Sequence[dict[str, Any]], test: PictureSet, options: ConOrdOptions, success: int, failure: int
) -> dict[str, list[dict[str, Any]]]:
    """The best and the worst predicted of a test: id, rank and, on the rank's scale, prediction."""
    ranks_NR = torch.tensor([one["rank"] for one in predictions], dtype=torch.float64).reshape(len(predictions), -1)
    predicted_NR = torch.tensor([one["predicted"] for one in predictions], dtype=torch.float64).reshape(ranks_NR.shape)
    for number, (estimated, true) in enumerate(zip(test.estimated, test.true, strict=True)):
        predicted_NR[:, number] = moved(predicted_NR[:, number], estimated, true)
    distance = DISTANCES[options.distance]
    errors_N = torch.stack([distance(pair_2R)[0, 1] for pair_2R in torch.stack([predicted_NR, ranks_NR], dim=1)])
    best, worst = best_and_worst(errors_N, ranks_NR[:, 0], success, failure)
    listed = [
        {"id": one["id"], "rank": rank, "predicted": predicted, "error": error}
        for one, rank, predicted, error in zip(
            predictions, ranks_NR.tolist(), predicted_NR.tolist(), errors_N.tolist(), strict=True
        )
    ]
    return {"success": [listed[place] for place in best], "failure": [listed[place] for place in worst]}


def moved(values_N: Tensor, from_scale: Scale, to_scale: Scale) -> Tensor:
    """Values of one scale on another, ends on ends; unlike `Scale.to_mos` for values beyond the ends too."""
    if from_scale == to_scale:
        return values_N
    share_N = (values_N - from_scale.low) / (from_scale.high - from_scale.low)
    share_N = share_N if from_scale.direction == to_scale.direction else 1 - share_N
    return to_scale.low + (to_scale.high - to_scale.low) * share_N


def best_and_worst(errors_N: Tensor, ranks_N: Tensor, success: int, failure: int) -> tuple[list[int], list[int]]:
    """Places of the best predicted, from the lowest rank to the highest, and of the worst, from the worst on."""
    count = len(errors_N)
    if success + failure > count:
        failure = failure * count // (success + failure)
        success = min(success, count - failure)
    by_error = errors_N.argsort(descending=True, stable=True).tolist()
    others = sorted(by_error[failure:], key=lambda place: (float(ranks_N[place]), place))
    parts = np.array_split(others, success) if success else []
    return [min(part.tolist(), key=lambda place: float(errors_N[place])) for part in parts], by_error[:failure]


def draw_sheet(listed: dict[str, list[dict[str, Any]]], test: PictureSet, path: Path, title: str) -> None:
    """A sheet of a test's examples. ImageError or SettingsError where a picture is not there any more."""
    headings = {
        "success": ("(a) Success", "the best predicted of each part of the ranks, from low to high"),
        "failure": ("(b) Failure", "the largest errors, the worst first"),
    }
    sections = [
        Section(*headings[name], [Example(shown(one["id"], test), numbers(one, test)) for one in examples])
        for name, examples in listed.items()
    ]
    about = ", ".join(f"{name} on {scale}" for name, scale in zip(test.names, test.true, strict=True))
    example_sheet(sections, path, title, f"estimated [true], {about}")


def shown(identifier: str, test: PictureSet) -> Image.Image:
    """A picture, or a video's middle frame, not larger than a sheet needs."""
    if identifier not in test.paths:
        raise SettingsError(
            f"The run tested {identifier!r}, which its manifest does not have any more; restore the row."
        )
    path = test.paths[identifier]
    image = middle_frame(path) if is_video(path) else load_image(path)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return image


def numbers(example: dict[str, Any], test: PictureSet) -> list[tuple[str, str]]:
    """Estimated and [true] number of a rank, a line each; of several numbers with their names."""
    lines = []
    for name, scale, estimated, true in zip(test.names, test.true, example["predicted"], example["rank"], strict=True):
        digits = 2 if scale.high - scale.low <= 10 else 1
        before, after = (f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−") for value in (estimated, true))
        lines.append((before if len(test.names) == 1 else f"{name} {before}", f"[{after}]"))
    return lines


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run of recipes/conord.py")
    parser.add_argument("--split", type=int, help="number of the split (default: every one that is done)")
    parser.add_argument(
        "--success",
        type=int,
        default=8,
        help="best predicted pictures, (a) in Fig. 16, 17 and 18 and all of Fig. 8 and 9",
    )
    parser.add_argument("--failure", type=int, default=8, help="worst predicted pictures, (b) in Fig. 16, 17 and 18")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when drawn, 2 with one sentence on stderr for a run or pictures that won't do."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: draw(arguments))


if __name__ == "__main__":
    sys.exit(main())
