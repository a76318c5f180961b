"""The recipes as modules, and a small manifest to run them on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[3] / "recipes"
if str(RECIPES) not in sys.path:
    sys.path.insert(0, str(RECIPES))  # as Python does for the script it is asked to run


@pytest.fixture(scope="session")
def manifest(rows: list) -> Path:
    """The six images of noise, as a file."""
    from mriqa.manifest import write_manifest

    path = rows[0].image.parent / "manifest.jsonl"
    write_manifest(rows, path)
    return path
