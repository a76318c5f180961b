"""Whether the manifest's scores look as if they had been converted from the scale they are on.

A scale is declared and never guessed. A wrong one that still admits all scores shows in where they end up: 1..5
declared as 0..100 lies within a sixth of a point.
"""

from __future__ import annotations

from collections import defaultdict

from mriqa.manifest import NAMED_SCALES, RatedImage, resolve_scale
from mriqa.training.preflight.findings import Finding, passed, problem
from mriqa.training.preflight.planned_run import PlannedRun

FEWEST = 4  # images from which a range says something
NARROWEST = 0.5  # points of 1..5 that scores of different pictures span at least
WIDEST_STD = 2.0  # the standard deviation of ratings on 1..5 can't be larger: half of them 1, half of them 5


def check_rating_scale(run: PlannedRun) -> Finding:
    """Scores of each data set, on 1..5, and their deviations."""
    by_name: dict[str, list[RatedImage]] = defaultdict(list)
    for row in run.rows:
        by_name[row.dataset].append(row)
    declared = run.arguments.scale if isinstance(run.arguments.scale, str) else None  # else a mapping by data set
    for name, rows in by_name.items():
        low, high = min(row.mos for row in rows), max(row.mos for row in rows)
        if len(rows) >= FEWEST and high - low < NARROWEST:
            return problem(
                f"The {len(rows)} scores of {name} lie between {low:.2f} and {high:.2f} once converted, so "
                f"their scale is probably not the one declared ({declared or '1..5'}): set --scale to the "
                "one that the file is on."
            )
        wide = [row for row in rows if row.std is not None and row.std > WIDEST_STD]
        if wide:
            return problem(
                f"{len(wide)} images of {name} have a standard deviation above {WIDEST_STD:g} on 1..5, which no "
                f"ratings have (the first: {wide[0].id}, {wide[0].std:.2f}): scores and deviations are on different "
                "scales, or --scale isn't theirs."
            )
        published = {declared, name} <= set(NAMED_SCALES)
        if published and not str(declared).startswith(name) and resolve_scale(declared) != resolve_scale(name):
            return problem(
                f"The scale declared is that of {declared} ({resolve_scale(declared)}), but the images are of {name}, "
                f"published on {resolve_scale(name)}: set --scale {name}, or leave it out where each row says its own."
            )
    low, high = min(row.mos for row in run.rows), max(row.mos for row in run.rows)
    return passed(f"{len(run.rows):,} images, scores from {low:.2f} to {high:.2f} on 1..5.")
