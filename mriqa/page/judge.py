"""What the page shows, worked out without it: scores of uploads, their order, and how a distortion moves a score."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from mriqa.distortions import distort
from mriqa.images import ImageError
from mriqa.scoring.map_drawing import overlay
from mriqa.scoring.quality_map import MapSettings, quality_map
from mriqa.scoring.scorer import Score, Scorer
from mriqa.serving.uploads import open_upload

if TYPE_CHECKING:
    from mriqa.serving.limits import Limits

DISTORTIONS = {
    "Blur": "gaussian_blur",
    "Out of focus": "lens_blur",
    "Camera shake": "motion_blur",
    "JPEG compression": "jpeg",
    "JPEG 2000 compression": "jpeg2000",
    "Noise": "white_noise",
    "Dead pixels": "impulse_noise",
    "Too bright": "brighten",
    "Too dark": "darken",
    "Wrong colours": "color_saturation_hsv",
    "Too few shades": "quantization",
    "Sharpened too much": "high_sharpen",
}
"""What a distortion is called on the page, and by `mriqa.distortions`."""

ORDERS = ("Best first", "Worst first", "As dropped")
CURVE_SEVERITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
THUMBNAIL, COPY = 320, 768  # longest side in pixels; KADID-10k's pictures, which set the severities, are 512×384
LONGEST_NAME = 80
MAP_WINDOWS = 36  # at most, for each picture: who drops sixteen doesn't wait for minutes


@dataclass(frozen=True)
class Upload:
    """A file that was dropped: its name, and where it lies."""

    name: str
    path: Path


@dataclass(frozen=True)
class Judged:
    """An upload's score, or why it has none, and a small picture as a data URI, empty where it is no picture.

    `map` is the small picture under its quality map, empty where that wasn't asked for or has no score anywhere.
    """

    score: Score
    thumbnail: str = ""
    map: str = ""


@dataclass(frozen=True)
class Distorted:
    """A distorted picture as a data URI, its size, and its score."""

    picture: str
    size: tuple[int, int]
    score: Score


class Judge:
    """Scores uploads with `scorer`, within `limits`. Called from one thread at a time."""

    def __init__(self, scorer: Scorer, limits: Limits) -> None:
        self.scorer, self.limits = scorer, limits
        # Every movement of the slider asks for these again. Uploads lie under their contents' hash, so paths don't lie.
        self._copy = lru_cache(maxsize=16)(self._make_copy)
        self._curve = lru_cache(maxsize=256)(self._score_curve)
        self._map = lru_cache(maxsize=64)(self._make_map)

    def judge(self, uploads: Sequence[Upload]) -> list[Judged]:
        """A score or a reason for each upload, in order. Raises BackendError."""
        refused: dict[int, Judged] = {}
        thumbnails: list[str] = []

        def pictures() -> Iterator[Image.Image]:
            for number, upload in enumerate(uploads):
                try:
                    picture = self._open(upload.path)
                except ImageError as error:
                    refused[number] = Judged(Score(upload.name, math.nan, math.nan, str(error)))
                else:
                    thumbnails.append(picture_uri(_shrunk(picture, THUMBNAIL), quality=85))
                    yield picture

        scored = map(Judged, list(self.scorer.stream(pictures())), thumbnails)
        judged = (refused[number] if number in refused else next(scored) for number in range(len(uploads)))
        return [
            replace(one, score=replace(one.score, image=upload.name))
            for one, upload in zip(judged, uploads, strict=True)
        ]

    def with_maps(self, judged: Sequence[Judged], uploads: Sequence[Upload]) -> list[Judged]:
        """The judged uploads, in order, each that has a score with its map. Raises ImageError, BackendError."""
        return [
            one if math.isnan(one.score.score) else replace(one, map=self._map(upload.path))
            for one, upload in zip(judged, uploads, strict=True)
        ]

    def distorted(self, path: Path, distortion: str, severity: float) -> Distorted:
        """An upload's copy under a distortion of that name on the page, and its score.

        Raises ImageError, BackendError.
        """
        picture = _distort(self._copy(path), distortion, severity)
        return Distorted(picture_uri(picture, quality=95), picture.size, self.scorer.score([picture])[0])

    def curve(self, path: Path, distortion: str) -> list[tuple[float, float]]:
        """The copy's scores at `CURVE_SEVERITIES`, NaN where there is none. Raises ImageError, BackendError."""
        return self._curve(path, distortion)

    def _score_curve(self, path: Path, distortion: str) -> list[tuple[float, float]]:
        copy = self._copy(path)
        scores = self.scorer.score([_distort(copy, distortion, severity) for severity in CURVE_SEVERITIES])
        return [(severity, one.score) for severity, one in zip(CURVE_SEVERITIES, scores, strict=True)]

    def _make_map(self, path: Path) -> str:
        """The thumbnail under the map of the picture at its own scale, as a data URI; empty where there is none."""
        picture = self._open(path)
        found = quality_map(self.scorer, picture, MapSettings(most=MAP_WINDOWS))
        return picture_uri(overlay(_shrunk(picture, THUMBNAIL), found), quality=90) if found.scored else ""

    def _make_copy(self, path: Path) -> Image.Image:
        return _shrunk(self._open(path), COPY)

    def _open(self, path: Path) -> Image.Image:
        size = path.stat().st_size
        if size > self.limits.file_bytes:
            raise ImageError(f"image is too large: {size:,} bytes, and at most {self.limits.file_bytes:,} are taken.")
        return open_upload(path.read_bytes(), self.limits.pixels)


def in_order(judged: Sequence[Judged], order: str) -> list[Judged]:
    """Those that have a score, sorted as one of `ORDERS`; equal scores stay as dropped."""
    scored = [one for one in judged if not math.isnan(one.score.score)]
    if order == "As dropped":
        return scored
    return sorted(scored, key=lambda one: one.score.score, reverse=order == "Best first")


def short_name(name: str | None, number: int) -> str:
    """A file's name without its folders and not too long for the page, or "picture 3" where it has none."""
    name = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(character for character in name if character.isprintable()).strip()
    return name[:LONGEST_NAME] or f"picture {number + 1}"


def _distort(picture: Image.Image, distortion: str, severity: float) -> Image.Image:
    pixels_HWC = torch.from_numpy(np.array(picture)).float() / 255
    noise = torch.Generator().manual_seed(0)  # the same grain at every severity, so that the score doesn't jump
    distorted_BCHW = distort(pixels_HWC.permute(2, 0, 1)[None], DISTORTIONS[distortion], severity, noise)
    return Image.fromarray((distorted_BCHW[0].permute(1, 2, 0) * 255).round().byte().numpy())


def _shrunk(picture: Image.Image, longest: int) -> Image.Image:
    small = picture.copy()
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return small


def picture_uri(picture: Image.Image, quality: int = 95) -> str:
    """The picture as a data URI, as JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
