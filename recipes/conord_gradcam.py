"""Where does a trained ConOrd model look, and at which pictures like it? Grad-CAM after Fig. 14 of the ConOrd paper.

    pip install "mriqa[gradcam]"
    python recipes/conord_gradcam.py --run outputs/conord_bid --examples 4 --neighbours 4

A run of recipes/conord.py gives the model and its data. Test pictures at even distances in the order of their ranks
stand in the first column, and behind each its nearest training pictures in the embedding space. Each heat map is of its
own picture alone, its centre crop: where it is red, the picture's embedding comes from. Writes gradcam.png and
gradcam.json (the pictures, their ranks and distances) into the split's folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from mriqa.conord import ConOrdModel
from mriqa.conord.crops import as_pixels, crops
from mriqa.conord.heat_maps import heat_maps
from mriqa.errors import SettingsError
from mriqa.eval.head_plots import heat_map_grid
from mriqa.files import write_json
from mriqa.images import load_image
from mriqa.training.conord_recipe.conord_runs import ConOrdRun, read_options, read_run
from mriqa.training.launching import exit_code


def examples_of(run: ConOrdRun, test_N: Tensor, count: int) -> list[int]:
    """Places of `count` test items, at even distances in the order of their ranks."""
    by_rank = test_N[run.ranks[test_N].reshape(len(test_N), -1)[:, 0].argsort(stable=True)].tolist()
    chosen = min(count, len(by_rank))
    return [by_rank[(2 * index + 1) * len(by_rank) // (2 * chosen)] for index in range(chosen)]


def draw(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Draw the figure; what gradcam.json holds. Raises a UserError for a run or a model that won't do."""
    run = read_run(read_options(arguments.run), Accelerator())
    seed = run.options.seed if arguments.split is None else arguments.split
    folder = run.split_folder(seed)
    model = ConOrdModel.load(folder / "model")
    if model.motion is not None or model.index is None:
        raise SettingsError(f"{folder} holds a model of videos, and heat maps are of pictures.")
    train_N, tests = run.split(seed)
    listed: list[dict[str, Any]] = []
    for place in examples_of(run, next(iter(tests.values())), arguments.examples):
        z_1D = model.embed([model.load_views(run.rows[place].image)])
        distances_1K, nearest_1K = model.index.neighbours(z_1D, min(arguments.neighbours, len(model.index)))
        near = [(int(train_N[item]), distance) for item, distance in zip(nearest_1K[0], distances_1K[0].tolist())]
        predicted = model.ranks(z_1D, run.options.k)[0].tolist()
        listed.append({
            **described(run, place), "predicted": predicted,
            "neighbours": [{**described(run, near_place), "distance": distance} for near_place, distance in near],
        })  # fmt: skip
    shown = [[(one, f"{one['rank']}, predicted {rounded(one['predicted'])}")]
             + [(near, str(near["rank"])) for near in one["neighbours"]] for one in listed]  # fmt: skip
    paths = {row.id: row.image for row in run.rows}
    grid = [[(*seen(model, paths[item["id"]], arguments.layer), text) for item, text in row] for row in shown]
    heat_map_grid(grid, folder / "gradcam.png", "A test picture, and its nearest training pictures")
    write_json(listed, folder / "gradcam.json")
    print(f"Wrote {folder / 'gradcam.png'}.")
    return listed


def described(run: ConOrdRun, place: int) -> dict[str, Any]:
    """A row's id and rank."""
    return {"id": run.rows[place].id, "rank": rounded(run.ranks[place].tolist())}


def rounded(rank: float | list[float]) -> float | list[float]:
    """A rank to two digits, for a caption."""
    return [round(number, 2) for number in rank] if isinstance(rank, list) else round(rank, 2)


def seen(model: ConOrdModel, path: Path, layer: str | None) -> tuple[Tensor, Tensor]:
    """A picture's centre crop (H, W, 3) and its heat map (H, W)."""
    (crop,) = crops(load_image(path), replace(model.views, count=1))
    pixels_3HW = as_pixels(crop)
    return pixels_3HW.permute(1, 2, 0), heat_maps(model, pixels_3HW[None], layer)[0]


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run of recipes/conord.py")
    parser.add_argument("--split", type=int, help="number of the split (default: the first)")
    parser.add_argument("--examples", type=int, default=4, help="test pictures, a row each (Fig. 14)")
    parser.add_argument("--neighbours", type=int, default=4, help="training pictures beside each (Fig. 14's k)")
    parser.add_argument("--layer", help="of the encoder's network (default: the last that keeps places)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when drawn, 2 with one sentence on stderr for a run or a model that won't do."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: draw(arguments))


if __name__ == "__main__":
    sys.exit(main())
