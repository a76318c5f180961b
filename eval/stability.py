"""How far a model's scores move where the quality of a picture moves little or not at all.

    found = measure_stability(scorer, pictures)     # a dict for stability.json
    stability_rows(found)                           # name of the change -> measures, for `mriqa.eval.report`

Mirroring, another batch size, another order, padding in a batch and another precision leave the quality as it is: a
move there is the model's own unrest. Crops, borders, resizing and encoding again change a picture slightly, and a score
may follow; a user of the model has to know how far. `certificate` says both in a sentence each. Moves are in points of
1..5, against the scores of the pictures as they are.

Legend: N pictures.
"""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from mriqa.choices import check_choice
from mriqa.distortions import DISTORTIONS, IMAGENET_C, NAMES, distort
from mriqa.errors import UserError
from mriqa.images import ImageError, load_image

from .metrics import srcc

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score, Scorer

STABILITY_FILE = "stability.json"
LEVELS = 5
FORMAT = 1
PACKAGE_PICTURES = 48
COLUMNS = ("n", "move_mean", "move_max", "srcc_with_plain")
"""What tables show of each change."""

Source = Path | Image.Image
Progress = Callable[[Iterator["Score"], int, str], Iterator["Score"]]


class StabilityError(UserError, ValueError):
    """Stability that can't be measured or read, as one sentence."""


def cut_sides(share: float) -> Callable[[Image.Image], Image.Image]:
    """Cut this share of the width and the height away at each side, at least one pixel of what has three or more."""

    def cut(picture: Image.Image) -> Image.Image:
        across, down = (max(1, round(share * side)) if side > 2 else 0 for side in picture.size)
        return picture.crop((across, down, picture.width - across, picture.height - down))

    return cut


def resized(factor: float) -> Callable[[Image.Image], Image.Image]:
    """Width and height times the factor (bicubic)."""

    def resize(picture: Image.Image) -> Image.Image:
        width, height = (max(1, round(factor * side)) for side in picture.size)
        return picture.resize((width, height), Image.Resampling.BICUBIC)

    return resize


def encoded(kind: str, quality: int) -> Callable[[Image.Image], Image.Image]:
    """Written in that format and read again."""

    def encode(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, kind, quality=quality)
        return load_image(buffer.getvalue())

    return encode


def bordered(share: float, mirrored: bool) -> Callable[[Image.Image], Image.Image]:
    """Add this share of the width and the height at each side, at least one pixel: black, or the mirrored edge."""

    def add(picture: Image.Image) -> Image.Image:
        across, down = (max(1, round(share * side)) for side in picture.size)
        margins = ((down, down), (across, across), (0, 0))
        pixels_HWC = np.asarray(picture.convert("RGB"))
        return Image.fromarray(np.pad(pixels_HWC, margins, "symmetric" if mirrored else "constant"))

    return add


def distorted(name: str, level: int) -> Callable[[Image.Image], Image.Image]:
    """A distortion of `mriqa.distortions` at one of its five levels; equal pictures get equal noise."""

    def distort_one(picture: Image.Image) -> Image.Image:
        pixels_HWC = torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255
        noise = torch.Generator().manual_seed(level)
        changed_BCHW = distort(pixels_HWC.permute(2, 0, 1)[None], name, level / LEVELS, noise)
        return Image.fromarray((changed_BCHW[0].permute(1, 2, 0) * 255).round().byte().numpy())

    return distort_one


def distortion_changes(names: Sequence[str]) -> dict[str, Callable[[Image.Image], Image.Image]]:
    """The five levels of each distortion; "kadid" stands for KADID-10k's 25, "imagenet_c" for ImageNet-C's.

    Raises StabilityError for a name that is none of `mriqa.distortions`.
    """
    groups = {"kadid": NAMES, "imagenet_c": IMAGENET_C}
    wanted = list(dict.fromkeys(each for name in names for each in groups.get(name, (name,))))
    for name in wanted:
        check_choice("distortion (or kadid, imagenet_c)", name, DISTORTIONS, StabilityError)
    return {f"{name}, level {level}": distorted(name, level) for name in wanted for level in range(1, LEVELS + 1)}


