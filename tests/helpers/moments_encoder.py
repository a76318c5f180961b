"""An encoder of a user's own: the mean and the deviation of each colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ENCODER = f"{Path(__file__)}:moments"


def moments(images: Sequence[Image.Image]) -> np.ndarray:
    """Images to (N, 6)."""
    pixels = np.stack([np.asarray(image, dtype=float).reshape(-1, 3) for image in images])
    return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1)
