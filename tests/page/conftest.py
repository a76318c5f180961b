"""A real Scorer whose model is replaced by a rule that a test can work out: brightness is quality."""

from __future__ import annotations

import numpy as np
import pytest


class Brightness:
    """Black scores 1, white 5, and each score is 0.5 too low or too high with equal odds, as far as 1..5 reach."""

    readout_name = "expected"

    def read(self, pictures, seed):
        from mriqa.scoring.reading import Reading

        means = [1 + 4 * np.asarray(picture).mean() / 255 for picture in pictures]
        spreads = [min(0.5, mean - 1, 5 - mean) for mean in means]
        return [
            Reading(np.array([mean - spread, mean + spread]), np.array([0.5, 0.5]), exact=True)
            for mean, spread in zip(means, spreads, strict=True)
        ]


@pytest.fixture(scope="session")
def scorer():
    import mriqa

    return mriqa.Scorer(None, None, backend=Brightness(), distributions=True)
