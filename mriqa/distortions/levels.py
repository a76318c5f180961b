"""Severity levels of KADID-10k's distortions and what people thought of them.

`kadid_levels.csv` holds, for the 25 distortions at levels 1 to 5, the parameter and three figures computed from the
published KADID-10k ratings (Lin, Hosu, Saupe, "KADID-10k: A Large-scale Artificially Distorted IQA Database", QoMEX
2019): the mean score over the 81 contents (1 to 5, higher is better), its spread between contents and the mean standard
deviation between raters.

Severity is continuous in [0, 1]: level k lies at k / 5, the undistorted image at 0, and parameters are interpolated
linearly in between. KADID-10k has no ratings of undistorted images, so scores exist from severity 0.2 on.

Legend: B batch.
"""

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch
from torch import Tensor

LEVELS = 5

IDENTITY = {
    "gaussian_blur": 0.0,
    "lens_blur": 0.0,
    "motion_blur": 1.0,
    "color_diffusion": 0.0,
    "color_shift": 0.0,
    "color_quantization": 256.0,
    "color_saturation_hsv": 1.0,
    "color_saturation_lab": 1.0,
    "jpeg2000": 1.0,
    "jpeg": 100.0,
    "white_noise": 0.0,
    "white_noise_color_component": 0.0,
    "impulse_noise": 0.0,
    "multiplicative_noise": 0.0,
    "denoise": 0.0,
    "brighten": 0.0,
    "darken": 0.0,
    "mean_shift": 0.0,
    "jitter": 0.0,
    "non_eccentricity_patch": 0.0,
    "pixelate": 0.0,
    "quantization": 256.0,
    "color_block": 0.0,
    "high_sharpen": 0.0,
    "contrast_change": -0.2,
}

# Those the rating table leaves open, as in KADID-10k's published generator. They carry no labels: the first two
# distortions are made another way here, and the last two are signed, so that they do not grow with the level.
UNLABELLED_PARAMETERS = {
    "color_quantization": (64.0, 48.0, 32.0, 16.0, 8.0),
    "denoise": (0.01, 0.03, 0.05, 0.1, 0.15),
    "mean_shift": (0.15, 0.08, 0.0, -0.08, -0.15),
    "contrast_change": (0.3, 0.15, 0.0, -0.4, -0.6),
}

NAMES: tuple[str, ...] = tuple(IDENTITY)
LABELLED: tuple[str, ...] = tuple(name for name in NAMES if name not in UNLABELLED_PARAMETERS)


@dataclass(frozen=True)
class LevelTable:
    """One distortion's category and, for levels 1 to 5, its parameter, mean score and mean rater standard deviation."""

    category: str
    parameters: tuple[float, ...]
    mean_mos: tuple[float, ...]
    rater_std: tuple[float, ...]


@cache
def level_tables() -> dict[str, LevelTable]:
    """The level table of every distortion, by name."""
    table = resources.files(__package__).joinpath("kadid_levels.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    tables = {}
    for name in NAMES:
        levels = sorted((row for row in rows if row["name"] == name), key=lambda row: int(row["level"]))
        tables[name] = LevelTable(
            category=levels[0]["category"],
            parameters=UNLABELLED_PARAMETERS.get(name) or tuple(float(row["parameter"]) for row in levels),
            mean_mos=tuple(float(row["mean_mos"]) for row in levels),
            rater_std=tuple(float(row["mean_rater_std"]) for row in levels),
        )
    return tables


def parameter(name: str, severity_B: Tensor) -> Tensor:
    """The distortion's own parameter (B,) for severities (B,) in [0, 1], interpolated linearly between levels.

    Raises ValueError for an unknown distortion or a severity outside [0, 1].
    """
    check_name(name)
    check_severity(severity_B)
    knots = severity_B.new_tensor((IDENTITY[name], *level_tables()[name].parameters))
    position_B = severity_B * LEVELS
    below_B = position_B.floor().clamp(max=LEVELS - 1)
    index_B = below_B.long()
    return torch.lerp(knots[index_B], knots[index_B + 1], position_B - below_B)


def mean_mos(name: str, severity: float) -> float:
    """Mean human score (1 to 5, higher is better) at a severity in [0.2, 1], interpolated linearly between levels.

    Raises ValueError for a distortion that carries no labels or a severity outside [0.2, 1].
    """
    return _rating(name, severity, level_tables()[_labelled(name)].mean_mos)


def rater_std(name: str, severity: float) -> float:
    """Mean standard deviation between raters at a severity in [0.2, 1]; otherwise as `mean_mos`."""
    return _rating(name, severity, level_tables()[_labelled(name)].rater_std)


def check_name(name: str) -> None:
    """Raise ValueError, naming near matches, unless `name` is a distortion."""
    if name not in IDENTITY:
        near = difflib.get_close_matches(str(name), NAMES, n=3, cutoff=0.4) or NAMES
        raise ValueError(f"There is no distortion {name!r}; did you mean {', '.join(near)}?")


def check_severity(severity_B: Tensor) -> None:
    """Raise ValueError unless all severities lie in [0, 1]."""
    if not bool(((severity_B >= 0) & (severity_B <= 1)).all()):
        raise ValueError(f"Severities must lie in [0, 1], from undistorted to level 5, but got {severity_B.tolist()}.")


def _labelled(name: str) -> str:
    check_name(name)
    if name not in LABELLED:
        raise ValueError(f"The distortion {name!r} carries no human scores; those that do are {', '.join(LABELLED)}.")
    return name


def _rating(name: str, severity: float, ratings: tuple[float, ...]) -> float:
    if not 1 / LEVELS <= severity <= 1:
        raise ValueError(
            f"Human scores of {name!r} exist for severities in [{1 / LEVELS}, 1], levels 1 to {LEVELS}, not {severity}."
        )
    position = severity * LEVELS - 1
    below = min(int(position), LEVELS - 2)
    return ratings[below] + (ratings[below + 1] - ratings[below]) * (position - below)
