"""The distortion engine: batched torch functions of continuous severity, among them the 25 of KADID-10k
and 18 of the 19 of ImageNet-C.

    from mriqa.distortions import distort, mean_mos
    distorted_BCHW = distort(images_BCHW, "jpeg", 0.5)
    mean_mos("jpeg", 0.5)  # what KADID-10k's raters gave to that

`register(Distortion(name, category, function, identity, levels))` adds one; see docs/extending.md.
"""

from mriqa.distortions.distortion import Distortion, DistortionError
from mriqa.distortions.imagenet_c import IMAGENET_C
from mriqa.distortions.levels import Ratings
from mriqa.distortions.registry import (
    DISTORTIONS,
    LABELLED,
    NAMES,
    distort,
    mean_mos,
    parameter,
    rater_std,
    register,
)

__all__ = [
    "DISTORTIONS",
    "IMAGENET_C",
    "LABELLED",
    "NAMES",
    "Distortion",
    "DistortionError",
    "Ratings",
    "distort",
    "mean_mos",
    "parameter",
    "rater_std",
    "register",
]
