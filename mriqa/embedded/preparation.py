"""Everything the embedded default needs, in one folder: data set, untrained model, features of every picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mriqa.answers import load_format
from mriqa.embedded.dataset import DatasetPaths, DatasetSettings, build_dataset
from mriqa.embedded.statistics import FeatureCache
from mriqa.embedded.tiny_fastvlm import build_tiny_fastvlm
from mriqa.files import new_folder
from mriqa.manifest import read_manifest
from mriqa.models import load_vlm, save_scoring_settings

FEATURES_FILE = "features.safetensors"
PROMPT = "tiny"


@dataclass(frozen=True)
class Prepared:
    """Paths of the prepared default.

    Attributes:
        model: folder of the untrained model; its tower is standardised on the training pictures.
        features: the tower's statistics of every picture, for `FeatureCache.load`.
        train, val, test: manifests.
    """

    model: Path
    features: Path
    train: Path
    val: Path
    test: Path


def prepare(
    folder: str | Path,
    photos: str | Path | None = None,
    seed: int = 0,
    train_images: int | None = None,
    distortions: Sequence[str] | None = None,
    settings: DatasetSettings | None = None,
) -> Prepared:
    """Build under ``folder`` what is not there yet; a second call reuses it all.

    Args:
        folder: where to write; about 1 GB with the default settings.
        photos: a folder of photographs to use instead of the built-in contents.
        seed: of the data set and of the untrained weights.
        train_images: pictures to train on, if not the default number.
        distortions: names out of `mriqa.distortions.LABELLED`, if not the default ones.
        settings: all of it; the four above don't count where this is given.

    Raises EmbeddedDataError for a distortion without labels, too few photographs, or a folder made with other settings.
    """
    folder = Path(folder)
    if settings is None:
        settings = DatasetSettings(photos=str(photos) if photos else None, seed=seed)
        settings = replace(
            settings,
            train_images=train_images or settings.train_images,
            distortions=tuple(distortions or settings.distortions),
        )
    data = build_dataset(folder / "data", settings)
    model_dir, features = folder / "untrained", folder / FEATURES_FILE
    if not features.is_file():
        _build_model(model_dir, features, data, settings)
    return Prepared(model_dir, features, data.train, data.val, data.test)


def views_of_size(size: int) -> dict[str, int]:
    """How the model looks at pictures of any size: at the scale it was trained at, in five crops.

    Distortions are labelled at the scale of KADID-10k, 512 x 384 pixels; much larger pictures are shrunk to where the
    five crops cover them.
    """
    return {"limit": size * 7 // 4, "crop": size, "count": 5}


def _build_model(model_dir: Path, features: Path, data: DatasetPaths, settings: DatasetSettings) -> None:
    """The untrained model, standardised on the training pictures; writing the features comes last and marks the end."""
    build_tiny_fastvlm(model_dir, seed=settings.seed, image_size=settings.size)
    model, processor = load_vlm(model_dir, device="cpu")
    cache = FeatureCache(model, processor)
    splits = [read_manifest(path, check_images=False) for path in (data.train, data.val, data.test)]
    features_of_all = cache.precompute([row.image for rows in splits for row in rows])
    cache.standardise(features_of_all[: len(splits[0])])
    with new_folder(model_dir, overwrite=True) as staged:
        model.save_pretrained(staged)
        processor.save_pretrained(staged)
        save_scoring_settings(staged, load_format(PROMPT), views_of_size(settings.size))
    cache.save(features)
