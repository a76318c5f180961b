"""The curves of `grpo_step.py`: seconds and speed-up over G, the number of completions, and P, the prompt's length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from timing import Claim

OURS, STOCK, LIMIT = "#0072B2", "#D55E00", "#8A8A8A"  # Okabe and Ito


def draw(claims: Sequence[Claim], path: Path) -> None:
    """Write the plot of all whole-step claims: the ones with most values of G share P, and the others share G."""
    steps = [claim for claim in claims if claim.name.startswith("grpo_step/")]
    common = max({claim.settings["P"] for claim in steps}, key=[claim.settings["P"] for claim in steps].count)
    over_g = sorted((c for c in steps if c.settings["P"] == common), key=lambda claim: claim.settings["G"])
    others = {claim.settings["G"] for claim in steps if claim.settings["P"] != common}
    over_p = sorted((c for c in steps if c.settings["G"] in others), key=lambda claim: claim.settings["P"])

    figure = Figure(figsize=(12.5 if over_p else 8.5, 4.0), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    cost, faster, *prompt = figure.subplots(1, 3 if over_p else 2)
    completion = over_g[0].settings["C"]
    g = np.array([claim.settings["G"] for claim in over_g], dtype=float)
    dense = np.linspace(g.min(), g.max(), 200)
    for seconds, colour, tokens, law, name in (
        ([c.baseline for c in over_g], STOCK, lambda x: x * (common + completion), "∝ G·(P + C)", "TRL GRPOTrainer"),
        ([c.ours for c in over_g], OURS, lambda x: common + x * completion, "∝ P + G·C", "mriqa"),
    ):
        scale = np.median(np.array(seconds) / tokens(g))
        cost.plot(dense, scale * tokens(dense), color=colour, lw=1, ls=(0, (4, 3)), alpha=0.7, label=law)
        cost.plot(g, seconds, "o", color=colour, ms=6, label=name)
    cost.set(xlabel="completions per prompt, G", ylabel="seconds for a whole step", yscale="log")
    cost.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    cost.yaxis.set_major_formatter("{x:g}")
    cost.yaxis.set_minor_locator(NullLocator())
    cost.set_xticks(g)
    _speed_up(faster, over_g, "G", "completions per prompt, G")
    titles = [f"Cost, P = {common}, C = {completion}", f"Speed-up, P = {common}"]
    for axes in prompt:
        _speed_up(axes, over_p, "P", "prompt tokens, P")
        titles.append(f"Speed-up, G = {over_p[0].settings['G']}")
    for axes, title in zip((cost, faster, *prompt), titles, strict=True):
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.grid(color="#E6E6E6", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _speed_up(axes: Axes, claims: Sequence[Claim], key: str, label: str) -> None:
    x = [claim.settings[key] for claim in claims]
    limit = [claim.settings["ratio_by_token_count"] for claim in claims]
    axes.plot(x, limit, color=LIMIT, lw=1.2, ls=(0, (4, 3)), label="G·(P + C) / (P + G·C)")
    axes.plot(x, [claim.ratio for claim in claims], "o-", color=OURS, lw=1.6, ms=6, label="measured")
    axes.set(xlabel=label, ylabel="times faster", ylim=(0, None), xticks=x)
