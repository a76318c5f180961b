"""The distortion engine: the 25 distortions of KADID-10k as batched torch functions of continuous severity."""

from mriqa.distortions.levels import LABELLED, NAMES, mean_mos, parameter, rater_std
from mriqa.distortions.registry import DISTORTIONS, Distortion, distort

__all__ = ["DISTORTIONS", "LABELLED", "NAMES", "Distortion", "distort", "mean_mos", "parameter", "rater_std"]
