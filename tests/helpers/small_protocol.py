"""A protocol of two small data sets on disk, and scores for it that a test can work out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = 24


def write_data(folder: Path, names: tuple[str, ...] = ("one", "two"), seed: int = 0) -> None:
    """NAME.jsonl with 24 pictures of 6 contents: grey levels, a human score near them, two distortions, two parts."""
    for place, name in enumerate(names):
        rng = np.random.default_rng(seed + place)
        (folder / name).mkdir(parents=True)
        rows = []
        for k in range(PICTURES):
            level = int(rng.integers(20, 235))
            Image.new("RGB", (40, 30), (level,) * 3).save(folder / name / f"{k}.png")
            rows.append(
                {
                    "image": f"{name}/{k}.png",
                    "id": f"{name}-{k}",
                    "mos": float(np.clip(1 + 4 * level / 255 + rng.normal(0, 0.3), 1, 5)),
                    "std": 0.5,
                    "dataset": name,
                    "content": f"{name}-{k % 6}",
                    "distortion": ("blur", "noise")[k % 2],
                    "split": "test" if k < 20 else "training",
                }
            )
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_protocol(folder: Path, names: tuple[str, ...] = ("one", "two"), more: str = "") -> Path:
    path = folder / "small.yaml"
    sets = "".join(f"  - {{name: {name}}}\n" for name in names)
    path.write_text(f"title: Small & <odd>\nabout: Two sets.\nsets:\n{sets}{more}")
    return path


def write_scores(folder: Path, file: str, noise: float, names: tuple[str, ...] = ("one", "two"), seed: int = 9) -> str:
    """A CSV of human scores with noise; returns the specification csv:FILE."""
    rng = np.random.default_rng(seed)
    with (folder / file).open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["id", "score"])
        for name in names:
            for line in (folder / f"{name}.jsonl").read_text().splitlines():
                row = json.loads(line)
                table.writerow([row["id"], row["mos"] + rng.normal(0, noise)])
    return f"csv:{folder / file}"


def no_scorer(model: str, readout: str | None):
    raise AssertionError(f"{model} is no file of scores")
