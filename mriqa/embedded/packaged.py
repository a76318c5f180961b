"""The model that comes with the package and scores where none is named; `recipes/default_model.py` makes it."""

from __future__ import annotations

import json
from pathlib import Path

DEFAULT_MODEL = "default"
HELD_OUT_FILE = "held_out_contents.json"


def default_model_folder() -> Path:
    """The folder of its weights inside the package."""
    return Path(__file__).with_name("default")


def held_out_contents() -> tuple[str, ...]:
    """Names of the contents that the model was not trained on, out of those that its recipe had."""
    return tuple(json.loads((default_model_folder() / HELD_OUT_FILE).read_text(encoding="utf-8")))
