"""Group maximum differentiation: pictures that one scorer calls equal and another calls as different as can be.

Ma et al., "Group Maximum Differentiation Competition: Model Comparison with Few Samples" (TPAMI 42, 2020). The
defender's scores are cut into bins of equal count; in its lowest and its highest bin the attacker picks the pictures
that it scores highest and lowest. Whoever looks at a pair sees who is right: no human score is needed. As SHAMISA's
appendix runs it, with ten bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mriqa.errors import UserError

from .html_report.html_tables import number, table
from .html_report.run_page import page
from .html_report.thumbnails import data_uri

BINS = 10
THUMBNAIL = 360


class GmadError(UserError, ValueError):
    """Scores that cannot be set against each other, as one sentence."""


@dataclass(frozen=True)
class GmadPair:
    """Two pictures, by their places in the pool, that the defender calls equal.

    Attributes:
        level: "low" or "high": the defender's lowest or highest bin.
        best, worst: which of the bin's pictures the attacker scores highest and lowest.
        gap: the attacker's difference between them.
    """

    level: str
    best: int
    worst: int
    gap: float


def gmad_pairs(
    defender: npt.ArrayLike, attacker: npt.ArrayLike, *, bins: int = BINS, pairs: int = 1
) -> dict[str, list[GmadPair]]:
    """The pairs of the largest gap in the defender's lowest and highest bin, then of the second largest, and so on.

    Arguments:
        defender, attacker: scores of the same pool (N,), finite, higher for better pictures.
        bins: bins of equal count, by quantiles of the defender's scores.
        pairs: how many of each bin; at most half of the bin's pictures can be paired.

    Raises:
        GmadError: lengths differ, a score is not finite, or the pool is smaller than two pictures a bin.
    """
    defender_N, attacker_N = (np.asarray(scores, dtype=np.float64).reshape(-1) for scores in (defender, attacker))
    if len(defender_N) != len(attacker_N):
        raise GmadError(f"The defender scored {len(defender_N)} pictures and the attacker {len(attacker_N)}.")
    if not (np.isfinite(defender_N).all() and np.isfinite(attacker_N).all()):
        raise GmadError("gMAD needs finite scores of both models: leave out pictures that one of them did not score.")
    if bins < 2 or len(defender_N) < 2 * bins:
        raise GmadError(f"{bins} bins need at least two and {2 * bins} pictures, not {len(defender_N)}.")
    low_edge, high_edge = np.quantile(defender_N, [1 / bins, 1 - 1 / bins])
    members = {"low": np.flatnonzero(defender_N <= low_edge), "high": np.flatnonzero(defender_N >= high_edge)}
    found = {}
    for level, places in members.items():
        ordered = places[np.argsort(attacker_N[places], kind="stable")]
        found[level] = [
            GmadPair(level, int(best), int(worst), float(attacker_N[best] - attacker_N[worst]))
            for best, worst in zip(ordered[::-1][:pairs], ordered[: len(ordered) // 2], strict=False)
        ]
    return found


def gmad_page(
    names: tuple[str, str],
    scores: Mapping[str, Sequence[float]],
    pictures: Sequence[Path],
    *,
    bins: int = BINS,
    pairs: int = 1,
) -> str:
    """A page of both duels, each of the two scorers defending once: the pairs as pictures, and the gaps as a table.

    Arguments:
        names: the two scorers.
        scores: those of each on the pool (N,).
        pictures: the pool's files (N).
    """
    first, second = names
    rows, content = [], ""
    for defender, attacker in ((first, second), (second, first)):
        content += f"<h3>{escape(defender)} defends, {escape(attacker)} attacks</h3>"
        for level, found in gmad_pairs(scores[defender], scores[attacker], bins=bins, pairs=pairs).items():
            for pair in found:
                rows.append([escape(f"{defender}, {level}"), escape(attacker), number(pair.gap)])
                items = ""
                for place, word in ((pair.best, "better"), (pair.worst, "worse")):
                    said = ", ".join(f"{name} {scores[name][place]:.2f}" for name in names)
                    alt = escape(f"{attacker} calls it {word}: {pictures[place].name}; {said}", quote=True)
                    source = data_uri(pictures[place], THUMBNAIL)
                    picture = f'<img src="{source}" alt="{alt}">' if source else ""
                    items += f"<li>{picture}<span>{escape(pictures[place].name)}</span><b>{escape(said)}</b></li>"
                content += f'<h4>The {level} bin: gap {pair.gap:.2f}</h4><ul class="gallery pairs">{items}</ul>'
    gaps = table("The attacker's largest gaps, in points of the attacker", ["attacker", "gap"], rows, "defender, bin")
    about = (
        f"{len(pictures)} pictures in {bins} bins of equal count by the defender. The two pictures of a pair are equal "
        "to the defender and as different as can be to the attacker: look who is right. Small gaps favour a defender."
    )
    return page(f"gMAD: {first} against {second}", about, [("gaps", "Gaps", gaps), ("pairs", "Pairs", content)])
