"""The embedded data set: pristine contents, one KADID-10k distortion each, labels from its published ratings.

A picture gets one distortion at a continuous severity. Its label is the mean human score that KADID-10k's raters
gave to this distortion at this severity, interpolated between the five published levels, and its standard deviation
is that of the raters (`mriqa.distortions`). The label therefore knows nothing of the content: what a content
hides or shows of a distortion (KADID-10k measured a spread of 0.1 to 0.7 points) is not in it.

Training, validation and test share no content.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mriqa.distortions import DISTORTIONS, distort, mean_mos, rater_std
from mriqa.distortions.registry import find_labelled
from mriqa.embedded.contents import (
    Content,
    EmbeddedDataError,
    folder_photographs,
    procedural_scenes,
    random_crop,
    split_sources,
    wheel_photographs,
)
from mriqa.embedded.parallel import map_threads
from mriqa.files import write_json
from mriqa.manifest import RatedImage, write_manifest

SETTINGS_FILE = "dataset.json"
# What can be seen without the original, and is not easily mistaken for content: a darkened or desaturated picture is
# labelled against its original, and with those in, rank correlation on unseen contents falls for any reader of the
# embedded model's features (ridge regression: 0.90 with these five, 0.83 with twelve, 0.55 with all 21). Drawn the
# more often the more a stranger's pictures are likely to suffer from it; lens blur is half mistaken for bokeh.
FREQUENCIES = {"jpeg": 4, "jpeg2000": 4, "gaussian_blur": 2, "white_noise": 2, "lens_blur": 1}
VISIBLE_DISTORTIONS = tuple(name for name, times in FREQUENCIES.items() for _ in range(times))
LOWEST_SEVERITY = 0.2  # level 1: milder than that nobody was asked
# At level 5 public copies of KADID-10k's generator disagree: compression ratio 170 or 400. The score belongs to 400.
HIGHEST_SEVERITY = {"jpeg2000": 0.8}
SHARES = {"train": 0.65, "val": 0.10, "test": 0.25}  # of the contents


@dataclass(frozen=True)
class DatasetSettings:
    """What the embedded data set is made of; the same settings give the same pictures.

    Attributes:
        photos: a folder of photographs to use instead of those inside the wheels and the procedural scenes.
        images: pictures in each split.
        size: side of the square pictures, in pixels.
        distortions: names out of `mriqa.distortions.LABELLED`; one that stands twice is drawn twice as often.
        mildest: severity from which on a distortion is drawn, where that isn't 0.2. Slight noise and blur look like
            texture and softness of the content itself; a model that is only shown strong ones doesn't confuse them.
        scenes: procedural scenes beside the photographs out of the wheels.
        seed: of contents, crops, distortions and noise.
        shares: of the contents, in each split.
    """

    photos: str | None = None
    distortions: tuple[str, ...] = VISIBLE_DISTORTIONS
    mildest: Mapping[str, float] = field(default_factory=dict)
    train_images: int = 1600
    val_images: int = 200
    test_images: int = 350
    size: int = 384
    scenes: int = 60
    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))

    def __post_init__(self) -> None:
        for name in self.distortions:
            find_labelled(name)  # a picture is labelled by its distortion


@dataclass(frozen=True)
class DatasetPaths:
    """The manifests of a built data set."""

    train: Path
    val: Path
    test: Path


@dataclass(frozen=True)
class _Picture:
    content: Content
    index: int
    distortion: str
    severity: float


def build_dataset(folder: str | Path, settings: DatasetSettings | None = None, workers: int = 2) -> DatasetPaths:
    """Write pictures and manifests under ``folder``; a folder that already holds this very data set is reused.

    Raises:
        EmbeddedDataError: too few usable photographs, or the folder holds a data set made with other settings.
    """
    folder, settings = Path(folder), settings or DatasetSettings()
    paths = DatasetPaths(*(folder / f"{split}.jsonl" for split in SHARES))
    finished = folder / SETTINGS_FILE
    if finished.is_file():
        if json.loads(finished.read_text(encoding="utf-8")) != _as_json(settings):
            raise EmbeddedDataError(
                f"{folder} holds a data set made with other settings; name another folder or delete it"
            )
        return paths

    (folder / "images").mkdir(parents=True, exist_ok=True)
    contents = _split_contents(settings)
    for split in SHARES:
        pictures = _plan(contents[split], getattr(settings, f"{split}_images"), settings)
        groups = [[p for p in pictures if p.content == content] for content in contents[split]]
        written = map_threads(
            lambda group: _write_group(group, folder, settings), groups, f"{split} pictures", "content", workers
        )
        write_manifest([row for group in written for row in group], folder / f"{split}.jsonl")
    write_json(_as_json(settings), finished)
    return paths


def _as_json(settings: DatasetSettings) -> dict:
    return json.loads(json.dumps(asdict(settings)))  # tuples become lists, as they come back from the file


def _split_contents(settings: DatasetSettings) -> dict[str, list[Content]]:
    """Contents to splits, each kind of content in the same shares, at least one each."""
    if settings.photos:
        kinds = [folder_photographs(Path(settings.photos), settings.size)]
    else:
        kinds = [wheel_photographs(), procedural_scenes(settings.scenes, settings.seed)]
    return split_sources(kinds, settings.shares, settings.seed)


def _plan(contents: list[Content], count: int, settings: DatasetSettings) -> list[_Picture]:
    """Spread ``count`` pictures over contents: photographs and scenes half each, distortions in turn."""
    rng = np.random.default_rng([settings.seed, len(contents), count])
    kinds = sorted({content.kind for content in contents})
    pictures = []
    for index in range(count):
        of_kind = [content for content in contents if content.kind == kinds[index % len(kinds)]]
        content = of_kind[index // len(kinds) % len(of_kind)]
        choices = [n for n in settings.distortions if content.colourful or DISTORTIONS[n].category != "color"]
        distortion = choices[int(rng.integers(len(choices)))]
        mildest = settings.mildest.get(distortion, LOWEST_SEVERITY)
        severity = float(rng.uniform(mildest, HIGHEST_SEVERITY.get(distortion, 1.0)))
        pictures.append(_Picture(content, index, distortion, severity))
    return pictures


def _write_group(pictures: list[_Picture], folder: Path, settings: DatasetSettings) -> list[RatedImage]:
    """Render one content once, then crop, distort and save each of its pictures."""
    if not pictures:
        return []
    pristine = pictures[0].content.pristine(settings.size)
    return [_write_picture(picture, pristine, folder, settings) for picture in pictures]


def _write_picture(picture: _Picture, pristine: Image.Image, folder: Path, settings: DatasetSettings) -> RatedImage:
    name = picture.content.name
    seed = [settings.seed, zlib.crc32(name.encode()), picture.index]
    rng = np.random.default_rng(seed)
    crop_BCHW = torch.from_numpy(random_crop(pristine, settings.size, rng)).permute(2, 0, 1)[None]
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    distorted_BCHW = distort(crop_BCHW, picture.distortion, picture.severity, generator)
    pixels = (distorted_BCHW[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    identifier = f"{name.replace('/', '_')}-{picture.index:05d}-{picture.distortion}-{picture.severity:.3f}"
    path = folder / "images" / f"{identifier}.png"
    Image.fromarray(pixels).save(path, compress_level=1)
    return RatedImage(
        image=path,
        mos=float(mean_mos(picture.distortion, picture.severity)),
        std=float(rater_std(picture.distortion, picture.severity)),
        dataset="embedded",
        content=name,
        id=identifier,
    )
