"""A run of recipes/conord.py around its training: its data, its folder, its splits, its results.

A run's folder belongs to its options and data: the same command goes on with the splits that have no result yet, and a
command with other options or other data is refused. (The recipes on a transformers Trainer have checkpoints and flags
for this, see `mriqa.training.runs`.)

Legend: N items, R numbers in a rank.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import yaml
from torch import Tensor

from mriqa.conord.fitting import check_training
from mriqa.conord.ranked_sets import RankedSet, read_ranked_set
from mriqa.conord.video_frames import check_video
from mriqa.datasets.splits import split_by_content
from mriqa.eval import metrics
from mriqa.files import write_json, write_text
from mriqa.heads import HeadError
from mriqa.images import load_image
from mriqa.manifest import ManifestError, RatedImage
from mriqa.progress import with_progress
from mriqa.training.conord_options import DISTANCES, ConOrdOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

OPTIONS_FILE, RESULT_FILE = "resolved_config.yaml", "result.json"
MAY_CHANGE = ("splits", "output_dir", "image_root", "cpu", "workers", "checkpoint_minutes", "keep_models")
MEASURES = ("srcc", "plcc", "mae", "angular_mae")


@dataclass(frozen=True)
class ConOrdRun:
    """What all splits share.

    Attributes:
        options: of the recipe.
        accelerator: accelerate's, for several processes and mixed precision.
        rows: of the manifest, then of the test manifest.
        ranks: of the rows, (N,) or (N, R), float64, on the declared scales.
        train_count: how many rows are of the manifest.
        span: the width of the widest scale.
        rank_names: what the numbers of a rank are.
        video: whether the rows are videos.
    """

    options: ConOrdOptions
    accelerator: Accelerator
    rows: list[RatedImage]
    ranks: Tensor
    train_count: int
    span: float
    rank_names: list[str]
    video: bool

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.options.output_dir)

    @property
    def seeds(self) -> range:
        """The seeds of the splits."""
        return range(self.options.seed, self.options.seed + self.options.splits)

    def split_folder(self, seed: int) -> Path:
        """Where the split of a seed writes."""
        return self.folder / f"split-{seed:02d}"

    def split(self, seed: int) -> tuple[Tensor, Tensor]:
        """Places of a split's training and test items. HeadError where the contents cannot be split."""
        if self.train_count < len(self.rows):
            return torch.arange(self.train_count), torch.arange(self.train_count, len(self.rows))
        place = {row.id: index for index, row in enumerate(self.rows)}
        share = self.options.test_share
        try:
            parts = split_by_content(self.rows, [1 - share, share], seed=seed)
        except ValueError as error:
            raise HeadError(str(error)) from error
        train_N, test_N = (torch.tensor([place[row.id] for row in part]) for part in parts)
        return train_N, test_N


def open_run(options: ConOrdOptions, accelerator: Accelerator) -> ConOrdRun:
    """Read the data and make the folder ready.

    Raises:
        ManifestError, ImageError: data that cannot be used.
        HeadError: options that do not fit the data, or a folder with a run of other options.
    """
    sets = [read_set(options, path) for path in (options.manifest, options.test_manifest) if path]
    if len({ranked.video for ranked in sets}) > 1:
        raise HeadError("One manifest is of pictures and the other of videos; train and test on the same kind.")
    rows, ranks = [row for ranked in sets for row in ranked.rows], torch.cat([ranked.ranks for ranked in sets])
    first = sets[0]
    run = ConOrdRun(options, accelerator, rows, ranks, len(first.rows), first.span, first.names, first.video)
    for seed in run.seeds:
        train_items, test_items = map(len, run.split(seed))
        check_training(options.training(seed), train_items, accelerator.num_processes)
        if options.k > train_items or test_items < 2:
            raise HeadError(
                f"The split of seed {seed} has {train_items} training and {test_items} test items; k is {options.k}, "
                "and a correlation needs two test items: lower k, change test_share, or give more rows."
            )
    data = repr([(row.id, rank) for row, rank in zip(rows, ranks.tolist(), strict=True)])
    resolved = {**asdict(options), "data": hashlib.sha256(data.encode()).hexdigest()[:16]}
    refuse_another_run(run.folder, resolved)
    accelerator.wait_for_everyone()  # nobody may write before everybody has looked
    if accelerator.is_main_process:
        write_text(yaml.safe_dump(resolved, sort_keys=False), run.folder / OPTIONS_FILE)
    return run


