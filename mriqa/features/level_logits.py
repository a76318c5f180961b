"""Logits of the five quality levels, out of a model's distribution over all the scores that it could state.

Contextual diversity reads such logits (the supplement of Q-Diverse takes LIQE's). A level's probability is that of the
scores nearest to it: 1 to 1.5, 1.5 to 2.5, … A score in the middle counts for the higher level.

Legend: B pictures, L levels, S scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from mriqa.features.encoder import Encoder, FeatureError, digest

EDGES = (1.5, 2.5, 3.5, 4.5)
LEAST = 1e-8  # probability of a level, so that its logarithm is finite


def level_logits(scores_S: np.ndarray, shares_S: np.ndarray) -> np.ndarray:
    """Logarithms (L,) of the probabilities of the five levels, from how likely each score is."""
    shares_L = np.bincount(np.digitize(scores_S, EDGES), shares_S, minlength=len(EDGES) + 1)
    return np.log(np.maximum(shares_L / shares_L.sum(), LEAST))


def load_levels_encoder(path: str, device: str | None = None) -> Encoder:
    """The level logits of a saved model, a hub repository or "default", the model in the package.

    Raises:
        ModelError: there is no such model.
        ReadoutError: its distribution over scores can't be had.
    """
    from mriqa.scoring.scorer import Scorer

    scorer = Scorer.from_pretrained(path, "expected", device=device, distributions=True)
    backend: Any = scorer.backend

    def encode(images: list[Image.Image]) -> np.ndarray:
        rows = []
        for score in scorer.score(images):
            if score.distribution is None:
                raise FeatureError(f"levels:{path} gives no score: {score.error}")
            rows.append(level_logits(score.distribution.scores_S, score.distribution.shares_S))
        return np.stack(rows)

    key = digest("levels", scorer.answer_format, scorer.views, weights=backend.model.state_dict())
    return Encoder(f"levels:{path}", key, encode, views=scorer.views)
