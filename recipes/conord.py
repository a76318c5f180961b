"""Train a vision encoder to score by contrastive order learning (ConOrd): quality, ages, temperatures, gaze, videos.

    python recipes/conord.py --config recipes/configs/conord/bid.yaml --manifest bid.jsonl
    python recipes/conord.py --manifest my.jsonl --scale 0:100 --encoder timm:resnet18 --learning_rate 1e-4
    accelerate launch recipes/conord.py --config recipes/configs/conord/koniq.yaml --manifest koniq.jsonl
    torchrun --nproc_per_node 2 recipes/conord.py --cpu true --manifest my.jsonl         # several processes on CPU

The encoder, a projection and reference points train with L_ConOrd + L_center; a test picture's rank is the mean rank of
its k nearest training pictures. Each split trains on 80 % of the contents (of the pictures, where the manifest has no
contents) and tests on the rest; `--test_manifest` tests on another manifest instead, and the splits differ only in
their seed. Every option can stand in the YAML file given by --config, and the command line overrides it.

The run writes to output_dir: split-NN/model/ (for `mriqa.heads.ConOrdModel.load`), split-NN/result.json with every
prediction, results.json and results.md with the medians. Run again with the same options, it goes on where it stopped.

Legend: N items, V views of each, F features, R numbers in a rank.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from mriqa.conord.crops import CropSettings
from mriqa.conord.fitting import Objective, check_plan, fit, hash_of
from mriqa.conord.model import ConOrdModel, MotionSettings, View
from mriqa.conord.ranked_sets import Computed, Looked, RankedSet, read_ranked
from mriqa.conord.recipe_options import DISTANCES, Settings, check_settings, parse_arguments
from mriqa.conord.video_frames import VideoSettings, check_video
from mriqa.datasets.splits import split_by_content
from mriqa.errors import UserError
from mriqa.eval import metrics
from mriqa.files import write_json, write_text
from mriqa.heads import HeadError, RankIndex, ReferencePoints
from mriqa.images import load_image
from mriqa.manifest import RatedImage
from mriqa.progress import with_progress

SETTINGS_FILE, RESULT_FILE, CHECKPOINT_FILE = "resolved_config.yaml", "result.json", "checkpoint.safetensors"
MAY_CHANGE = ("splits", "output_dir", "image_root", "cpu", "workers", "checkpoint_minutes", "keep_models")


@dataclass
class Run:
    """What all splits share: rows and ranks of both manifests, and where the test manifest's begin."""

    settings: Settings
    accelerator: Accelerator
    rows: list[RatedImage]
    ranks: Tensor
    train_count: int
    span: float
    names: list[str]
    video: bool

    @property
    def folder(self) -> Path:
        return Path(self.settings.output_dir)

    def parts(self, seed: int) -> tuple[Tensor, Tensor]:
        """Places of a split's training and test items."""
        if self.train_count < len(self.rows):
            return torch.arange(self.train_count), torch.arange(self.train_count, len(self.rows))
        place = {row.id: index for index, row in enumerate(self.rows)}
        share = self.settings.test_share
        parts = split_by_content(self.rows, [1 - share, share], seed=seed)
        first, second = (torch.tensor([place[row.id] for row in part]) for part in parts)
        return first, second


def train(settings: Settings) -> dict[str, Any]:
    """Run the recipe; what results.json holds. Raises a UserError for settings or data that won't do."""
    check_settings(settings)
    accelerator = Accelerator(cpu=settings.cpu, mixed_precision="bf16" if settings.bf16 else "no")
    run = open_run(settings, accelerator)
    looked: Dataset[list[View]] | None = None
    for seed in range(settings.seed, settings.seed + settings.splits):
        folder = run.folder / f"split-{seed:02d}"
        if not (folder / RESULT_FILE).is_file():
            # A frozen encoder with random weights has to be the same one for all splits, as their features are.
            torch.manual_seed(hash_of(settings.seed if settings.frozen else seed))
            model = build_model(settings, run.video)
            looked = looked or views_of_all(model, run)
            one_split(seed, model, looked, folder, run)
            accelerator.free_memory()
    return summarise(run) if accelerator.is_main_process else {}


