"""The scale on which a dataset's ratings were published, and how they become 1..5, higher being better.

A scale is declared, never guessed from the values: a file whose scores happen to lie in 1..5 may still be on 0..100.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mriqa.errors import UserError

LOWEST, HIGHEST = 1.0, 5.0


class ScaleError(UserError, ValueError):
    """A scale that is none, as one sentence with the ways to write it."""


@dataclass(frozen=True)
class Scale:
    """A range of ratings and the direction of better ones.

    Arguments:
        low, high: the range that scores may take, both ends included.
        direction: "higher" where a higher score is a better image (MOS), "lower" where it is a worse one (DMOS).
    """

    low: float = LOWEST
    high: float = HIGHEST
    direction: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ScaleError(f"A scale needs finite ends with low < high, not {self.low} and {self.high}.")
        if self.direction not in ("higher", "lower"):
            raise ScaleError(f"A scale's direction is 'higher' or 'lower' (is better), not {self.direction!r}.")

    def to_mos(self, score: float) -> float:
        """`score` as 1..5. Raises ValueError where it is NaN or outside the scale."""
        if not self.low <= score <= self.high:
            raise ValueError(f"score {score:g} is outside the declared scale {self}")
        if self == MOS:
            return float(score)
        share = (score - self.low) / (self.high - self.low)
        return LOWEST + (HIGHEST - LOWEST) * (share if self.direction == "higher" else 1.0 - share)

    def from_mos(self, mos: float) -> float:
        """What `to_mos` does, undone: a score of 1..5 on this scale."""
        if self == MOS:
            return float(mos)
        share = (mos - LOWEST) / (HIGHEST - LOWEST)
        return self.low + (self.high - self.low) * (share if self.direction == "higher" else 1.0 - share)

    def std_to_mos(self, std: float) -> float:
        """A standard deviation on this scale as one on 1..5. Raises ValueError for NaN, infinity and negatives."""
        if not 0 <= std < math.inf:
            raise ValueError(f"std {std:g} is not a standard deviation; leave it out where it is not known")
        return float(std) * ((HIGHEST - LOWEST) / (self.high - self.low))

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}" + (" (lower is better)" if self.direction == "lower" else "")


MOS = Scale()

NAMED_SCALES: dict[str, Scale] = {
    "mos": MOS,
    "koniq10k": MOS,  # column MOS of the published scores
    "koniq10k_zscore": Scale(0, 100),  # column MOS_zscore, and MOS of the file with the official split
    "spaq": Scale(0, 100),
    "livec": Scale(0, 100),
    "livew": Scale(0, 100),  # another name for the same: LIVE In the Wild (CLIVE)
    "flive": Scale(0, 100),
    "agiqa3k": Scale(0, 5),
    "bid": Scale(0, 5),
    "kadid10k": MOS,  # its "dmos" column is higher for better images
    "tid2013": Scale(0, 9),
    "csiq": Scale(0, 1, "lower"),
    "live": Scale(-3, 112, "lower"),  # realigned DMOS have no fixed ends: what was observed, to the next integers
    "pipal": Scale(916, 1836),  # nor have Elo ratings
    "uhdiqa": Scale(0, 1),
}
"""Scales of datasets as their authors publish the scores, used where the caller or a row's `score_scale` names them."""


def resolve_scale(scale: Scale | str | None) -> Scale:
    """A `Scale`, a name of `NAMED_SCALES`, or "LOW:HIGH" or "LOW:HIGH:lower" as text; None is 1..5.

    Raises:
        ScaleError: the text is none of these.
    """
    if scale is None:
        return MOS
    if isinstance(scale, Scale):
        return scale
    if scale in NAMED_SCALES:
        return NAMED_SCALES[scale]
    low, separator, rest = str(scale).partition(":")
    high, _, direction = rest.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        separator = ""
    if not separator:
        raise ScaleError(
            f"There is no scale {scale!r}: name one of {', '.join(NAMED_SCALES)}, or write LOW:HIGH or LOW:HIGH:lower."
        ) from None
    return Scale(*ends, direction or "higher")  # type: ignore[arg-type]  # Scale checks the direction
