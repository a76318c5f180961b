"""A run of recipes/conord.py around its training: its data, its folder, its splits and their tests.

A run's folder belongs to its options and data: the same command goes on with the splits that have no result yet, and a
command with other options or other data is refused. (The recipes on a transformers Trainer have checkpoints and flags
for this, see `mriqa.training.runs`.)

Legend: N items, R numbers in a rank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import yaml
from torch import Tensor

from mriqa.conord.fitting import check_training, combined_seed
from mriqa.conord.ranked_sets import RankedSet, read_folds, read_ranked_set
from mriqa.conord.video_frames import check_video
from mriqa.datasets.splits import split_by_content
from mriqa.errors import SettingsError
from mriqa.files import write_text
from mriqa.heads import HeadError
from mriqa.images import load_image
from mriqa.manifest import ManifestError, RatedImage
from mriqa.progress import with_progress
from mriqa.training.conord_recipe.conord_options import ConOrdOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

OPTIONS_FILE, RESULT_FILE = "resolved_config.yaml", "result.json"
MAY_CHANGE = (
    "splits",
    "output_dir",
    "image_root",
    "cpu",
    "workers",
    "checkpoint_minutes",
    "keep_models",
    "test_repeats",
)
TEST = "test"
"""The name of the test on a part of the manifest."""


Tests = dict[str, Tensor]
"""Places of the test items, by the name of the test."""


@dataclass(frozen=True)
class ConOrdRun:
    """What all splits share.

    Attributes:
        options: of the recipe.
        accelerator: accelerate's, for several processes and mixed precision.
        train_set: the manifest's rows and ranks.
        rows: of the manifest, then of the test manifests.
        ranks: of the rows, (N,) or (N, R), float64, on the declared scales.
        tests: places of the rows of each test manifest, by its name; empty where a part of the manifest is the test.
        same_scale: the tests whose scores are on the manifest's scale.
        folds: the fold of each row of the manifest, where the manifest says it.
    """

    options: ConOrdOptions
    accelerator: Accelerator
    train_set: RankedSet
    rows: list[RatedImage]
    ranks: Tensor
    tests: Tests
    same_scale: set[str]
    folds: dict[str, int]

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.options.output_dir)

    @property
    def seeds(self) -> range:
        """The seeds of the splits; of folds the first tests the first fold."""
        count = self.options.folds or len(set(self.folds.values())) or self.options.splits
        return range(self.options.seed, self.options.seed + count)

    def split_folder(self, seed: int) -> Path:
        """Where the split of a seed writes."""
        return self.folder / f"split-{seed:02d}"

    def split(self, seed: int) -> tuple[Tensor, Tests]:
        """Places of a split's training items, and of its test items. HeadError where the contents cannot be split."""
        train_N, tests = torch.arange(len(self.train_set.rows)), self.tests
        if not tests:
            train_N, test_N = self._parts(seed)
            tests = {TEST: test_N}
        if self.options.train_share < 1:
            generator = torch.Generator().manual_seed(combined_seed(seed, len(train_N)))
            kept = torch.randperm(len(train_N), generator=generator)[: round(self.options.train_share * len(train_N))]
            train_N = train_N[kept.sort().values]
        return train_N, tests

    def _parts(self, seed: int) -> tuple[Tensor, Tensor]:
        """Places of the manifest's rows that train, and of those that test."""
        rows, options = self.train_set.rows, self.options
        if self.folds:
            tested = sorted(set(self.folds.values()))[seed - options.seed]
            ids = {row.id for row in rows if self.folds[row.id] == tested}
        else:
            count = options.folds
            shares = [1 / count] * count if count else [1 - options.test_share, options.test_share]
            try:
                parts = split_by_content(rows, shares, seed=options.seed if count else seed)
            except ValueError as error:
                raise HeadError(str(error)) from error
            ids = {row.id for row in parts[seed - options.seed if count else 1]}
        test = torch.tensor([row.id in ids for row in rows])
        return torch.where(~test)[0], torch.where(test)[0]


def open_run(options: ConOrdOptions, accelerator: Accelerator) -> ConOrdRun:
    """Read the data and make the folder ready.

    Raises:
        ManifestError, ImageError: data that cannot be used.
        HeadError: options that do not fit the data, or a folder with a run of other options.
    """
    run = read_run(options, accelerator)
    check_run(run)
    data = repr([(row.id, rank) for row, rank in zip(run.rows, run.ranks.tolist(), strict=True)])
    resolved = {**asdict(options), "data": hashlib.sha256(data.encode()).hexdigest()[:16]}
    refuse_another_run(run.folder, resolved)
    accelerator.wait_for_everyone()  # nobody may write before everybody has looked
    if accelerator.is_main_process:
        write_text(yaml.safe_dump(resolved, sort_keys=False), run.folder / OPTIONS_FILE)
    return run


