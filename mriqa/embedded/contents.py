"""Pristine picture contents that need no download: photographs out of installed wheels, and procedural scenes.

Photographs are those that scikit-image, scikit-learn and matplotlib ship inside their wheels. They are few, so
procedural scenes with natural-image statistics stand beside them: dead leaves (Lee, Mumford and Huang, "Occlusion
Models for Natural Images", IJCV 2001), that is, occluding shapes with radii drawn from a power law r^-3, which
gives the edges, the scale invariance and the 1/f^2 power spectrum of photographs. Leaves carry 1/f or striped
textures and shading, so that flat regions, edges and fine detail all occur.

Arrays are (H, W, 3) float32 in [0, 1]; sizes are pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from mriqa.errors import UserError
from mriqa.images import ImageError, load_image

IMAGE_SUFFIXES = {".avif", ".bmp", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

# (package, resource, in colour). Grey photographs take no part in colour distortions, which would not show on them.
WHEEL_PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png", True),
    "brick": ("skimage", "data/brick.png", False),
    "camera": ("skimage", "data/camera.png", False),
    "china": ("sklearn", "datasets/images/china.jpg", True),
    "coffee": ("skimage", "data/coffee.png", True),
    "flower": ("sklearn", "datasets/images/flower.jpg", True),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", True),
    "grass": ("skimage", "data/grass.png", False),
    "gravel": ("skimage", "data/gravel.png", False),
    "hubble": ("skimage", "data/hubble_deep_field.jpg", True),
    "immunohistochemistry": ("skimage", "data/ihc.png", True),
    "motorcycle": ("skimage", "data/motorcycle_left.png", True),
    "retina": ("skimage", "data/retina.jpg", True),
    "rocket": ("skimage", "data/rocket.jpg", True),
}


class EmbeddedDataError(UserError, ValueError):
    """An embedded data set that cannot be made so, as one sentence naming the setting or folder."""


@dataclass(frozen=True)
class Content:
    """One pristine scene: a name, where it comes from, and whether colour distortions show on it."""

    name: str
    kind: str  # "photograph" or "dead_leaves"
    colourful: bool
    source: Path | int  # a file, or the seed of a procedural scene

    def pristine(self, size: int) -> Image.Image:
        """The whole scene as an RGB picture; a procedural one is drawn at 4/3 of ``size``, to leave room for crops."""
        if isinstance(self.source, int):
            scene = dead_leaves(size * 4 // 3, np.random.default_rng(self.source))
            return Image.fromarray((scene * 255).round().astype(np.uint8))
        return load_image(self.source)


def wheel_photographs() -> list[Content]:
    """The photographs inside the installed wheels, in a fixed order."""
    found = []
    for name, (package, resource, colourful) in WHEEL_PHOTOGRAPHS.items():
        path = Path(str(files(package))) / resource
        if path.is_file():  # distributions other than the registry wheels may leave sample pictures out
            found.append(Content(f"photo-{name}", "photograph", colourful, path))
    return found


def folder_photographs(folder: Path, size: int) -> list[Content]:
    """Every photograph under ``folder`` whose shorter side is at least ``size`` pixels; one file is one content.

    Raises:
        EmbeddedDataError: no such folder, or fewer than five usable photographs in it.
    """
    if not folder.is_dir():
        raise EmbeddedDataError(f"--photos {folder}: no such folder; name a folder of photographs")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    contents = [
        Content(f"photo-{path.relative_to(folder).with_suffix('').as_posix()}", "photograph", colourful, path)
        for path, colourful in _usable(paths, size)
    ]
    if len(contents) < 5:
        raise EmbeddedDataError(
            f"--photos {folder}: {len(contents)} of {len(paths)} pictures can be read and are at least {size} pixels "
            "on their shorter side; at least 5 are needed, for separate training, validation and test contents"
        )
    return contents


def _usable(paths: list[Path], size: int) -> Iterator[tuple[Path, bool]]:
    for path in paths:
        try:
            image = load_image(path)
        except ImageError:
            continue  # a folder of holiday pictures may hold a broken one; too few good ones is an error above
        if min(image.size) >= size:
            yield path, is_colourful(image)


def is_colourful(image: Image.Image, threshold: float = 4.0) -> bool:
    """True if the mean distance between an RGB image's channels exceeds ``threshold`` (of 255)."""
    pixels = np.asarray(image.resize((64, 64))).astype(np.float32)
    return float(np.ptp(pixels, axis=2).mean()) > threshold


def procedural_scenes(count: int, seed: int) -> list[Content]:
    """``count`` dead-leaves scenes, numbered; their pictures depend on ``seed`` alone."""
    return [Content(f"leaves-{index:03d}", "dead_leaves", True, seed * 100_003 + index) for index in range(count)]


