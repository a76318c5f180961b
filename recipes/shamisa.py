"""Pretrain a quality encoder on pristine pictures alone, by relation graphs over composed distortions (SHAMISA).

The pretraining of SHAMISA (arXiv 2603.13669, Table IV), its ablations (Tables III and VIII), its sweeps (Table IX,
Fig. 6), its snapshots (Fig. 5), and correlation, rank and invariance on the way (Fig. 9 to 11).

    python recipes/shamisa.py --config recipes/configs/shamisa/paper.yaml --images kadis700k/ref_imgs
    python recipes/shamisa.py --config recipes/configs/shamisa/cpu.yaml --images wheels my_photographs
    python recipes/shamisa.py --config recipes/configs/shamisa/cpu.yaml --images wheels --ablation B1
    python recipes/shamisa.py --config recipes/configs/shamisa/paper.yaml --images ref_imgs --snapshot_every 5000
    accelerate launch recipes/shamisa.py --config recipes/configs/shamisa/paper.yaml --images ref_imgs --gather true
    torchrun --nproc_per_node 2 recipes/shamisa.py --cpu true --images wheels         # several processes on CPU

No scores are read. Every option can stand in the YAML file given by --config, and the command line overrides it; an
ablation (configs/shamisa/ablations.yaml) overrides both. With several processes each makes its own tiny-batches and
graphs; --gather true takes variance and covariance over all of them.

The run writes to output_dir: model/ (for `mriqa.features` as shamisa:FOLDER), progress.jsonl, progress.png, the
resolved options, and skipped_images.txt where pictures could not be read; with --snapshot_every also the encoder on the
way, snapshots/step-NNNNNN, each a folder like model/ (recipes/shamisa_curve.py probes them). Run again with the same
options, it goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator

from mriqa.files import remove_half_written, write_jsonl, write_text
from mriqa.pretrain.diagnosis import diagnose, diagnosis_images, plot_run
from mriqa.pretrain.graphs.layout import PretrainError
from mriqa.pretrain.pretraining_objective import PretrainingObjective
from mriqa.pretrain.pretraining_run import History, run_pretraining
from mriqa.pretrain.quality_encoder import build_encoder, save_encoder
from mriqa.pretrain.shamisa_options import PretrainOptions
from mriqa.pretrain.tiny_batches import TinyBatches, find_pictures
from mriqa.progress import every, progress_bar
from mriqa.training.launching import exit_code, parse

ABLATIONS = Path(__file__).parent / "configs" / "shamisa" / "ablations.yaml"
OPTIONS_FILE, PROGRESS_FILE, PLOT_FILE = "resolved_config.yaml", "progress.jsonl", "progress.png"
CHECKPOINT_FILE, SKIPPED_FILE = "checkpoint.safetensors", "skipped_images.txt"
MODEL_FOLDER, SNAPSHOTS_FOLDER, SNAPSHOT_NAME = "model", "snapshots", "step-{:06d}"
MAY_CHANGE = ("output_dir", "images", "cpu", "workers", "checkpoint_minutes")


def pretrain(options: PretrainOptions) -> Path:
    """Run the recipe; the folder of the encoder. Raises a UserError for options or pictures that won't do."""
    options = with_ablation(options)
    plan, layout, tiny_settings = options.plan, options.layout, options.tiny_batch_settings
    objective_settings = options.objective_settings
    if options.snapshot_every < 0:
        raise PretrainError(f"snapshot_every must be at least 0, not {options.snapshot_every}.")
    accelerator = Accelerator(cpu=options.cpu, mixed_precision="bf16" if options.bf16 else "no")
    tiny_batches = TinyBatches(find_pictures(options.images), tiny_settings)
    folder = open_folder(options, tiny_batches.pool, accelerator)
    if (folder / MODEL_FOLDER).is_dir():
        print(f"{folder / MODEL_FOLDER} is finished already.")
        return folder / MODEL_FOLDER

    torch.manual_seed(options.seed)
    encoder = build_encoder(options.architecture, options.weights)
    objective = PretrainingObjective(encoder, objective_settings, layout)
    if options.checkpointing:
        encoder.backbone.set_grad_checkpointing(True)  # type: ignore[operator]  # timm's models have it
    if options.sync_batchnorm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        objective = torch.nn.SyncBatchNorm.convert_sync_batchnorm(objective)
    objective.to(accelerator.device)
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub wants a dtype too

    shown = diagnosis_images(tiny_batches) if accelerator.is_main_process and options.diagnose_every else None

    def on_step(done: int) -> None:
        if bar is not None:
            bar.move_to(done)
        due = options.snapshot_every and done % options.snapshot_every == 0 and done < plan.steps
        if due and accelerator.is_main_process:
            snapshot = folder / SNAPSHOTS_FOLDER / SNAPSHOT_NAME.format(done)
            if not snapshot.exists():  # else the run was killed behind it, and has come by here again
                save_encoder(encoder, snapshot, asdict(options), card(options, done))

    def features_now(done: int) -> dict[str, float] | None:
        if shown is None or not (done % options.diagnose_every == 0 or done in (1, plan.steps)):
            return None
        return diagnose(encoder, *shown)

    shows = accelerator.is_main_process
    with progress_bar(plan.steps, description="Pretraining", unit="steps") if shows else nullcontext() as bar:
        history = run_pretraining(
            objective,
            tiny_batches,
            plan,
            accelerator,
            checkpoint=folder / CHECKPOINT_FILE,
            checkpoint_due=every(60 * options.checkpoint_minutes),
            on_step=on_step,
            on_log=lambda history: report(history, folder, plan.steps),
            diagnose=features_now,
            on_skipped=SkippedPictures(folder, accelerator.process_index).add,
            on_warning=lambda sentence: print(f"warning: {sentence}", file=sys.stderr),
        )
    if accelerator.is_main_process:
        plot_run(history, folder / PLOT_FILE)
        save_encoder(encoder, folder / MODEL_FOLDER, asdict(options), card(options, plan.steps))
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        print(f"The encoder is in {folder / MODEL_FOLDER}: use it as shamisa:{folder / MODEL_FOLDER}.")
    accelerator.wait_for_everyone()
    return folder / MODEL_FOLDER


