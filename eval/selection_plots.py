"""Plots of selection: how alike data sets prefer (PPC), how many labels a PPR needs, and how PreSTA's PPC rises.

After Figure 1 of the PreSTA supplement. As in `plots`, figures are their own, and a file is replaced only once it is
complete.

Legend: S sets, F fractions of labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .plots import COLOURS, INK, PathLike, _dress, _figure, _save
from .report import markdown_table


def ppc_table(names: Sequence[str], matrix: npt.ArrayLike) -> str:
    """The PPC of every pair of sets as a markdown table, from `mriqa.selection.ppc_matrix`.

    Raises:
        ValueError: the matrix is not (S, S).
    """
    matrix_SS = _square(names, matrix)
    return markdown_table({name: dict(zip(names, row)) for name, row in zip(names, matrix_SS)}, columns=names)


def ppc_heat_map(names: Sequence[str], matrix: npt.ArrayLike, path: PathLike, title: str = "") -> None:
    """The PPC of every pair of sets as coloured squares with their values, from -1 (blue) over 0 to 1 (red).

    Arguments:
        names, matrix: as `mriqa.selection.ppc_matrix` gives them.
        path: file to write; its directory is made.
        title: above the axes.

    Raises:
        ValueError: the matrix is not (S, S).
    """
    matrix_SS = _square(names, matrix)
    size = 2.6 + 0.75 * len(names)
    figure = _figure(size + 0.8, size)
    axes = figure.add_subplot()
    image = axes.imshow(matrix_SS, cmap="RdBu_r", vmin=-1.0, vmax=1.0)
    figure.colorbar(image, ax=axes, shrink=0.75, label="PPC")
    for row, values in enumerate(matrix_SS):
        for column, value in enumerate(values):
            colour = "white" if abs(value) > 0.6 else INK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color=colour)
    _dress(axes, title)
    axes.grid(False)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    _save(figure, path)


def stability_table(curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], fractions: Sequence[float]) -> str:
    """What `stability_curves` draws, as a markdown table: mean ± standard deviation of each set and share.

    Raises:
        ValueError: lengths that differ.
    """
    lines = [["labels used", *(f"{100 * share:g} %" for share in fractions)], ["---", *["---:"] * len(fractions)]]
    for name, curve in curves.items():
        mean_F, std_F = _curve(name, curve, len(fractions))
        lines.append([name, *(f"{mean:.4f} ± {std:.4f}" for mean, std in zip(mean_F, std_F))])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def stability_curves(
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    fractions: Sequence[float],
    path: PathLike,
    title: str = "",
) -> None:
    """Cosine of a PPR from few labels to that from all, mean ± one standard deviation, against the share of labels.

    Arguments:
        curves: name of a set -> mean (F,) and standard deviation (F,), as `mriqa.selection.ppr_stability` gives them.
        fractions: shares of the labels (F,), above 0.
        path: file to write; its directory is made.
        title: above the axes.

    Raises:
        ValueError: no curves, or lengths that differ.
    """
    if not curves:
        raise ValueError("There are no stability curves to draw.")
    figure = _figure(6.4, 4.4)
    axes = figure.add_subplot()
    percent_F = 100 * np.asarray(fractions, dtype=np.float64)
    for place, (name, curve) in enumerate(curves.items()):
        mean_F, std_F = _curve(name, curve, len(percent_F))
        colour = COLOURS[place % len(COLOURS)]
        axes.fill_between(percent_F, mean_F - std_F, mean_F + std_F, color=colour, alpha=0.2, lw=0)
        axes.plot(percent_F, mean_F, color=colour, marker="o", ms=4, lw=1.6, label=name)
    axes.set_xscale("log")
    axes.set_xticks(percent_F, [f"{share:g}" for share in percent_F])
    axes.minorticks_off()
    axes.set(xlabel="labels used, %", ylabel="cosine to the PPR of all labels")
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
    _dress(axes, title)
    _save(figure, path)


def ppc_curves(runs: Mapping[str, npt.ArrayLike], path: PathLike, title: str = "") -> None:
    """PPC with the target against the number of samples removed, a curve for each source, from `Presta.ppc`.

    Raises:
        ValueError: no runs, or one without a value.
    """
    if not runs or not all(np.size(ppc) for ppc in runs.values()):
        raise ValueError("There is no course of PPC to draw; give at least one value of each run.")
    figure = _figure(6.4, 4.2)
    axes = figure.add_subplot()
    for place, (name, ppc) in enumerate(runs.items()):
        axes.plot(np.asarray(ppc, dtype=np.float64), color=COLOURS[place % len(COLOURS)], lw=1.6, label=name)
    axes.set(xlabel="samples removed", ylabel="PPC with the target")
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
    _dress(axes, title)
    _save(figure, path)


def _curve(
    name: str, curve: tuple[npt.ArrayLike, npt.ArrayLike], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    mean_F, std_F = (np.asarray(values, dtype=np.float64) for values in curve)
    if not mean_F.shape == std_F.shape == (count,):
        raise ValueError(f"Curve {name!r} has {mean_F.size} means and {std_F.size} deviations for {count} fractions.")
    return mean_F, std_F


def _square(names: Sequence[str], matrix: npt.ArrayLike) -> npt.NDArray[np.float64]:
    matrix_SS = np.asarray(matrix, dtype=np.float64)
    if matrix_SS.shape != (len(names), len(names)) or not len(names):
        raise ValueError(
            f"There are {len(names)} names but a matrix of shape {matrix_SS.shape}; give one row and column each."
        )
    return matrix_SS