def random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
    """Scale the shorter side to a random 1 to 1.33 of ``size`` (never up), crop a square, mirror half the time."""
    shorter = min(image.size)
    target = min(shorter, int(size * rng.uniform(1.0, 4 / 3))) if shorter >= size else size
    scale = target / shorter
    width, height = (max(size, round(side * scale)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))
    pixels = np.asarray(scaled.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
    return pixels[:, ::-1].copy() if rng.random() < 0.5 else pixels


def dead_leaves(size: int, rng: np.random.Generator) -> np.ndarray:
    """A dead-leaves scene (size, size, 3), drawn twice as large and averaged down, for edges as sharp as a camera's."""
    side = 2 * size
    textures = [_texture(side, rng) for _ in range(4)]
    palette = _palette(int(rng.integers(4, 10)), rng)
    scene = palette[0] * (1 + 0.2 * textures[0][..., None])
    smallest, largest = side * rng.uniform(0.01, 0.03), side * rng.uniform(0.2, 0.5)
    u = rng.random(int(rng.integers(400, 1200)))
    # Inverse transform for the density r^-3 on [smallest, largest].
    radii = (smallest**-2 - u * (smallest**-2 - largest**-2)) ** -0.5
    for radius in radii:
        colour = np.clip(palette[rng.integers(len(palette))] + rng.normal(0, 0.05), 0.02, 0.98)
        _paint_leaf(scene, radius, colour, textures[rng.integers(len(textures))], rng)
    small = scene.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    return np.clip(small, 0, 1).astype(np.float32)


def _palette(count: int, rng: np.random.Generator) -> np.ndarray:
    """Colours (count, 3): brightness spread wide, chroma mostly weak, as in photographs."""
    brightness = rng.beta(1.2, 1.4, (count, 1))
    chroma = rng.normal(0, 1, (count, 3)) * rng.gamma(1.5, 0.06, (count, 1))
    return np.clip(brightness + chroma - chroma.mean(axis=1, keepdims=True), 0.02, 0.98)


def _paint_leaf(scene: np.ndarray, radius: float, colour: np.ndarray, texture: np.ndarray, rng: np.random.Generator):
    """Paint one ellipse or rectangle, textured and shaded, over ``scene`` in place."""
    side = scene.shape[0]
    centre_y, centre_x = rng.uniform(0, side, 2)
    top, bottom = max(0, int(centre_y - radius)), min(side, int(centre_y + radius) + 1)
    left, right = max(0, int(centre_x - radius)), min(side, int(centre_x + radius) + 1)
    y, x = np.ogrid[top:bottom, left:right]
    angle, flatness = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
    along = (np.cos(angle) * (x - centre_x) + np.sin(angle) * (y - centre_y)) / radius
    across = (np.cos(angle) * (y - centre_y) - np.sin(angle) * (x - centre_x)) / (radius * flatness)
    inside = along**2 + across**2 <= 1 if rng.random() < 0.7 else (np.abs(along) <= 0.7) & (np.abs(across) <= 0.7)
    shading = 1 + rng.uniform(-0.35, 0.35) * along
    detail = 1 + rng.choice([0.0, 0.15, 0.4]) * texture[top:bottom, left:right]
    leaf = colour * (shading * detail)[..., None]
    scene[top:bottom, left:right][inside] = leaf[inside]


def _texture(side: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with amplitude spectrum 1/f^a, a in [0.6, 1.6], or soft stripes; (side, side), zero mean, unit spread."""
    if rng.random() < 0.25:
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 40)
        y, x = np.ogrid[:side, :side]
        return np.sqrt(2) * np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period)
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    amplitude = np.maximum(np.hypot(fy, fx), 1 / side) ** -rng.uniform(0.6, 1.6)
    phase = np.exp(2j * np.pi * rng.random(amplitude.shape))
    noise = np.fft.irfft2(amplitude * phase, s=(side, side))
    return (noise - noise.mean()) / noise.std()


def split_sources(
    sources: Sequence[Sequence[Content]], shares: Mapping[str, float], seed: int, held_out: Collection[str] = ()
) -> dict[str, list[Content]]:
    """Contents to the splits train, val and test: each source in the same shares, at least one each.

    Validation and test get the contents named in `held_out` before any others.
    """
    rng = np.random.default_rng(seed)
    splits: dict[str, list[Content]] = {"train": [], "val": [], "test": []}
    for contents in sources:
        order = [contents[i] for i in rng.permutation(len(contents))]
        order.sort(key=lambda content: content.name not in held_out)
        counts = {split: max(1, round(shares[split] * len(order))) for split in ("val", "test")}
        splits["val"] += order[: counts["val"]]
        splits["test"] += order[counts["val"] : sum(counts.values())]
        splits["train"] += order[sum(counts.values()) :]
    return splits
