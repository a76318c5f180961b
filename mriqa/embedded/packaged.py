"""The model that comes with the package and scores where none is named; `recipes/default_model.py` makes it."""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = "default"


def default_model_folder() -> Path:
    """The folder of its weights inside the package."""
    return Path(__file__).with_name("default")
