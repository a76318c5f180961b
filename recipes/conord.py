"""Train a vision encoder to score by contrastive order learning (ConOrd): quality, ages, temperatures, gaze, videos.

    python recipes/conord.py --config recipes/configs/conord/bid.yaml --manifest bid.jsonl
    python recipes/conord.py --manifest my.jsonl --scale 0:100 --encoder timm:resnet18 --learning_rate 1e-4
    accelerate launch recipes/conord.py --config recipes/configs/conord/koniq.yaml --manifest koniq.jsonl
    torchrun --nproc_per_node 2 recipes/conord.py --cpu true --manifest my.jsonl         # several processes on CPU

The encoder, a projection and reference points train with L_ConOrd + L_center, or with another --loss on the same
network; a test picture's rank is the mean rank of its k nearest training pictures, or after regression what a linear
layer reads off. Each split trains on 80 % of the contents (of the pictures, where the manifest has no contents) and
tests on the rest; --test_manifest tests on other manifests instead, and the splits differ only in their seed; --folds
and --fold_key test every picture once. Every option can stand in the YAML file given by --config, and the command line
overrides it. docs/reproduce.md has the command of each table and figure of the paper.

The run writes to output_dir: split-NN/model/ (for `mriqa score` and `mriqa.conord.ConOrdModel.load`),
split-NN/result.json with every prediction, results.json and results.md with the medians and with what it cost: seconds
of an epoch and of a test, parameters. Run again with the same options, it goes on where it stopped.

Legend: N items, B batch, P draws of each, V views of a draw, F features, D embedding width.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from mriqa.conord.corrupted_views import LEVELS, CorruptedViewDataset
from mriqa.conord.crops import CropSettings
from mriqa.conord.fitting import (
    TrainingSettings,
    build_optimizer,
    combined_seed,
    epoch_batches,
    load_checkpoint,
    save_checkpoint,
    set_rate,
)
from mriqa.conord.model import ConOrdModel, MotionSettings, View, to_device
from mriqa.conord.objective import Objective
from mriqa.conord.ranked_sets import FeatureDataset, TrainingDataset, ViewDataset
from mriqa.conord.slowfast_weights import load_fast_pathway
from mriqa.conord.video_frames import VideoSettings
from mriqa.heads import RankIndex, ReferencePoints
from mriqa.heads.linear_reading import REGRESSIONS
from mriqa.progress import every, progress_bar, with_progress
from mriqa.training.conord_recipe.conord_options import MEANS, WHOLE, ConOrdOptions, check_options
from mriqa.training.conord_recipe.conord_results import result_of_test, summarise, write_result
from mriqa.training.conord_recipe.conord_runs import RESULT_FILE, ConOrdRun, open_run
from mriqa.training.launching import exit_code, parse

CHECKPOINT_FILE, MODEL_DIR = "checkpoint.safetensors", "model"


def parse_arguments(argv: Sequence[str] | None = None) -> ConOrdOptions:
    """Options from the command line and the YAML file it names. Raises SettingsError for what cannot be right."""
    (options,) = parse((ConOrdOptions,), __doc__, argv)
    return options


def train(options: ConOrdOptions) -> dict[str, Any]:
    """Run the recipe; what results.json holds. Raises a UserError for options or data that won't do."""
    check_options(options)
    accelerator = Accelerator(cpu=options.cpu, mixed_precision="bf16" if options.bf16 else "no")
    run = open_run(options, accelerator)
    views: Dataset[list[View]] | None = None
    for seed in run.seeds:
        if (run.split_folder(seed) / RESULT_FILE).is_file():
            continue
        # A frozen encoder with random weights has to be the same one for all splits, because they share its features.
        torch.manual_seed(combined_seed(options.seed if options.frozen else seed))
        model = build_model(run)
        views = views or views_of_all(model, run)
        train_split(seed, model, views, run)
        accelerator.free_memory()
    return summarise(run) if accelerator.is_main_process else {}