def open_run(settings: Settings, accelerator: Accelerator) -> Run:
    """Read the data and make the folder ready. HeadError where it holds a run with other settings."""
    sets = [read_set(settings, path) for path in (settings.manifest, settings.test_manifest) if path]
    if len({ranked.video for ranked in sets}) > 1:
        raise HeadError("One manifest is of pictures and the other of videos; train and test on the same kind.")
    rows, ranks = [row for ranked in sets for row in ranked.rows], torch.cat([ranked.ranks for ranked in sets])
    first = sets[0]
    run = Run(settings, accelerator, rows, ranks, len(first.rows), first.span, first.names, first.video)
    for seed in range(settings.seed, settings.seed + settings.splits):
        items, tests = map(len, run.parts(seed))
        check_plan(settings.plan(seed), items, accelerator.num_processes)
        if settings.k > items or tests < 2:
            raise HeadError(
                f"The split of seed {seed} has {items} training and {tests} test items; k is {settings.k}, and a "
                "correlation needs two test items: lower k, change test_share, or give more rows."
            )
    data = repr([(row.id, rank) for row, rank in zip(rows, ranks.tolist(), strict=True)])
    resolved = {**asdict(settings), "data": hashlib.sha256(data.encode()).hexdigest()[:16]}
    refuse_another_run(run.folder, resolved)
    accelerator.wait_for_everyone()  # nobody may write before everybody has looked
    if accelerator.is_main_process:
        write_text(yaml.safe_dump(resolved, sort_keys=False), run.folder / SETTINGS_FILE)
    return run


def refuse_another_run(folder: Path, resolved: dict[str, Any]) -> None:
    """HeadError where the folder holds something that a run with these settings must not go on with."""
    path = folder / SETTINGS_FILE
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


def read_set(settings: Settings, manifest: str) -> RankedSet:
    """A manifest's rows, each picture or video opened once to be sure."""
    ranked = read_ranked(
        manifest,
        image_root=settings.image_root,
        scale=settings.scale,
        score_key=settings.score_key,
        vector=settings.vector,
        on_bad_row=settings.on_bad_row,  # type: ignore[arg-type]  # checked
    )
    open_once: Callable[[Path], object] = check_video if ranked.video else load_image
    with ThreadPoolExecutor(max(1, settings.workers)) as pool:
        checked = pool.map(open_once, [row.image for row in ranked.rows])
        for _ in with_progress(checked, len(ranked.rows), "Checking"):
            pass
    return ranked


def build_model(settings: Settings, video: bool) -> ConOrdModel:
    """The untrained model. HeadError where there is no such encoder."""
    motion = None
    if video:
        shown = VideoSettings(settings.frames, settings.clips, settings.clip_length, settings.clip_size)
        motion = MotionSettings(shown, tuple(settings.fast_depths), settings.fast_stem)
    model = ConOrdModel.build(settings.encoder, settings.pretrained, settings.width, motion=motion, k=settings.k)
    crop = model.encoder.size if settings.crop is None else settings.crop
    model.views = CropSettings(crop, settings.crops, settings.size, settings.limit)
    if settings.frozen:
        model.encoder.freeze()
    if model.motion and settings.fast_weights:
        try:
            model.motion.fast.load_state_dict(load_file(settings.fast_weights))
        except (OSError, RuntimeError, SafetensorError) as error:
            first = str(error).split("\n")[0]
            raise HeadError(f"fast_weights {settings.fast_weights} cannot be loaded ({first}).") from error
    return model


def views_of_all(model: ConOrdModel, run: Run) -> Dataset[list[View]]:
    """Views of all items; of a frozen encoder the features instead, computed once for all splits."""
    looked = Looked(model, run.rows)
    if not run.settings.frozen or run.video:
        return looked
    model.to(run.accelerator.device)
    return Computed(for_all(model.view_features, looked, range(len(run.rows)), run, "Features"))


