"""Put the embedded data set, tiny model and warm start in the place of the word `embedded` in a recipe's arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from accelerate import PartialState

from mriqa.errors import SettingsError
from mriqa.frozen.cached_tower import cache_towers
from mriqa.frozen.store import FeatureStore
from mriqa.manifest import RatedImage
from mriqa.models import load_scoring_settings, load_vlm
from mriqa.training.config import EMBEDDED, RunArguments
from mriqa.training.embedded_preparation import FEATURES, Prepared, prepare, prepare_broad
from mriqa.training.runs import MODEL_DIR, NO_CACHE, read_rows

if TYPE_CHECKING:
    from mriqa.scoring import Score

Arguments = TypeVar("Arguments", bound=RunArguments)
WARM_START = "warm_start"
LABELLED, BROAD = "labelled", "broad"


def fill_in_embedded(
    arguments: Arguments, warm_start: Callable[[RunArguments, Path], object] | None = None
) -> Arguments:
    """The arguments with real paths. What isn't built yet is built under `embedded_dir`, by the main process.

    The embedded model is the untrained one, or with `warm_start` the one that `warm_start(arguments, run_folder)`
    trains; it is trained once and found again afterwards. Manifests that are given are read first: building takes
    minutes, and what they lack should not show only then.
    """
    _check_manifests(arguments)
    with PartialState().main_process_first():
        prepared = prepare_default(arguments)
    filled = dataclasses.replace(arguments)
    if filled.train_manifest == EMBEDDED:
        filled.train_manifest = str(prepared.train)
        filled.val_manifest = filled.val_manifest or EMBEDDED
    if filled.val_manifest == EMBEDDED:
        filled.val_manifest = str(prepared.val)
    if filled.model == EMBEDDED:
        filled.model = str(_warmed_up(arguments, warm_start) if warm_start else prepared.model)
        filled.freeze_vision = True
        if filled.vision_cache != NO_CACHE:
            filled.vision_cache = str(prepared.features)
    return filled


def _check_manifests(arguments: RunArguments) -> None:
    if getattr(arguments, "mix", None):  # a file of its own make, in the place of the manifest
        return
    for manifest in (arguments.train_manifest, arguments.val_manifest):
        if manifest not in (None, EMBEDDED):
            read_rows(arguments, manifest, check_images=False)


def prepare_default(arguments: RunArguments) -> Prepared:
    """The embedded data set, features and untrained model that the arguments ask for, built where not there yet.

    Raises SettingsError for a set that isn't one of the two, distortions beside the broad one, or a folder that holds
    the other set.
    """
    if arguments.embedded_set not in (LABELLED, BROAD):
        raise SettingsError(f'embedded_set is "{LABELLED}" or "{BROAD}", not "{arguments.embedded_set}".')
    if holds_other_set(arguments.embedded_dir, arguments.embedded_set):
        raise SettingsError(
            f"{arguments.embedded_dir} holds the other set of pictures, not the {arguments.embedded_set} one: give "
            "another embedded_dir."
        )
    if arguments.embedded_set == BROAD:
        if arguments.embedded_distortions:
            raise SettingsError("embedded_distortions are those of the labelled set: leave them out, or embedded_set.")
        return prepare_broad(arguments.embedded_dir, arguments.photos, train_images=arguments.embedded_images)
    return prepare(
        arguments.embedded_dir,
        photos=arguments.photos,
        train_images=arguments.embedded_images,
        distortions=arguments.embedded_distortions,
    )


def holds_other_set(embedded_dir: str | Path, embedded_set: str) -> bool:
    """Whether the data in the folder are those of the labelled set where the broad one is meant, or the reverse."""
    from mriqa.broad.broad_set import SETTINGS_FILE as BROAD_FILE
    from mriqa.embedded.dataset import SETTINGS_FILE as LABELLED_FILE

    file_of_other = {BROAD: LABELLED_FILE, LABELLED: BROAD_FILE}[embedded_set]
    return (Path(embedded_dir) / "data" / file_of_other).is_file()


def _warmed_up(arguments: RunArguments, warm_start: Callable[[RunArguments, Path], object]) -> Path:
    run = Path(arguments.embedded_dir) / WARM_START
    if not (run / MODEL_DIR).is_dir():
        warm_start(arguments, run)
    PartialState().wait_for_everyone()
    return run / MODEL_DIR


def scores_of(model_dir: str | Path, prepared_dir: str | Path, rows: Sequence[RatedImage]) -> np.ndarray:
    """Scores (N,) that an embedded model gives pictures of the embedded data set, by their precomputed features."""
    return np.array([score.score for score in judge(model_dir, prepared_dir, rows)])


def judge(
    model_dir: str | Path, prepared_dir: str | Path, rows: Sequence[RatedImage], head: str | None = None
) -> list[Score]:
    """As `scores_of`, with all that a Score holds, the second opinion of the model's head of that name included."""
    from mriqa.scoring import Scorer
    from mriqa.scoring.second_opinion import load_head

    model, processor = load_vlm(model_dir)
    cache_towers(model.requires_grad_(False), FeatureStore(Path(prepared_dir) / FEATURES))
    settings = load_scoring_settings(model_dir)
    scorer = Scorer(
        model,
        processor,
        settings.answer_format if settings else None,
        batch_size=64,
        head=load_head(model_dir, head) if head else None,
    )
    return scorer.score([row.image for row in rows])
