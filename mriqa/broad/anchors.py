"""Pictures that only fix the map to people's scores: outside the labelled distortions it would have to guess.

Blank ones, on which nothing is left to see, are worth 1, the lowest score that KADID-10k's raters could give. Changes
of contrast and brightness have published scores at five levels, which go both ways from the original and so are no
labels of a distortion that grows; as anchors they serve.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from PIL import Image

from mriqa.broad.damages.engine import as_batch, from_batch
from mriqa.broad.pictures import compare, crop_at_some_scale
from mriqa.distortions import DISTORTIONS
from mriqa.distortions.levels import level_tables
from mriqa.embedded.contents import Content

INVISIBLE = max(max(table.ratings.mean_mos) for table in level_tables().values())
"""4.61: what raters gave to what they can't have seen. Nothing scores higher, not the original itself."""
WORST = 1.0
TIMES = {"contrast_change": 3, "mean_shift": 2}


def anchors(content: Content, scene: Image.Image, size: int, seed: int) -> list[dict]:
    """What was measured on the anchors of one content, each with its score and content."""
    rng = np.random.default_rng([seed, zlib.crc32(content.name.encode())])
    original = crop_at_some_scale(scene, size, rng)
    greys = (0, round(float(original.mean())), 255)
    found = [(np.full_like(original, grey), original, WORST) for grey in greys]
    for name, times in TIMES.items():
        for _ in range(times):
            original = crop_at_some_scale(scene, size, rng)
            parameter = rng.uniform(min(DISTORTIONS[name].levels), max(DISTORTIONS[name].levels))
            changed_13HW = DISTORTIONS[name].function(as_batch(original), torch.tensor([parameter]).float(), None)
            found.append((from_batch(changed_13HW), original, score_at(name, parameter)))
    return [
        {"content": content.name, "measures": compare(original, spoiled), "mos": mos}
        for spoiled, original, mos in found
    ]


def score_at(name: str, parameter: float) -> float:
    """KADID-10k's mean score at a parameter of a distortion that has two directions; linear between the levels."""
    rated = dict(zip(DISTORTIONS[name].levels, level_tables()[name].ratings.mean_mos))
    rated[DISTORTIONS[name].identity] = INVISIBLE
    parameters = sorted(rated)
    return float(np.interp(parameter, parameters, [rated[each] for each in parameters]))
