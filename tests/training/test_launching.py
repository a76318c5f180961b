"""A recipe's command line: a YAML file and options become a dataclass, and refusals are one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import distributed

from mriqa.errors import UserError
from mriqa.training.launching import exit_code, parse


@dataclass
class Options:
    rate: float = 0.1
    name: str = "nobody"


def parsed(*argv: str) -> Options:
    (options,) = parse((Options,), "A recipe.", argv)
    return options


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text("rate: 0.5\nname: yaml\n")
    return file


def test_the_command_line_overrides_the_file(config: Path) -> None:
    assert parsed() == Options(0.1, "nobody")
    assert parsed("--config", str(config)) == Options(0.5, "yaml")
    for argv in (["--config", str(config), "--rate", "2"], ["--rate=2", f"--config={config}"]):
        assert parsed(*argv) == Options(2.0, "yaml")


@pytest.mark.parametrize("content, sentence", [
    ("ratte: 1", "gives an option 'ratte', which this recipe does not have. Did you mean 'rate'?"),
    ("- rate", "has to hold options, each as NAME: VALUE"),
    ("", "has to hold options, each as NAME: VALUE"),
    ("rate: [1", "mine.yaml cannot be read"),
])  # fmt: skip
def test_a_file_that_cannot_be_right_is_refused(config: Path, content: str, sentence: str) -> None:
    config.write_text(content)
    with pytest.raises(UserError) as caught:
        parsed("--config", str(config))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_option_are_refused() -> None:
    with pytest.raises(UserError, match=r"The configuration none.yaml cannot be read \(.*No such file"):
        parsed("--config", "none.yaml")
    with pytest.raises(UserError, match="--speed"):
        parsed("--speed", "3")


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise UserError("No manifest: give one.")

    assert exit_code(lambda: None) == 0
    assert exit_code(refuse) == 2
    assert capsys.readouterr().err == "error: No manifest: give one.\n"
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        exit_code(lambda: 1 / 0)


def test_a_process_group_does_not_outlive_the_run(tmp_path: Path) -> None:
    def run() -> None:
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)

    assert exit_code(run) == 0 and not distributed.is_initialized()
    assert exit_code(lambda: None) == 0
