"""The sheet of examples: every picture whole and in its row, however many and of whatever shape."""

import numpy as np
import pytest
from PIL import Image

from mriqa.eval.example_sheet import Example, Section, example_sheet

RED, BLUE = (250, 0, 10), (10, 0, 250)


def examples(count, size, colour):
    return [Example(Image.new("RGB", size, colour), [("1.0", "[2.0]")]) for _ in range(count)]


def box(pixels, colour):
    """First row, last row, first column, last column that hold a colour."""
    rows, columns = np.nonzero((pixels == colour).all(axis=2))
    return rows.min(), rows.max(), columns.min(), columns.max()


@pytest.mark.parametrize(("size", "other"), [((300, 200), (300, 200)), ((90, 400), (800, 100)), ((1, 1), (3000, 2000))])
def test_pictures_keep_their_shape_and_stand_in_their_section(tmp_path, size, other):
    sections = [Section("(a)", "", examples(1, size, RED)), Section("(b)", "", examples(1, other, BLUE))]
    example_sheet(sections, tmp_path / "new" / "sheet.png", "title", "words")
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    above, below = box(pixels, RED), box(pixels, BLUE)
    assert above[1] < below[0]
    for (top, bottom, left, right), (width, height) in ((above, size), (below, other)):
        # antialiased edges under the frame belong to the picture too
        assert abs((right - left + 3) / (bottom - top + 3) - width / height) < 0.05 * width / height
        assert top > 0 and left > 0 and bottom < pixels.shape[0] - 1 and right < pixels.shape[1] - 1


def test_four_stand_in_a_row_and_empty_sections_are_left_out(tmp_path):
    example_sheet([Section("(a)", "", examples(6, (30, 20), RED)), Section("(b)", "")], tmp_path / "sheet.png", "", "")
    with Image.open(tmp_path / "sheet.png") as sheet:
        red = (np.asarray(sheet.convert("RGB")) == RED).all(axis=2)
    starts = [int((np.diff(red[row].astype(int)) == 1).sum()) for row in range(len(red))]
    assert set(starts) == {0, 2, 4}
    with pytest.raises(ValueError, match="no examples"):
        example_sheet([Section("(a)", "")], tmp_path / "none.png", "", "")
    assert not (tmp_path / "none.png").exists()