def with_ablation(options: PretrainOptions) -> PretrainOptions:
    """The options with those of the ablation that they name. PretrainError where there is none of that name."""
    if options.ablation is None:
        return options
    known = yaml.safe_load(ABLATIONS.read_text(encoding="utf-8"))
    if options.ablation not in known:
        raise PretrainError(f"There is no ablation {options.ablation!r}; choose one of: {', '.join(known)}.")
    return options.with_overrides(known[options.ablation])


def open_folder(options: PretrainOptions, pool: Sequence[Path], accelerator: Accelerator) -> Path:
    """The run's folder, with the options in it. PretrainError where it holds a run with others."""
    folder = Path(options.output_dir)
    names = "\n".join(path.name for path in pool)
    resolved = {
        **asdict(options),
        "pictures": len(pool),
        "pool": hashlib.sha256(names.encode()).hexdigest()[:16],
        "processes": accelerator.num_processes,
    }
    path = folder / OPTIONS_FILE
    if path.is_file():
        # An option that was not there yet had the effect of its default.
        former = {**asdict(PretrainOptions()), **yaml.safe_load(path.read_text(encoding="utf-8"))}
        changed = [name for name in resolved if name not in MAY_CHANGE and former.get(name) != resolved[name]]
        begun = any((folder / name).exists() for name in (CHECKPOINT_FILE, MODEL_FOLDER, SNAPSHOTS_FOLDER))
        if changed and begun:
            was, now = former.get(changed[0]), resolved[changed[0]]
            raise PretrainError(
                f"{folder} holds a run with another {changed[0]} ({was}, not {now}); choose another output_dir."
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PretrainError(f"{folder} holds something else than a run of this recipe; choose another output_dir.")
    accelerator.wait_for_everyone()  # nobody may write before everybody has looked
    if accelerator.is_main_process:
        for written in (folder, folder / SNAPSHOTS_FOLDER):
            remove_half_written(written)  # a run was killed while it wrote
        write_text(yaml.safe_dump(resolved, sort_keys=False), path)
    accelerator.wait_for_everyone()
    return folder


def report(history: History, folder: Path, steps: int) -> None:
    """The log so far to its file, and its last line to the terminal."""
    write_jsonl(history, folder / PROGRESS_FILE)
    last: dict[str, Any] = history[-1]
    shares = ", ".join(f"{name} {weight:.2f}" for name, weight in last["omega"].items())
    text = f"step {last['step']}/{steps}  loss {last['loss']:.3f}  {last['images_per_second']:.1f} images/s  ω {shares}"
    if "rank" in last:
        text += f"  corr {last['corr']:.2e} inv {last['inv']:.2e} rank {last['rank']:.0f}"
    print(text, flush=True)


class SkippedPictures:
    """Pictures that could not be read, each once, in a file that lists them with the reason."""

    def __init__(self, folder: Path, process: int):
        name = SKIPPED_FILE if process == 0 else f"{process}_{SKIPPED_FILE}"
        self.path = folder / name
        known = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        self.reasons = dict.fromkeys(known)

    def add(self, reasons: tuple[str, ...]) -> None:
        """List those that are new, and say so."""
        new = [reason for reason in dict.fromkeys(reasons) if reason not in self.reasons]
        if new:
            self.reasons |= dict.fromkeys(new)
            write_text("".join(f"{reason}\n" for reason in self.reasons), self.path)
            for reason in new:
                print(f"skipped: {reason}", file=sys.stderr)


def card(options: PretrainOptions, steps: int) -> str:
    """README.md of the encoder's folder."""
    changed = {name: value for name, value in asdict(options).items() if value != getattr(PretrainOptions(), name)}
    changed.pop("output_dir", None)
    settings = yaml.safe_dump({"steps": steps, **changed}, sort_keys=False)
    return f"""---
library_name: mriqa
tags: [image-quality-assessment, self-supervised, shamisa]
---

# A quality encoder, learned from distortions alone

{options.architecture}, pretrained without any score by relation graphs over composed distortions, after SHAMISA
(arXiv 2603.13669), for {steps:,} steps from {options.weights} weights. It gives unit features of a picture at full and
at half size, side by side; quality is read from them by a ridge regression.

    from mriqa.features import extract, load_encoder
    features_ND = extract(["a.jpg", "b.png"], load_encoder("shamisa:FOLDER"))

Settings that differ from the defaults (all of them are in shamisa.json):

```yaml
{settings}```
"""


def parse_arguments(argv: Sequence[str] | None = None) -> PretrainOptions:
    """Options from the command line and the YAML file it names. Raises SettingsError for what cannot be right."""
    (options,) = parse((PretrainOptions,), __doc__, argv)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when trained, 2 with one sentence on stderr for options or pictures that won't do."""

    def run() -> None:
        options = parse_arguments(argv)
        pretrain(options)

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())
