"""A small rated data set with contents and references, such as a probe can learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mriqa.manifest import RatedImage, write_manifest


def make_set(folder: Path, seed: int, contents: int = 12, each: int = 4) -> Path:
    """Noise on gradients, scored by how little of it there is; beside each picture's reference. The manifest."""
    rng = np.random.default_rng(seed)
    (folder / "references").mkdir(parents=True)
    rows = []
    for content in range(contents):
        smooth = Image.fromarray(rng.integers(60, 190, (3, 3, 3), dtype=np.uint8)).resize((56, 48))
        smooth.save(folder / "references" / f"c{content}.png")
        for place in range(each):
            spread = rng.uniform(0, 50)
            pixels = np.asarray(smooth) + rng.normal(0, spread, (48, 56, 3))
            path = folder / f"{content}-{place}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            rows.append(RatedImage(path, 5 - spread / 12.5, None, folder.name, f"c{content}", path.stem))
    write_manifest(rows, folder / "rated.jsonl")
    return folder / "rated.jsonl"
