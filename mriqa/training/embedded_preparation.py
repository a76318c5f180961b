"""Everything the embedded default needs, in one folder: data set, untrained model, features of every picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mriqa.answers import load_format
from mriqa.broad.broad_set import BroadSettings, build_broad_set
from mriqa.embedded.dataset import DatasetPaths, DatasetSettings, build_dataset
from mriqa.embedded.eye import TILE
from mriqa.embedded.lite_network import LiteBackbone, standardised
from mriqa.embedded.lite_tower import LiteTower
from mriqa.embedded.packaged import default_model_folder, held_out_contents
from mriqa.embedded.parallel import map_threads
from mriqa.embedded.tiny_fastvlm import build_tiny_fastvlm
from mriqa.files import new_folder
from mriqa.frozen.cached_tower import PIXELS, ImageDigest, cache_towers, image_digest
from mriqa.frozen.store import FeatureStore
from mriqa.images import load_image
from mriqa.manifest import RatedImage, read_manifest
from mriqa.models import SETTINGS_FILE, load_vlm, save_scoring_settings

FEATURES = "features"
PROMPT = "tiny"
BROAD_IMAGES = 1000


@dataclass(frozen=True)
class Prepared:
    """Paths of the prepared default.

    Attributes:
        model: folder of the untrained model; its tower is standardised on the training pictures.
        features: folder of the `FeatureStore` that holds what its tower gives for every picture.
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
    views = views_of_size(settings.size)
    return _prepared(folder, data, views=views, seed=settings.seed, image_size=settings.size)


def prepare_broad(
    folder: str | Path,
    photos: str | Path | None = None,
    seed: int = 0,
    train_images: int | None = None,
    settings: BroadSettings | None = None,
) -> Prepared:
    """As `prepare`, on the broad data set, with a model that sees each picture through the packaged one's eye.

    Contents inside the wheels are few, and a network trained on them alone knows no others: so the packaged model's
    network, trained on many more, lends its features. Validation and test get contents that it was not trained on.
    There is a token for each tile, not one in all as in the packaged model: from few pictures that is learnt faster.

    Args:
        folder: where to write.
        photos: a folder of photographs beside those inside the wheels.
        seed: of the data set and of the untrained weights.
        train_images: pictures to train on, if not 1000; a fifth as many to validate on, two fifths to test.
        settings: all of it; the three above don't count where this is given.

    Raises EmbeddedDataError as `prepare` does, and FullReferenceError where piq isn't installed.
    """
    folder, count = Path(folder), train_images or BROAD_IMAGES
    settings = settings or BroadSettings(
        photos=(str(photos),) if photos else (),
        train_images=count,
        val_images=max(1, count // 5),
        test_images=max(1, 2 * count // 5),
        seed=seed,
        held_out=held_out_contents(),
    )
    data = build_broad_set(folder / "data", settings)
    return _prepared(folder, data, seed=settings.seed, tile=TILE, grid=1, trunk=packaged_network())


def packaged_network() -> LiteBackbone:
    """The network in the packaged model's eye, in single precision."""
    model, _ = load_vlm(default_model_folder(), device="cpu")
    tower = model.get_submodule("model.vision_tower")
    assert isinstance(tower, LiteTower)
    return tower.backbone.float()


def _prepared(folder: Path, data: DatasetPaths, **how: Any) -> Prepared:
    """The paths, once the folder has the untrained model and its features of a data set's pictures."""
    model_dir, features = folder / "untrained", folder / FEATURES
    if not (model_dir / SETTINGS_FILE).is_file():
        splits = [read_manifest(path, check_images=False) for path in (data.train, data.val, data.test)]
        build_standardised(model_dir, features, splits, **how)
    return Prepared(model_dir, features, data.train, data.val, data.test)


def views_of_size(size: int) -> dict[str, int]:
    """How the model looks at pictures of any size: at the scale it was trained at, in five crops.

    Distortions are labelled at the scale of KADID-10k, 512 x 384 pixels; much larger pictures are shrunk to where the
    five crops cover them.
    """
    return {"limit": size * 7 // 4, "crop": size, "count": 5}


def build_standardised(
    model_dir: str | Path,
    features: str | Path,
    splits: Sequence[Sequence[RatedImage]],
    *,
    views: Mapping[str, Any] | None = None,
    **how: Any,
) -> None:
    """Write an untrained model whose tower is standardised on pictures; it takes its place last, which marks the end.

    Args:
        model_dir: folder of the model.
        features: folder of the `FeatureStore` that gets what the tower gives for every picture.
        splits: the pictures; the first of these lists is what is standardised on.
        views: what is written as the "views" of its `mriqa.json`.
        how: arguments of `build_tiny_fastvlm`.
    """
    with TemporaryDirectory() as raw, new_folder(model_dir, overwrite=True) as staged:
        model, processor = load_vlm(build_tiny_fastvlm(raw, **how), device="cpu")
        _standardise(model.requires_grad_(False), processor, splits, FeatureStore(features))
        model.save_pretrained(staged)
        processor.save_pretrained(staged)
        save_scoring_settings(staged, load_format(PROMPT), views)


@torch.no_grad()
def _standardise(model: Any, processor: Any, splits: Sequence[Sequence[RatedImage]], store: FeatureStore) -> None:
    """Fit the tower's standardisation to the first split, and keep what the tower then gives for all pictures."""
    tower = model.get_submodule("model.vision_tower")

    def statistics(row: RatedImage) -> tuple[ImageDigest, torch.Tensor]:
        with torch.no_grad():  # which a thread does not inherit
            pixels_1CHW = processor.image_processor(images=[load_image(row.image)], return_tensors="pt")[PIXELS]
            return image_digest({PIXELS: pixels_1CHW}), tower.statistics(pixels_1CHW).contiguous()

    found = map_threads(statistics, [row for rows in splits for row in rows], "vision features", "picture")
    mean_C, std_C = tower.standardise(torch.cat([features_1Chw for _, features_1Chw in found[: len(splits[0])]]))
    (cached,) = cache_towers(model, store)
    for image, features_1Chw in found:
        cached.keep(image, {"last_hidden_state": standardised(features_1Chw, mean_C, std_C).contiguous()})
