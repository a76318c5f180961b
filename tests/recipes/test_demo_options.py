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
