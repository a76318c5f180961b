"""Train a policy on a mixture of manifests, selected anew between epochs where asked: `recipes/mr_grpo.py --mix`.

What a mixture file says stands in `mriqa.selection.mixture.parts`. Each selection is written to
mixture/epoch-N.jsonl in the run's folder, and a resumed run reads it there: it goes on with the images it stopped with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from mriqa.errors import SettingsError
from mriqa.features import Encoder, extract, load_encoder, vlm_encoder
from mriqa.manifest import RatedImage
from mriqa.policy.schedule import Pool, Schedule
from mriqa.selection.arrays import FloatArray, check_choice
from mriqa.selection.mixture.choice import Choice
from mriqa.selection.mixture.parts import POLICY, WITHIN, MixtureSettings, Part, choose_parts, read_mixture, read_parts
from mriqa.selection.mixture.selection_files import write_selection
from mriqa.training.checks import check_images
from mriqa.training.config import EMBEDDED, RunArguments
from mriqa.training.embedded_runs import prepare_default
from mriqa.training.runs import read_images

FOLDER = "mixture"


@dataclass
class MixArguments:
    """Options of a recipe that trains on a mixture."""

    mix: str | None = field(
        default=None,
        metadata={
            "help": "Mixture to train on instead of train_manifest: a YAML file of several manifests, each with a "
            "selector, a budget, a weight and its own score scale; see docs/selection.md."
        },
    )
    comparison_within: str | None = field(
        default=None,
        metadata={
            "help": "Compare images of 'all' datasets or of one 'dataset' at a time, where scores don't compare "
            "(default: what the mixture says, else 'all')."
        },
    )
    feature_cache: str = field(
        default="outputs/features", metadata={"help": "Folder for the features that a mixture is selected by."}
    )


class Mix:
    """A mixture in training: its candidate rows, and which of them an epoch comes to."""

    def __init__(self, parts: Sequence[Part], settings: MixtureSettings, arguments: MixArguments) -> None:
        self.parts, self.settings, self.cache = parts, settings, arguments.feature_cache
        self.within = arguments.comparison_within or settings.comparison_within
        self.rows: list[RatedImage] = [row for part in parts for row in part.rows]
        self.pools: list[Pool] = []

    def attach(self, trainer: Any, checkpoint: str | None) -> None:
        """Select what the first epoch trains on, or find it in the run's folder, and hand it to `trainer`."""
        self.trainer, self.folder = trainer, Path(trainer.args.output_dir) / FOLDER
        epoch = 0
        if checkpoint is None:
            if trainer.is_world_process_zero():
                shutil.rmtree(self.folder, ignore_errors=True)  # of an earlier run in this folder
            self.select(0)
        else:
            epoch = int(json.loads((Path(checkpoint) / "trainer_state.json").read_text())["epoch"] + 1e-6)
        self._fill_pools()
        self.take(epoch)
        trainer.schedule = Schedule(self.pools, trainer.args.seed)
        if self.settings.reselect_every:
            trainer.add_callback(_Reselection(self))

    def select(self, epoch: int) -> None:
        """Choose from every part, with the policy's features as they are now, and write down what was chosen."""
        chosen = choose_parts(self.parts, self._features)
        if self.trainer.is_world_process_zero():  # the others read it: rounding may differ between devices
            write_selection(self.parts, chosen, self._file(epoch))
        PartialState().wait_for_everyone()

    def take(self, epoch: int) -> None:
        """Let epochs from `epoch` on come to the latest selection."""
        latest = max(file for file in self.folder.glob("epoch-*.jsonl") if file <= self._file(epoch))
        places = self._places(latest)
        for pool in self.pools:
            pool.rows = places.get(pool.name) or pool.rows  # a dataset of which nothing was selected stays as it was

    def _fill_pools(self) -> None:
        """A pool for each part, or for each dataset in it; what the first selection gives sets its share for good."""
        weight = {part.name: part.weight for part in self.parts}
        for name, places in self._places(self._file(0)).items():
            part, _, dataset = name.partition(": ")
            quota = round(weight[part] * len(places))
            self.pools.append(Pool(name, places, quota, compared_with=dataset if self.within == "dataset" else "all"))

    def _places(self, file: Path) -> dict[str, list[int]]:
        """Places in the training set by pool, as a selection file lists them."""
        if not file.is_file():
            raise SettingsError(f"{file} is missing, so this run can't be resumed with its mixture: start it again.")
        places: dict[str, list[int]] = {}
        number_of = {row.id: number for number, row in enumerate(self.rows)}
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            name = f"{row['part']}: {row['dataset']}" if self.within == "dataset" else row["part"]
            places.setdefault(name, []).append(number_of[row["id"]])
        return places

    def _features(self, images: Sequence[Path], role: str) -> FloatArray:
        name = self.settings.encoder if role == "content" else self.settings.quality_encoder
        if name == POLICY:
            encoder: Encoder = vlm_encoder(self.trainer.model, self.trainer.processor, POLICY)
            return extract(images, encoder)  # not kept: the policy moves on
        with PartialState().main_process_first():
            return extract(images, load_encoder(name, str(self.trainer.accelerator.device)), cache=self.cache)

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04}.jsonl"


class _Reselection(TrainerCallback):
    """Selects anew at the beginning of every E-th epoch."""

    def __init__(self, mix: Mix) -> None:
        self.mix = mix

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        epoch = int((state.epoch or 0) + 1e-6)
        resumed_within = (state.epoch or 0) - epoch > 1e-6
        if epoch and epoch % self.mix.settings.reselect_every == 0 and not resumed_within:
            self.mix.select(epoch)
            self.mix.take(epoch)


def open_mix(arguments: Any) -> Mix | None:
    """The mixture that the arguments ask for; None where they ask for none.

    Raises:
        SelectionError: a mixture file that won't do, or another `comparison_within`.
        ManifestError: a manifest that can't be read.
    """
    if arguments.comparison_within is not None:
        check_choice("comparison_within", arguments.comparison_within, WITHIN)
    if arguments.mix is None:
        if arguments.comparison_within != "dataset":
            return None
        rows = read_images(arguments, arguments.train_manifest, "train_manifest")
        part = Part("train_manifest", rows, Choice(), 1.0)
        return Mix([part], MixtureSettings(manifests=[]), arguments)
    settings = read_mixture(arguments.mix)
    parts = read_parts(settings, _embedded(settings, arguments))
    mix = Mix(parts, settings, arguments)
    check_images(mix.rows, "mix")
    return mix


def _embedded(settings: MixtureSettings, arguments: RunArguments) -> dict[str, str | Path]:
    """The path of the embedded manifest where the mixture names it; built where it isn't there yet."""
    if EMBEDDED not in (part.manifest for part in settings.manifests):
        return {}
    with PartialState().main_process_first():
        return {EMBEDDED: prepare_default(arguments).train}