PICTURE_CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "one pixel cut off each side": cut_sides(0.0),
    "5 % cut off each side": cut_sides(0.05),
    "5 % of black border added": bordered(0.05, mirrored=False),
    "5 % of mirrored border added": bordered(0.05, mirrored=True),
    "resized to 3/2": resized(1.5),
    "resized to 3/4": resized(0.75),
    "resized to 1/2": resized(0.5),
    "encoded again, JPEG quality 95": encoded("JPEG", 95),
    "encoded again, JPEG quality 75": encoded("JPEG", 75),
    "encoded again, WebP quality 90": encoded("WEBP", 90),
}
"""Changes of the pictures, by the name that tables show."""


@dataclass(frozen=True)
class RunChange:
    """The same pictures, scored another way.

    Attributes:
        open_scorer: the scorer that does it; a UserError of its is told in `left_out`.
        reverse: whether the pictures come in the reverse order.
        companion: whether each picture comes behind one that is twice as wide.
    """

    open_scorer: Callable[[], Scorer]
    reverse: bool = False
    companion: bool = False

    def scores(self, score: Callable[..., np.ndarray], pictures: Sequence[Path], name: str) -> np.ndarray:
        """The scores (N,) of the pictures, in their order."""
        if self.companion:
            return score(self.open_scorer(), _with_companions(pictures), name, 2 * len(pictures))[1::2]
        step = -1 if self.reverse else 1
        return score(self.open_scorer(), iter(pictures[::step]), name)[::step]


def run_changes(scorer: Scorer) -> dict[str, RunChange]:
    """What can be changed about a scorer that is there: its batches, the order, and of sampled answers the seed.

    Behind a wider picture a model with more tokens for larger pictures gets the shorter prompt padded.
    """
    other_size = 1 if scorer.batch_size > 1 else 8
    changes = {
        f"batch size {other_size} instead of {scorer.batch_size}": RunChange(
            lambda: _with(scorer, batch_size=other_size)
        ),
        "order reversed": RunChange(lambda: scorer, reverse=True),
        "in a batch with a wider picture (padding)": RunChange(
            lambda: _with(scorer, batch_size=2 * scorer.views.count), companion=True
        ),
    }
    if scorer.readout_name == "sample":
        changes["another seed"] = RunChange(lambda: _with(scorer, seed=scorer.seed + 1_000_003))
    return changes


def measure_stability(
    scorer: Scorer,
    pictures: Sequence[Path],
    more: Mapping[str, RunChange] | None = None,
    *,
    distortions: Sequence[str] = (),
    progress: Progress = lambda scores, total, name: scores,
) -> dict[str, Any]:
    """Score the pictures as they are and after each change, and say how far the scores move.

    Arguments:
        pictures: files; one that has no score as it is takes no part.
        more: further ways to score, such as other precisions or backends, by name.
        distortions: names for `distortion_changes`, whose levels are measured like the other changes of pictures.
        progress: wraps each pass, as `mriqa.progress.with_progress` does.

    Returns:
        `pictures` (how many have a score as they are), `readout`, `batch_size`, and `changes`: of each its `name`,
        `kind` ("picture" or "run"), `n` (pictures with a score before and after), `move_mean` and `move_max` (absolute,
        in points), `worst` (the picture that moves most), `srcc_with_plain` (rank correlation with the scores as they
        are; None where there is none) and `lost` (pictures that have no score any more); and `left_out`: name -> why a
        change was not measured.

    Raises:
        StabilityError: fewer than two pictures have a score, or there is no such distortion.
    """

    def score(by: Scorer, sources: Iterator[Source], name: str, total: int = len(pictures)) -> np.ndarray:
        stream = progress(by.stream(sources), total, name)
        return np.array([one.score for one in stream], dtype=np.float64)

    plain_N = score(scorer, iter(pictures), "as they are")
    if np.isfinite(plain_N).sum() < 2:
        raise StabilityError("Stability needs two pictures that have a score: fewer than that have one.")
    changes, left_out = [], {}
    for name, change in {**PICTURE_CHANGES, **distortion_changes(distortions)}.items():
        moved_N = score(scorer, (_changed(picture, change) for picture in pictures), name)
        changes.append({"name": name, "kind": "picture", **_moves(plain_N, moved_N, pictures)})
    for name, way in {**run_changes(scorer), **(more or {})}.items():
        try:
            moved_N = way.scores(score, pictures, name)
        except UserError as error:
            left_out[name] = str(error)
            continue
        changes.append({"name": name, "kind": "run", **_moves(plain_N, moved_N, pictures)})
    return {
        "format": FORMAT,
        "pictures": int(np.isfinite(plain_N).sum()),
        "readout": scorer.readout_name,
        "batch_size": scorer.batch_size,
        "changes": changes,
        "left_out": left_out,
    }


