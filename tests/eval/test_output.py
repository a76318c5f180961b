"""Tables, plots and files: what is shown, and that a failing write leaves the old file."""

import math

import numpy as np
import pytest
from PIL import Image

from mriqa.eval import markdown_table, plots, print_table, write_markdown

RESULTS = {
    "warm start": {"n": 100, "srcc": 0.84, "plcc": math.nan, "srcc_ci": [0.8, 0.88]},
    "a|b": {"n": 100, "srcc": [0.86, 0.88], "parse_rate": 0.985},
}


def test_markdown():
    lines = markdown_table(RESULTS).splitlines()
    assert lines[0] == "|  | n | parsed | SRCC | PLCC |"
    assert lines[2] == "| warm start | 100 | – | 0.840 .800–.880 | – |"
    assert lines[3] == "| a\\|b | 100 | 98.5 % | 0.870 ± 0.014 | – |"


def test_print_table_and_write_markdown(tmp_path, capsys):
    print_table(RESULTS, title="[red]Unseen contents")
    out = capsys.readouterr().out
    assert "[red]Unseen contents" in out and "0.870 ± 0.014" in out
    write_markdown(RESULTS, tmp_path / "new" / "table.md", title="Results")
    assert (tmp_path / "new" / "table.md").read_text(encoding="utf-8").startswith("# Results\n\n|  | n |")


def test_scatter(tmp_path):
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, 60)
    pred = mos + rng.normal(0, 0.3, 60)
    pred[:3] = math.nan
    plots.scatter(pred, mos, tmp_path / "one.png", title="Unseen contents")
    plots.scatter(pred, mos, tmp_path / "many.png", hue=np.arange(60) % 11)
    with Image.open(tmp_path / "one.png") as image:
        assert min(image.size) > 500
    with pytest.raises(ValueError, match="2 predictions but 3 human scores"):
        plots.scatter([1.0, 2.0], [1.0, 2.0, 3.0], tmp_path / "no.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["many.png", "one.png"]


def test_training_curve_reads_a_log_history(tmp_path):
    log = [{"step": s, "reward": 0.5 + s / 200, "rewards/format/mean": 1.0, "loss": math.nan} for s in range(1, 60)]
    log += [{"step": 50, "eval_srcc": 0.8, "eval_runtime": 3.0}, {"train_runtime": 9.0}]
    plots.training_curve(log, tmp_path / "curve.png", title="A run")
    plots.training_curve({"reward": [0.1, 0.2], "eval_srcc": ([0, 10, 20], [0.7, 0.8, 0.9])}, tmp_path / "two.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="Nothing to plot.*logged: nothing"):
        plots.training_curve([], tmp_path / "none.png")


def test_the_comparison_does_not_blow_up_a_thousandth(tmp_path, monkeypatch):
    widths = []
    monkeypatch.setattr(plots, "_save", lambda figure, _: widths.extend(np.ptp(a.get_xlim()) for a in figure.axes))
    results = {"margin": {"srcc": [0.457], "plcc": [0.42]}, "ranking": {"srcc": [0.458], "plcc": [0.62]}}
    plots.reward_comparison(results, tmp_path / "c.png")
    assert widths[0] == pytest.approx(0.05) and widths[1] > 0.2


def test_reward_comparison(tmp_path):
    results = {"margin": {"srcc": [0.86, 0.87], "plcc": [0.9, 0.9]}, "ranking": {"srcc": [0.85], "plcc": [0.89]}}
    plots.reward_comparison(results, tmp_path / "c.png", baseline={"srcc": 0.84, "plcc": 0.88})
    assert (tmp_path / "c.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="'ranking' needs at least one value"):
        plots.reward_comparison({"ranking": {"srcc": [0.8]}}, tmp_path / "no.png")
