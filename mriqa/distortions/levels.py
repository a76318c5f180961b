"""Severity levels: how strong a distortion is at each, and what people thought of KADID-10k's.

`kadid_levels.csv` holds, for the 25 distortions at levels 1 to 5, the parameter and three figures computed from the
published KADID-10k ratings (Lin, Hosu, Saupe, "KADID-10k: A Large-scale Artificially Distorted IQA Database", QoMEX
2019): the mean score over the 81 contents (1 to 5, higher is better), its spread between contents and the mean standard
deviation between raters. The parameters of four distortions are empty there: the ratings don't hold for how they are
made here, see `registry`.

Severity is continuous in [0, 1]: level k of K lies at k / K, the undistorted image at 0, and parameters and scores are
interpolated linearly in between. Nobody rated undistorted images, so scores exist from level 1 on.

Legend: B batch, K knots.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ratings:
    """What people thought of a distortion at each of its levels.

    Attributes:
        mean_mos: mean score, 1 to 5, higher is better.
        rater_std: mean standard deviation between raters, in points.
    """

    mean_mos: tuple[float, ...]
    rater_std: tuple[float, ...]


@dataclass(frozen=True)
class LevelTable:
    """A row of KADID-10k's table: a distortion's category, its parameter at levels 1 to 5, and its ratings.

    `parameters` is empty where the ratings don't hold for the distortion as it is made here.
    """

    category: str
    parameters: tuple[float, ...]
    ratings: Ratings


@cache
def level_tables() -> dict[str, LevelTable]:
    """KADID-10k's table, by the distortion's name."""
    text = resources.files(__package__).joinpath("kadid_levels.csv").read_text(encoding="utf-8")
    rows = sorted(csv.DictReader(text.splitlines()), key=lambda row: (int(row["distortion_id"]), int(row["level"])))
    tables = {}
    for name in dict.fromkeys(row["name"] for row in rows):
        levels = [row for row in rows if row["name"] == name]
        ratings = Ratings(
            tuple(float(row["mean_mos"]) for row in levels), tuple(float(row["mean_rater_std"]) for row in levels)
        )
        parameters = tuple(float(row["parameter"]) for row in levels if row["parameter"])
        tables[name] = LevelTable(levels[0]["category"], parameters, ratings)
    return tables


def at_severity(knots: Sequence[float], severity_B: Tensor) -> Tensor:
    """Values (B,) of a line through `knots`, evenly spaced over severities 0 to 1, at severities (B,) in [0, 1]."""
    knots_K = severity_B.new_tensor(knots)
    position_B = severity_B * (len(knots) - 1)
    below_B = position_B.floor().clamp(max=len(knots) - 2)
    index_B = below_B.long()
    return torch.lerp(knots_K[index_B], knots_K[index_B + 1], position_B - below_B)


def rated_at(ratings: tuple[float, ...], severity: float) -> float:
    """The line through ratings of levels 1 to K at a severity in [1 / K, 1]."""
    position = severity * len(ratings) - 1
    below = min(int(position), len(ratings) - 2)
    return ratings[below] + (ratings[below + 1] - ratings[below]) * (position - below)