def train_split(seed: int, model: ConOrdModel, views: Dataset[list[View]], run: ConOrdRun) -> None:
    """Train on a split, predict the ranks of its test items, save model and result."""
    options, started = run.options, time.monotonic()
    train_N, tests = run.split(seed)
    training_views, ranks_N = Subset(views, train_N.tolist()), run.ranks[train_N]
    if isinstance(views, FeatureDataset):
        model.projection.standardise(views.features_NVF[train_N].flatten(0, 1))
    if model.reading:
        model.reading.standardise(ranks_N)
    checkpoint = run.split_folder(seed) / CHECKPOINT_FILE
    points, seconds = reference_points(seed, model, training_views, ranks_N, run, again=checkpoint.is_file())
    objective = Objective(model, points, options.losses(run.train_set.span / 100)).to(run.accelerator.device)
    history = fit(objective, training_views, ranks_N, options.training(seed), checkpoint, run)

    train_ND = compute_in_batches(model.embed, views, train_N.tolist(), run, "Index")
    model.index = RankIndex(train_ND, ranks_N)
    results = {name: test_split(name, test_N, model, views, run) for name, test_N in tests.items()}
    if not run.accelerator.is_main_process:
        return
    model.rank_names, model.scales = run.train_set.names, run.train_set.scales
    model_dir = run.split_folder(seed) / MODEL_DIR
    if options.keep_models and not model_dir.exists():
        model.save(model_dir)
    about = {"train_items": len(train_N), "points_seconds": seconds, "seconds": round(time.monotonic() - started, 1)}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    write_result(run, seed, results, {**about, "parameters": parameters, "history": history})
    checkpoint.unlink(missing_ok=True)


def reference_points(
    seed: int, model: ConOrdModel, views: Dataset[list[View]], ranks_N: Tensor, run: ConOrdRun, again: bool
) -> tuple[ReferencePoints, float]:
    """The reference points as they start (Table 16, and Table 17 with its seconds).

    Where training goes on from a checkpoint (`again`), its points will take their place.
    """
    options, started = run.options, time.monotonic()
    generator = torch.Generator().manual_seed(combined_seed(seed))
    bin_width = options.bin_width or run.train_set.span / 100
    init = "zeros" if options.points_init == MEANS else options.points_init
    points = ReferencePoints(ranks_N.float(), options.width, bin_width, init, generator)
    if options.points_init == MEANS and not again:
        model.to(run.accelerator.device)
        points.set_to_means(compute_in_batches(model.embed, views, range(len(ranks_N)), run, "Means"), ranks_N.float())
    return points, time.monotonic() - started


def test_split(
    name: str, test_N: Tensor, model: ConOrdModel, views: Dataset[list[View]], run: ConOrdRun
) -> dict[str, Any]:
    """What the trained model makes of a test, and of its corrupted pictures, and how long a test takes (Table 22)."""
    places = test_N.tolist()

    def predicted(views: Dataset[list[View]], places: Sequence[int], label: str) -> Tensor:
        return model.ranks(compute_in_batches(model.embed, views, places, run, label), run.options.k).double()

    ranks_N, files, seconds = predicted(views, places, "Test"), ViewDataset(model, run.rows), []
    for _ in range(run.options.test_repeats):
        started = time.perf_counter()
        predicted(files, places, "Test, timed")
        seconds.append(time.perf_counter() - started)
    corrupted = {}
    for corruption in run.options.corruption_names:
        for level in range(1, LEVELS + 1):
            rows = [run.rows[place] for place in places]
            after = CorruptedViewDataset(rows, model.views, corruption, level, run.options.seed)
            corrupted[corruption, level] = predicted(after, range(len(rows)), f"{corruption} {level}")
    return result_of_test(run, name, test_N, ranks_N, corrupted, seconds)


