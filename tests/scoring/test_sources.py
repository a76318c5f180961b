"""Files, folders and patterns to lists of images."""

from __future__ import annotations

import pytest

from mriqa.scoring.sources import SourceError, expand_sources


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "sub/deep/c.webp", "notes.txt", ".hidden.png", ".cache/d.png", "odd[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(folder, *sources):
    return [str(path.relative_to(folder)) for path in expand_sources([folder / source for source in sources])]


def test_a_folder_is_every_image_below_it_sorted(folder):
    assert names(folder, "") == ["a.JPG", "b.png", "odd[1].png", "sub/deep/c.webp"]


def test_each_file_once_however_it_is_named(folder):
    assert names(folder, "b.png", "sub/../b.png", "*.png", "") == ["a.JPG", "b.png", "odd[1].png", "sub/deep/c.webp"]


def test_patterns_files_of_any_suffix_and_names_with_brackets(folder):
    assert names(folder, "**/*.webp") == ["sub/deep/c.webp"]
    assert names(folder, "notes.txt", "odd[1].png") == ["notes.txt", "odd[1].png"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [("no.png", "no file or folder"), ("*.gif", "matches nothing"), ("empty", "holds no image files")],
)
def test_a_source_that_names_nothing_is_an_error(folder, source, sentence):
    with pytest.raises(SourceError, match=sentence):
        expand_sources([folder / "b.png", folder / source])
