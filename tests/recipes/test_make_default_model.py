"""The recipe of the packaged model, from photographs to the card, on a few pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import default_model
import pytest

from mriqa import Scorer
from mriqa.broad import BroadSettings
from mriqa.embedded.contents import EmbeddedDataError
from mriqa.embedded.packaged import HELD_OUT_FILE
from mriqa.embedded.trained_trunk import TrunkSettings
from mriqa.manifest import read_manifest


def test_too_few_contents_for_intervals_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedDataError, match=r"60 validation pictures of 10 contents, .* 1000 of 5: .*--photos"):
        default_model.run(default_model.parse_arguments(["--output", str(tmp_path / "out")]))
    assert not (tmp_path / "out").exists()


def test_options_left_out_are_the_settings_defaults() -> None:
    options, data = default_model.parse_arguments([]), BroadSettings()
    asked = (options.train_images, options.val_images, options.test_images, options.seed, options.trunk_steps)
    assert asked == (data.train_images, data.val_images, data.test_images, data.seed, TrunkSettings().steps)


@pytest.mark.skipif(not os.environ.get("MRIQA_LONG_TESTS"), reason="takes minutes: set MRIQA_LONG_TESTS=1")
def test_the_recipe_makes_a_model_with_a_card(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    numbers = {"train_images": 120, "val_images": 80, "test_images": 60, "trunk_steps": 2, "max_steps": 2}
    options = [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    options += ["--photos", str(shared_data("photos")), "--output", str(tmp_path)]
    folder = default_model.run(default_model.parse_arguments(options))
    assert 1 <= Scorer.from_pretrained(folder).score([next((tmp_path / "data" / "images").iterdir())])[0].score <= 5
    assert "(chosen)" in (folder / "README.md").read_text()
    trained_on = {row.content for row in read_manifest(tmp_path / "train.jsonl")}
    held_out = json.loads((folder / HELD_OUT_FILE).read_text())
    assert len(held_out) > 10 and not trained_on & set(held_out)
