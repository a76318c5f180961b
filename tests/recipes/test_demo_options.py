"""The demo's options: which set goes where, and what goes with which."""

from __future__ import annotations

from pathlib import Path

import demo
import pytest


def test_each_set_has_a_folder_of_its_own():
    assert demo.parse_arguments([]).set == "broad"
    assert demo.parse_arguments([]).output == Path("outputs/demo")
    assert demo.parse_arguments(["--set", "labelled"]).output == Path("outputs/demo_labelled")
    assert demo.parse_arguments(["--set", "labelled", "--output", "mine"]).output == Path("mine")


def test_distortions_are_chosen_of_the_labelled_set_alone(capsys):
    assert demo.parse_arguments(["--set", "labelled", "--distortions", "jpeg"]).distortions == ["jpeg"]
    with pytest.raises(SystemExit):
        demo.parse_arguments(["--distortions", "jpeg"])
    assert "add --set labelled" in capsys.readouterr().err


@pytest.mark.parametrize("name, other", [("broad", "dataset.json"), ("labelled", "settings.json")])
def test_a_demo_of_the_other_set_is_neither_mixed_up_nor_touched(tmp_path, capsys, name, other):
    data = tmp_path / "embedded" / "data"
    data.mkdir(parents=True)
    (data / other).write_text("{}")
    assert demo.main(["--set", name, "--output", str(tmp_path)]) == 2
    assert "demo of the other set" in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == [tmp_path / "embedded", data, data / other]
