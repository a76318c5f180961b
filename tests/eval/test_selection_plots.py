"""Plots of selection are drawn, tables hold their values, and nonsense is refused."""

import numpy as np
import pytest
from PIL import Image

from mriqa.eval import selection_plots

NAMES, MATRIX = ["kadid10k", "koniq10k"], np.array([[1.0, -0.3456], [-0.3456, 1.0]])


def test_plots_are_drawn(tmp_path):
    selection_plots.ppc_heat_map(NAMES, MATRIX, tmp_path / "ppc.png", title="PPC")
    curves = {"koniq10k": ([0.8, 0.95, 0.99], [0.05, 0.02, 0.01])}
    selection_plots.stability_curves(curves, [0.01, 0.05, 0.2], tmp_path / "new" / "stability.png")
    selection_plots.ppc_curves({"kadid10k": [0.4, 0.5, 0.55]}, tmp_path / "course.png")
    for name in ("ppc.png", "new/stability.png", "course.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 400 and len(image.getcolors(1 << 24)) > 50


def test_the_table_holds_every_pair():
    lines = selection_plots.ppc_table(NAMES, MATRIX).splitlines()
    assert lines[0] == "|  | kadid10k | koniq10k |"
    assert lines[2:] == ["| kadid10k | 1.000 | -0.346 |", "| koniq10k | -0.346 | 1.000 |"]


@pytest.mark.parametrize("call, sentence", [
    (lambda path: selection_plots.ppc_heat_map(NAMES, MATRIX[:1], path), r"2 names but a matrix of shape \(1, 2\)"),
    (lambda path: selection_plots.stability_curves({}, [0.1], path), "no stability curves"),
    (lambda path: selection_plots.stability_curves({"a": ([1.0], [0.0])}, [0.1, 0.2], path), "Curve 'a' has 1 means"),
    (lambda path: selection_plots.ppc_curves({"a": []}, path), "no course of PPC"),
])  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        call(tmp_path / "no.png")
    assert not list(tmp_path.iterdir())
