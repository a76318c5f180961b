"""Progress without a terminal: a line now and then, for whoever reads a log, and none of short work."""

import pytest

from mriqa import progress


@pytest.mark.parametrize(("seconds", "shown", "lines"), [(0.0, True, 2), (60.0, True, 0), (0.0, False, 0)])
def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys, seconds, shown, lines):
    monkeypatch.setattr(progress, "NOTE_EVERY", seconds)
    with progress.progress_bar(2000, 1200, shown=shown) as bar:
        bar.advance()
        bar.move_to(1500)
    expected = ["Scoring: 1,201 of 2,000 images", "Scoring: 1,500 of 2,000 images"]
    assert capsys.readouterr().err.splitlines() == expected[:lines]
