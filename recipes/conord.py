"""Train a vision encoder to score by contrastive order learning (ConOrd): quality, ages, temperatures, gaze, videos.

    python recipes/conord.py --config recipes/configs/conord/bid.yaml --manifest bid.jsonl
    python recipes/conord.py --manifest my.jsonl --scale 0:100 --encoder timm:resnet18 --learning_rate 1e-4
    accelerate launch recipes/conord.py --config recipes/configs/conord/koniq.yaml --manifest koniq.jsonl
    torchrun --nproc_per_node 2 recipes/conord.py --cpu true --manifest my.jsonl         # several processes on CPU

The encoder, a projection and reference points train with L_ConOrd + L_center; a test picture's rank is the mean rank of
its k nearest training pictures. Each split trains on 80 % of the contents (of the pictures, where the manifest has no
contents) and tests on the rest; `--test_manifest` tests on another manifest instead, and the splits differ only in
their seed. Every option can stand in the YAML file given by --config, and the command line overrides it.

The run writes to output_dir: split-NN/model/ (for `mriqa.conord.ConOrdModel.load`), split-NN/result.json with every
prediction, results.json and results.md with the medians. Run again with the same options, it goes on where it stopped.

Legend: N items, B batch, V views of each, F features, D embedding width.
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
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from mriqa.conord.crops import CropSettings
from mriqa.conord.fitting import (
    ConOrdObjective,
    TrainingSettings,
    build_optimizer,
    combined_seed,
    epoch_batches,
    load_checkpoint,
    save_checkpoint,
    set_rate,
)
from mriqa.conord.model import ConOrdModel, MotionSettings, View, to_device
from mriqa.conord.ranked_sets import FeatureDataset, RandomViewDataset, ViewDataset
from mriqa.conord.video_frames import VideoSettings
from mriqa.heads import HeadError, RankIndex, ReferencePoints
from mriqa.progress import every, progress_bar, with_progress
from mriqa.training.conord_options import DISTANCES, ConOrdOptions, check_options
from mriqa.training.conord_runs import RESULT_FILE, ConOrdRun, open_run, summarise, write_result
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
        model = build_model(options, run.video)
        views = views or views_of_all(model, run)
        train_split(seed, model, views, run)
        accelerator.free_memory()
    return summarise(run) if accelerator.is_main_process else {}


def train_split(seed: int, model: ConOrdModel, views: Dataset[list[View]], run: ConOrdRun) -> None:
    """Train on a split, predict the ranks of its test items, save model and result."""
    options, started = run.options, time.monotonic()
    train_N, test_N = run.split(seed)
    if isinstance(views, FeatureDataset):
        model.projection.standardise(views.features_NVF[train_N].flatten(0, 1))
    hundredth = run.span / 100
    generator = torch.Generator().manual_seed(combined_seed(seed))
    points = ReferencePoints(
        run.ranks[train_N].float(), options.width, options.bin_width or hundredth, generator=generator
    )
    objective = ConOrdObjective(
        model,
        points,
        options.weighting,
        options.tau,
        options.eps,
        options.center_weight,
        options.center_reduction,
        DISTANCES[options.distance],
        gap_width=hundredth,
    ).to(run.accelerator.device)
    checkpoint = run.split_folder(seed) / CHECKPOINT_FILE
    training_views = Subset(views, train_N.tolist())
    history = fit(objective, training_views, run.ranks[train_N], options.training(seed), checkpoint, run)

    train_ND = compute_in_batches(model.embed, views, train_N.tolist(), run, "Index")
    test_ND = compute_in_batches(model.embed, views, test_N.tolist(), run, "Test")
    if not run.accelerator.is_main_process:
        return
    model.index, model.rank_names = RankIndex(train_ND, run.ranks[train_N]), run.rank_names
    predicted = model.index.predict(test_ND, options.k).double()
    model_dir = run.split_folder(seed) / MODEL_DIR
    if options.keep_models and not model_dir.exists():
        model.save(model_dir)
    write_result(run, seed, predicted, history, time.monotonic() - started)
    checkpoint.unlink(missing_ok=True)


def fit(
    objective: ConOrdObjective,
    views: Dataset[list[View]],
    ranks_N: Tensor,
    settings: TrainingSettings,
    checkpoint: Path,
    run: ConOrdRun,
) -> list[dict[str, float]]:
    """Train an objective, from its checkpoint if there is one; the mean loss and the last learning rate of each epoch.

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
            torch.manual_seed(combined_seed(settings.seed, epoch, accelerator.process_index))  # dropout
            objective.train()
            batches = list(epoch_batches(len(ranks_N), settings, epoch))
            share = [batch[accelerator.process_index :: accelerator.num_processes] for batch in batches]
            random_views = RandomViewDataset(views, settings.seed, epoch, settings.flip)
            losses = []
            loader = DataLoader(random_views, batch_sampler=share, num_workers=options.workers)
            for step, (views_B, places_B) in enumerate(loader):
                set_rate(optimizer, settings.rate(epoch + step / len(batches)))
                ranks_B = ranks_N[places_B].float().to(accelerator.device)
                loss = parallel(to_device(views_B, accelerator.device), ranks_B)
                optimizer.zero_grad()
                accelerator.backward(loss)
                optimizer.step()
                losses.append(loss.item())
            history.append({"loss": sum(losses) / len(losses), "learning_rate": optimizer.param_groups[0]["lr"]})
            if epoch + 1 < settings.epochs and accelerator.is_main_process and checkpoint_due():
                save_checkpoint(checkpoint, objective, optimizer, history)
            bar.advance()
            bar.describe(f"{title}, loss {history[-1]['loss']:.4f}")
    return history


def build_model(options: ConOrdOptions, video: bool) -> ConOrdModel:
    """The untrained model. HeadError where there is no such encoder, or the motion encoder's weights do not fit."""
    motion = None
    if video:
        clips = VideoSettings(options.frames, options.clips, options.clip_length, options.clip_size)
        motion = MotionSettings(clips, tuple(options.fast_depths), options.fast_stem)
    model = ConOrdModel.build(options.encoder, options.pretrained, options.width, motion=motion, k=options.k)
    crop = model.encoder.size if options.crop is None else options.crop
    model.views = CropSettings(crop, options.crops, options.size, options.limit)
    if options.frozen:
        model.encoder.freeze()
    if model.motion and options.fast_weights:
        try:
            model.motion.fast.load_state_dict(load_file(options.fast_weights))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).split("\n")[0]
            raise HeadError(f"fast_weights {options.fast_weights} cannot be loaded ({reason}).") from error
    return model


def views_of_all(model: ConOrdModel, run: ConOrdRun) -> Dataset[list[View]]:
    """The views of all items or, where a frozen encoder sees pictures, its features, computed once for all splits."""
    views = ViewDataset(model, run.rows)
    if not run.options.frozen or run.video:
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
