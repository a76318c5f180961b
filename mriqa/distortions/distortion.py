"""What a distortion is: a function of images, how strong it is at each severity, and what people thought of that.

Legend: B batch, C channels, H height, W width, K levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mriqa.distortions.levels import Ratings, at_severity, rated_at
from mriqa.errors import UserError

DistortionFunction = Callable[[Tensor, Tensor, torch.Generator | None], Tensor]


class DistortionError(UserError, ValueError):
    """A distortion that isn't there, images it can't take, or a severity or rating that there is not."""


@dataclass(frozen=True)
class Distortion:
    """One distortion: `function(images_BCHW, parameter_B, generator)` does not change its input.

    Attributes:
        name: what `distort` calls it.
        category: what kind it is: blur, color, compression, noise, brightness, spatial, sharpness_contrast, or another.
        function: (B, 3, H, W) in [0, 1] to the same shape, dtype and range, in the distortion's own parameter (B,).
        identity: the parameter at severity 0, which leaves an image as it is.
        levels: the parameter at levels 1 to K, so at severities 1 / K, 2 / K, ... 1. With a single one, such as (1.0,),
            the parameter is a straight line from the identity.
        ratings: what people thought of it at those levels; None where nobody was asked.

    Raises:
        DistortionError: no levels, a parameter that is not finite, or ratings of fewer than two or of other levels.
    """

    name: str
    category: str
    function: DistortionFunction
    identity: float
    levels: tuple[float, ...]
    ratings: Ratings | None = None

    def __post_init__(self) -> None:
        if not (self.levels and all(map(math.isfinite, (self.identity, *self.levels)))):
            raise DistortionError(
                f"The distortion {self.name!r} needs a finite identity and at least one finite level, "
                f"not {self.identity} and {self.levels}."
            )
        if self.ratings is not None:
            counts = [len(self.levels), len(self.ratings.mean_mos), len(self.ratings.rater_std)]
            if min(counts) < 2 or len(set(counts)) > 1:
                raise DistortionError(
                    f"The distortion {self.name!r} has {counts[0]} levels, {counts[1]} mean scores and {counts[2]} "
                    "deviations; rate each of at least two levels, or none."
                )

    @property
    def has_labels(self) -> bool:
        """Whether human scores hold for it."""
        return self.ratings is not None

    def parameter(self, severity_B: Tensor) -> Tensor:
        """Its parameter (B,) at severities (B,) in [0, 1], interpolated linearly between levels.

        Raises:
            DistortionError: a severity outside [0, 1].
        """
        if not bool(((severity_B >= 0) & (severity_B <= 1)).all()):
            raise DistortionError(
                f"Severities must lie in [0, 1], from undistorted to level {len(self.levels)}, "
                f"but got {severity_B.tolist()}."
            )
        return at_severity((self.identity, *self.levels), severity_B)

    def mean_mos(self, severity: float) -> float:
        """Mean human score (1 to 5, higher is better) at a severity in [1 / K, 1], linear between levels.

        Raises:
            DistortionError: it carries no human scores, or the severity lies outside.
        """
        return rated_at(self._ratings_for(severity).mean_mos, severity)

    def rater_std(self, severity: float) -> float:
        """Mean standard deviation between raters at a severity in [1 / K, 1]; otherwise as `mean_mos`."""
        return rated_at(self._ratings_for(severity).rater_std, severity)

    def _ratings_for(self, severity: float) -> Ratings:
        if self.ratings is None:
            raise DistortionError(f"The distortion {self.name!r} carries no human scores; take one that does.")
        count = len(self.levels)
        if not 1 / count <= severity <= 1:
            raise DistortionError(
                f"Human scores of {self.name!r} exist for severities in [{1 / count:g}, 1], levels 1 to {count}, "
                f"not {severity}."
            )
        return self.ratings
