"""The recipe of the packaged model, from photographs to the card, on a few pictures."""

from __future__ import annotations

import os
from pathlib import Path

import default_model
import pytest

from mriqa import Scorer


@pytest.mark.skipif(not os.environ.get("MRIQA_LONG_TESTS"), reason="takes minutes: set MRIQA_LONG_TESTS=1")
def test_the_recipe_makes_a_model_with_a_card(tmp_path: Path) -> None:
    numbers = {"train_images": 120, "val_images": 80, "test_images": 60, "trunk_steps": 2, "max_steps": 2}
    options = [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    folder = default_model.run(default_model.parse_arguments([*options, "--output", str(tmp_path)]))
    assert 1 <= Scorer.from_pretrained(folder).score([next((tmp_path / "data" / "images").iterdir())])[0].score <= 5
    assert "(chosen)" in (folder / "README.md").read_text()
