"""A real Scorer whose model is replaced by a rule that a test can work out: brightness is quality."""

from __future__ import annotations

import numpy as np


class Brightness:
    """Black scores 1, white 5, and each score is 0.5 too low or too high with equal odds, as far as 1..5 reach.

    `seen` keeps the pictures that were asked about; those darker than `refused` of 5 get no score.
    """

    readout_name = "expected"

    def __init__(self, refused: float = 0.0) -> None:
        self.refused, self.seen = refused, []

    def read(self, pictures, seed):
        self.seen += pictures
        return [self._reading(1 + 4 * np.asarray(picture).mean() / 255) for picture in pictures]

    def _reading(self, mean):
        from mriqa.scoring.reading import Reading

        if mean < self.refused:
            return "It is too dark."
        spread = min(0.5, mean - 1, 5 - mean)
        return Reading(np.array([mean - spread, mean + spread]), np.array([0.5, 0.5]), exact=True)
