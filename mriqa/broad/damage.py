"""What a damage is: something that spoils a photograph, from hardly visible to the worst that one meets.

Pictures are (H, W, 3) arrays of 8 bits, as files hold them. A severity runs from 0, the mildest, to 1. A damage draws
the same random numbers at every severity, so that one seed gives a picture that only gets worse with the severity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Spoil = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Damage:
    """One damage: `function(pixels_HW3, severity, rng)` returns new pixels of the same shape.

    Attributes:
        name: unique among all damages.
        kind: what people would call it (`KINDS` of the table); a whole kind can be held out.
        function: how it is done.
        needs_colour: it does not show on a grey picture.
        rated: the name of the labelled KADID-10k distortion that it is; None where nobody was asked.
    """

    name: str
    kind: str
    function: Spoil
    needs_colour: bool = False
    rated: str | None = None


def as_floats(pixels_HW3: np.ndarray) -> np.ndarray:
    """8 bits to float32 in [0, 1]."""
    return pixels_HW3.astype(np.float32) / 255


def as_pixels(values_HW3: np.ndarray) -> np.ndarray:
    """Numbers to 8 bits, clipped to [0, 1] and rounded."""
    return (np.clip(values_HW3, 0, 1) * 255 + 0.5).astype(np.uint8)


def between(first: float, last: float, severity: float) -> float:
    """From `first` at severity 0 to `last` at 1 in equal ratios; both above 0."""
    return first * (last / first) ** severity


def parts_of_severity(steps: int, most: float, rng: np.random.Generator) -> np.ndarray:
    """What part (steps,) of a severity each of several steps takes: 0.1 to 0.7, and one of them `most`."""
    parts = rng.uniform(0.1, 0.7, steps)
    parts[rng.integers(steps)] = most
    return parts