def read_set(options: ConOrdOptions, manifest: str) -> RankedSet:
    """A manifest's rows, after each picture or video has been opened once.

    Raises:
        ManifestError, ImageError: the manifest, a row, a picture or a video cannot be used.
        HeadError: an option has an impossible value.
    """
    try:
        ranked = read_ranked_set(
            manifest,
            image_root=options.image_root,
            scale=options.scale,
            score_key=options.score_key,
            vector=options.vector,
            on_bad_row=cast(Literal["fail", "skip"], options.on_bad_row),  # check_options has seen to it
        )
    except ManifestError:
        raise
    except ValueError as error:  # an option with an impossible value
        raise HeadError(str(error)) from error
    open_item: Callable[[Path], object] = check_video if ranked.video else load_image
    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        opened = pool.map(open_item, [row.image for row in ranked.rows])
        for _ in with_progress(opened, len(ranked.rows), "Checking"):
            pass
    return ranked


def refuse_another_run(folder: Path, resolved: dict[str, Any]) -> None:
    """HeadError where the folder holds something that a run with these options must not go on with."""
    path = folder / OPTIONS_FILE
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise HeadError(f"{folder} holds something else than a run of this recipe; choose another output_dir.")
        return
    if not any(folder.glob("split-*")):
        return  # nothing is lost: that run never began
    former = yaml.safe_load(path.read_text(encoding="utf-8"))
    changed = [name for name in resolved if name not in MAY_CHANGE and former.get(name) != resolved[name]]
    if changed:
        was, now = former.get(changed[0]), resolved[changed[0]]
        raise HeadError(
            f"{folder} holds a run with another {changed[0]} ({was}, not {now}); choose another output_dir."
        )


def measures(predicted: Tensor, ranks: Tensor, distance: str) -> dict[str, float]:
    """SRCC and PLCC of scalar ranks, the mean absolute error of all, and the mean angle of directions in degrees.

    Arguments:
        predicted, ranks: (N,), or (N, R) for vector ranks, float64.
        distance: the option of that name.
    """
    mae = float((predicted - ranks).abs().mean())
    if ranks.ndim == 1:
        x, y = predicted.numpy(), ranks.numpy()
        return {"srcc": metrics.srcc(x, y), "plcc": metrics.plcc(x, y), "mae": mae}
    if distance != "angular":
        return {"mae": mae}
    pairs_N2R = torch.stack([predicted, ranks], dim=1)
    angles = [float(DISTANCES[distance](pair_2R)[0, 1]) for pair_2R in pairs_N2R]
    return {"mae": mae, "angular_mae": statistics.fmean(angles)}


def write_result(run: ConOrdRun, seed: int, predicted: Tensor, history: list[dict[str, float]], seconds: float) -> None:
    """Write a split's result.json, which marks the split as done, and print its measures."""
    train_N, test_N = run.split(seed)
    ranks = run.ranks[test_N]
    measured = measures(predicted, ranks, run.options.distance)
    ids = [run.rows[place].id for place in test_N.tolist()]
    result = {
        "seed": seed,
        **measured,
        "train_items": len(train_N),
        "test_items": len(test_N),
        "seconds": round(seconds, 1),
        "history": history,
        "predictions": [
            {"id": name, "rank": rank, "predicted": prediction}
            for name, rank, prediction in zip(ids, ranks.tolist(), predicted.tolist(), strict=True)
        ],
    }
    write_json(result, run.split_folder(seed) / RESULT_FILE)
    shown = [f"{name.upper()} {measured[name]:.3f}" for name in MEASURES if name in measured]
    print(f"split {seed}: {', '.join(shown)}")


def summarise(run: ConOrdRun) -> dict[str, Any]:
    """Write results.json and results.md and print the table: the median over the splits first."""
    splits = []
    for seed in run.seeds:
        result = json.loads((run.split_folder(seed) / RESULT_FILE).read_text())
        splits.append({key: value for key, value in result.items() if key not in ("history", "predictions")})
    values_by_name = {
        name: [split[name] for split in splits if split[name] is not None] for name in MEASURES if name in splits[0]
    }
    median = {name: statistics.median(values) if values else None for name, values in values_by_name.items()}
    summary = {"encoder": run.options.encoder, "median": median, "splits": splits}
    write_json(summary, run.folder / "results.json")
    lines = ["| measure | median | mean ± std | splits |", "|---|---|---|---|"]
    for name, values in values_by_name.items():
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        mean = f"{statistics.fmean(values):.3f}{spread}" if values else "undefined"
        middle = f"{median[name]:.3f}" if values else "undefined"
        lines.append(f"| {name.upper()} | {middle} | {mean} | {len(values)} |")
    table = "\n".join(lines) + "\n"
    write_text(table, run.folder / "results.md")
    print(table)
    return summary