def one_split(seed: int, model: ConOrdModel, views: Dataset[list[View]], folder: Path, run: Run) -> None:
    """Train on a split, predict its test items, save model and result."""
    settings, accelerator, started = run.settings, run.accelerator, time.monotonic()
    train_N, test_N = run.parts(seed)
    if isinstance(views, Computed):
        model.projection.standardise(views.features_NVF[train_N].flatten(0, 1))
    points = ReferencePoints(
        run.ranks[train_N].float(), settings.width, settings.bin_width or run.span / 100,
        generator=torch.Generator().manual_seed(hash_of(seed)),
    )  # fmt: skip
    objective = Objective(
        model, points, settings.weighting, settings.tau, settings.eps, settings.center_weight,
        DISTANCES[settings.distance], gap_width=run.span / 100,
    ).to(accelerator.device)  # fmt: skip

    plan, checkpoint = settings.plan(seed), folder / CHECKPOINT_FILE
    with progress_bar(accelerator.is_main_process) as bar:
        task = bar.add_task(f"Split {seed}", total=plan.epochs)

        def on_epoch(done: int, log: dict[str, float]) -> None:
            bar.update(task, completed=done, description=f"Split {seed}, loss {log['loss']:.4f}")

        history = fit(
            objective, Subset(views, train_N.tolist()), run.ranks[train_N], plan, accelerator,
            workers=settings.workers, checkpoint=checkpoint, checkpoint_due=every(60 * settings.checkpoint_minutes),
            on_epoch=on_epoch,
        )  # fmt: skip

    known_ND, asked_ND = (
        for_all(model.embed, views, places_N.tolist(), run, label)
        for places_N, label in ((train_N, "Index"), (test_N, "Test"))
    )
    if not accelerator.is_main_process:
        return
    model.index, model.rank_names = RankIndex(known_ND, run.ranks[train_N]), run.names
    predicted = model.index.predict(asked_ND, settings.k).double()
    if settings.keep_models and not (folder / "model").exists():
        model.save(folder / "model")
    result = {
        "seed": seed,
        **measures(predicted, run.ranks[test_N], settings.distance),
        "train_items": len(train_N),
        "test_items": len(test_N),
        "seconds": round(time.monotonic() - started, 1),
        "history": history,
        "predictions": [
            {"id": run.rows[place].id, "rank": rank, "predicted": found}
            for place, rank, found in zip(test_N.tolist(), run.ranks[test_N].tolist(), predicted.tolist(), strict=True)
        ],
    }
    write_json(result, folder / RESULT_FILE)
    checkpoint.unlink(missing_ok=True)
    print(f"split {seed}: " + ", ".join(f"{name.upper()} {result[name]:.3f}" for name in MEASURES if name in result))


MEASURES = ("srcc", "plcc", "mae", "angular_mae")


def measures(predicted: Tensor, ranks: Tensor, distance: str) -> dict[str, float]:
    """SRCC and PLCC of scalar ranks, the mean absolute error of all, and the mean angle of directions in degrees."""
    found = {"mae": float((predicted - ranks).abs().mean())}
    if ranks.ndim == 1:
        x, y = predicted.numpy(), ranks.numpy()
        return {"srcc": metrics.srcc(x, y), "plcc": metrics.plcc(x, y), **found}
    if distance == "angular":
        pairs = torch.stack([predicted, ranks], dim=1)
        found["angular_mae"] = statistics.fmean(float(DISTANCES[distance](pair)[0, 1]) for pair in pairs)
    return found


def for_all(
    compute: Callable[[list[list[View]]], Tensor],
    views: Dataset[list[View]],
    places: Sequence[int],
    run: Run,
    label: str,
) -> Tensor:
    """`compute` of the views at these places, in batches, each process its share; rows on the CPU, in order."""
    accelerator = run.accelerator
    own = range(accelerator.process_index, len(places), accelerator.num_processes)
    subset = Subset(views, [places[index] for index in own])
    loader = DataLoader(subset, run.settings.batch_size, num_workers=run.settings.workers, collate_fn=list)
    batches = with_progress(loader, len(loader), label) if accelerator.is_main_process else loader
    found = [row for batch in batches for row in compute(batch).cpu()]
    numbered = list(zip(own, found, strict=True))
    gathered = gather_object(numbered) if accelerator.num_processes > 1 else numbered
    return torch.stack([row for _, row in sorted(gathered, key=lambda pair: pair[0])])


def summarise(run: Run) -> dict[str, Any]:
    """Write results.json and results.md, and print the table: the median over the splits first."""
    settings = run.settings
    seeds = range(settings.seed, settings.seed + settings.splits)
    results = [json.loads((run.folder / f"split-{seed:02d}" / RESULT_FILE).read_text()) for seed in seeds]
    kept = [{key: value for key, value in each.items() if key not in ("history", "predictions")} for each in results]
    found = {name: [each[name] for each in kept if each[name] is not None] for name in MEASURES if name in kept[0]}
    median = {name: statistics.median(values) if values else None for name, values in found.items()}
    summary = {"encoder": settings.encoder, "median": median, "splits": kept}
    write_json(summary, run.folder / "results.json")
    lines = ["| measure | median | mean ± std | splits |", "|---|---|---|---|"]
    for name, values in found.items():
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        mean = f"{statistics.fmean(values):.3f}{spread}" if values else "undefined"
        middle = f"{median[name]:.3f}" if values else "undefined"
        lines.append(f"| {name.upper()} | {middle} | {mean} | {len(values)} |")
    text = "\n".join(lines) + "\n"
    write_text(text, run.folder / "results.md")
    print(text)
    return summary


def every(seconds: float) -> Callable[[], bool]:
    """A question that is answered yes when this much time has passed since it last was."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        last = time.monotonic()
        return True

    return due


def progress_bar(shown: bool) -> Progress:
    """A bar of epochs on stderr."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not (shown and console.is_terminal))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when trained, 2 with one sentence on stderr for settings or data that won't do."""
    try:
        train(parse_arguments(__doc__, argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