def read_options(folder: Path) -> ConOrdOptions:
    """The options that the run in a folder was started with. SettingsError where there is no run."""
    path = folder / OPTIONS_FILE
    if not path.is_file():
        raise SettingsError(f"{folder} holds no run of recipes/conord.py ({OPTIONS_FILE} is missing).")
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        written = None
    if not isinstance(written, dict) or not written.get("manifest"):
        raise SettingsError(f"{path} is not what recipes/conord.py writes; restore the file, or train again.")
    known = {option.name for option in fields(ConOrdOptions)}
    return ConOrdOptions(**{name: value for name, value in written.items() if name in known})


def read_run(options: ConOrdOptions, accelerator: Accelerator) -> ConOrdRun:
    """The data of a run. Raises ManifestError, ImageError and HeadError where it cannot be used."""
    train_set = read_set(options, options.manifest, options.scale)
    scales: list[str | None] = [*options.test_scale] or [options.scale] * len(options.test_manifest)
    test_sets = {
        name: read_set(options, path, scale)
        for name, path, scale in zip(test_names(options.test_manifest), options.test_manifest, scales, strict=True)
    }
    if any(ranked.video != train_set.video for ranked in test_sets.values()):
        raise HeadError("One manifest is of pictures and the other of videos; train and test on the same kind.")
    tests: Tests = {}
    rows, ranks = list(train_set.rows), [train_set.ranks]
    for name, ranked in test_sets.items():
        tests[name] = torch.arange(len(rows), len(rows) + len(ranked.rows))
        rows += ranked.rows
        ranks.append(ranked.ranks)
    same_scale = {TEST} | {name for name, ranked in test_sets.items() if ranked.scales == train_set.scales}
    folds = {}
    if options.fold_key:
        bad_row = cast(Literal["fail", "skip"], options.on_bad_row)
        folds = read_folds(options.manifest, options.fold_key, image_root=options.image_root, on_bad_row=bad_row)
        if lost := [row.id for row in train_set.rows if row.id not in folds]:
            raise HeadError(
                f"{len(lost)} rows have no fold, {lost[0]} the first: give each one, or leave fold_key out."
            )
    return ConOrdRun(options, accelerator, train_set, rows, torch.cat(ranks), tests, same_scale, folds)


def test_names(manifests: list[str]) -> list[str]:
    """A name for each test manifest: that of the file, with a number where an earlier one has it."""
    names: list[str] = []
    for manifest in manifests:
        stem = Path(manifest).stem
        names.append(stem if stem not in names else f"{stem}-{len(names) + 1}")
    return names


def check_run(run: ConOrdRun) -> None:
    """HeadError where a split has too few items, or videos are to be corrupted."""
    options = run.options
    if run.train_set.video and options.corruptions:
        raise HeadError("corruptions are for pictures, and these rows are videos: leave them out.")
    for seed in run.seeds:
        train_N, tests = run.split(seed)
        check_training(options.training(seed), len(train_N), run.accelerator.num_processes)
        fewest = min(map(len, tests.values()))
        if options.k > len(train_N) or fewest < 2:
            raise HeadError(
                f"The split of seed {seed} has {len(train_N)} training and {fewest} test items; k is {options.k}, "
                "and a correlation needs two test items: lower k, change test_share, or give more rows."
            )


def read_set(options: ConOrdOptions, manifest: str, scale: str | None) -> RankedSet:
    """A manifest's rows, after each picture or video has been opened once.

    Raises:
        ManifestError, ImageError: the manifest, a row, a picture or a video cannot be used.
        HeadError: an option has an impossible value.
    """
    ranked = read_rows(options, manifest, scale)
    open_item: Callable[[Path], object] = check_video if ranked.video else load_image
    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        opened = pool.map(open_item, [row.image for row in ranked.rows])
        for _ in with_progress(opened, len(ranked.rows), "Checking"):
            pass
    return ranked


def read_rows(options: ConOrdOptions, manifest: str, scale: str | None) -> RankedSet:
    """A manifest's rows, their pictures and videos unopened. Raises ManifestError and HeadError as `read_set`."""
    try:
        return read_ranked_set(
            manifest,
            image_root=options.image_root,
            scale=scale,
            score_key=options.score_key,
            vector=options.vector,
            on_bad_row=cast(Literal["fail", "skip"], options.on_bad_row),  # check_options has seen to it
        )
    except ManifestError:
        raise
    except ValueError as error:  # an option with an impossible value
        raise HeadError(str(error)) from error


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