def fit(
    objective: Objective,
    views: Dataset[list[View]],
    ranks_N: Tensor,
    settings: TrainingSettings,
    checkpoint: Path,
    run: ConOrdRun,
) -> list[dict[str, float]]:
    """Train an objective, from its checkpoint if there is one; mean loss, last rate and seconds of each epoch.

    Arguments:
        objective: what to train, on the accelerator's device.
        views: of the N training items.
        ranks_N: their ranks, (N,) or (N, R).
        settings: how long and how fast.
        checkpoint: the file to go on from, written between epochs whenever `checkpoint_minutes` have passed.
        run: its accelerator and options.

    Raises:
        HeadError: a broken checkpoint, or embeddings that became NaN.
        ImageError: a picture or video that cannot be read.
    """
    accelerator, options = run.accelerator, run.options
    optimizer = build_optimizer(objective, settings)
    history = load_checkpoint(checkpoint, objective, optimizer) if checkpoint.is_file() else []
    parallel = accelerator.prepare_model(objective)
    checkpoint_due = every(60 * options.checkpoint_minutes)
    title, shown = f"Split {settings.seed}", accelerator.is_main_process
    with progress_bar(settings.epochs, len(history), title, unit="epochs", shown=shown) as bar:
        for epoch in range(len(history), settings.epochs):
            started = time.perf_counter()
            torch.manual_seed(combined_seed(settings.seed, epoch, accelerator.process_index))  # dropout
            objective.train()
            batches = list(epoch_batches(len(ranks_N), settings, epoch))
            share = [batch[accelerator.process_index :: accelerator.num_processes] for batch in batches]
            whole = options.training_views == WHOLE
            draws = TrainingDataset(views, settings.seed, epoch, settings.flip, whole, options.paired)
            losses = []
            loader = DataLoader(draws, batch_sampler=share, num_workers=options.workers)
            for step, (views_B, places_B) in enumerate(loader):
                set_rate(optimizer, settings.rate(epoch + step / len(batches)))
                ranks_B = ranks_N[places_B].float().to(accelerator.device)
                loss = parallel(to_device(views_B, accelerator.device), ranks_B)
                optimizer.zero_grad()
                accelerator.backward(loss)
                optimizer.step()
                losses.append(loss.item())
            rate, seconds = optimizer.param_groups[0]["lr"], time.perf_counter() - started
            history.append({"loss": sum(losses) / len(losses), "learning_rate": rate, "seconds": seconds})
            if epoch + 1 < settings.epochs and accelerator.is_main_process and checkpoint_due():
                save_checkpoint(checkpoint, objective, optimizer, history)
            bar.advance()
            bar.describe(f"{title}, loss {history[-1]['loss']:.4f}")
    return history


def build_model(run: ConOrdRun) -> ConOrdModel:
    """The untrained model. HeadError where there is no such encoder, or the motion encoder's weights do not fit."""
    options, motion = run.options, None
    if run.train_set.video:
        clips = VideoSettings(options.frames, options.clips, options.clip_length, options.clip_size)
        motion = MotionSettings(clips, tuple(options.fast_depths), options.fast_stem)
    numbers = len(run.train_set.names) if options.loss in REGRESSIONS else 0
    model = ConOrdModel.build(
        options.encoder, options.pretrained, options.width, motion=motion, k=options.k, read_numbers=numbers
    )
    crop = model.encoder.size if options.crop is None else options.crop
    model.views = CropSettings(crop, options.crops, options.size, options.limit)
    if options.frozen:
        model.encoder.freeze()
    if model.motion and options.fast_weights:
        load_fast_pathway(model.motion.fast, options.fast_weights)
    return model


def views_of_all(model: ConOrdModel, run: ConOrdRun) -> Dataset[list[View]]:
    """The views of all items or, where a frozen encoder sees pictures, its features, computed once for all splits."""
    views = ViewDataset(model, run.rows)
    if not run.options.frozen or run.train_set.video:
        return views
    model.to(run.accelerator.device)
    return FeatureDataset(compute_in_batches(model.view_features, views, range(len(run.rows)), run, "Features"))


def compute_in_batches(
    compute: Callable[[list[list[View]]], Tensor],
    views: Dataset[list[View]],
    places: Sequence[int],
    run: ConOrdRun,
    label: str,
) -> Tensor:
    """`compute` of the views at these places, in batches, each process its share; rows on the CPU, in order."""
    accelerator = run.accelerator
    share = range(accelerator.process_index, len(places), accelerator.num_processes)
    subset = Subset(views, [places[index] for index in share])
    loader = DataLoader(subset, run.options.batch_size, num_workers=run.options.workers, collate_fn=list)
    batches = with_progress(loader, len(loader), label) if accelerator.is_main_process else loader
    rows = [row for batch in batches for row in compute(batch).cpu()]
    numbered = list(zip(share, rows, strict=True))
    gathered = gather_object(numbered) if accelerator.num_processes > 1 else numbered
    return torch.stack([row for _, row in sorted(gathered, key=lambda pair: pair[0])])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when trained, 2 with one sentence on stderr for options or data that won't do."""
    return exit_code(lambda: train(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