def package_pictures(folder: str | Path) -> tuple[list[Path], str]:
    """Pictures that the package makes, written below `folder`, for those who name none; and what tables call them."""
    from mriqa.embedded import DatasetSettings, build_dataset
    from mriqa.manifest import read_manifest

    settings = DatasetSettings(train_images=1, val_images=1, test_images=PACKAGE_PICTURES)
    rows = read_manifest(build_dataset(folder, settings).test, check_images=False)
    return [row.image for row in rows], f"{len(rows)} pictures that the package makes"


def stability_rows(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The changes by name, as the tables of `mriqa.eval.report` take them."""
    return {change["name"]: {key: change[key] for key in COLUMNS} for change in found["changes"]}


def certificate(found: Mapping[str, Any]) -> str:
    """Two sentences: how far a score moves at most by the way it is run, and by what is done to the picture."""
    sentences = []
    for kind, words in (("run", "The way a model is run"), ("picture", "A change of the picture")):
        measured = [change for change in found["changes"] if change.get("kind") == kind and change["n"]]
        if measured:
            most = max(measured, key=lambda change: change["move_max"])
            mean = max(change["move_mean"] for change in measured)
            sentences.append(
                f"{words} moves a score by at most {most['move_max']:.2g} points ({most['name']}), and by at most "
                f"{mean:.2g} on average ({len(measured)} changes)."
            )
    return " ".join(sentences)


def read_stability(folder: str | Path) -> dict[str, Any] | None:
    """What `mriqa stability` left beside a model; None where there is none.

    Raises:
        StabilityError: the file is broken.
    """
    path = Path(folder) / STABILITY_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        stability_rows(found)
        return {"pictures": found["pictures"], "readout": found["readout"], "left_out": {}, **found}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StabilityError(
            f"{path} is broken; write it again with `mriqa stability --out {path} --overwrite`."
        ) from error


def _changed(path: Path, change: Callable[[Image.Image], Image.Image]) -> Source:
    try:
        return change(load_image(path))
    except ImageError:
        return path  # the scorer then says the same of it


def _with_companions(pictures: Sequence[Path]) -> Iterator[Source]:
    for path in pictures:
        yield _changed(path, lambda picture: picture.resize((2 * picture.width, picture.height)))
        yield path


def _with(scorer: Scorer, **settings: Any) -> Scorer:
    """Another scorer of the same model."""
    other = copy.copy(scorer)
    for name, value in settings.items():
        setattr(other, name, value)
    return other


def _moves(plain_N: np.ndarray, moved_N: np.ndarray, pictures: Sequence[Path]) -> dict[str, Any]:
    both_N = np.isfinite(plain_N) & np.isfinite(moved_N)
    lost = int((np.isfinite(plain_N) & ~both_N).sum())
    if not both_N.any():
        return {"n": 0, "move_mean": None, "move_max": None, "worst": None, "srcc_with_plain": None, "lost": lost}
    move_N = np.where(both_N, np.abs(moved_N - plain_N), -1.0)
    varied = len(np.unique(plain_N[both_N])) > 1 and len(np.unique(moved_N[both_N])) > 1
    rank = srcc(plain_N[both_N], moved_N[both_N]) if varied else math.nan
    return {
        "n": int(both_N.sum()),
        "move_mean": float(move_N[both_N].mean()),
        "move_max": float(move_N.max()),
        "worst": pictures[int(move_N.argmax())].name,
        "srcc_with_plain": None if math.isnan(rank) else float(rank),
        "lost": lost,
    }
