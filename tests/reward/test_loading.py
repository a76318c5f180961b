"""Loading rewards: names, options, and a user's own file."""

import pytest

from mriqa.reward import load

OWN = """
from dataclasses import dataclass

@dataclass
class Weights:
    bonus: float = 0.0

def shout(completions, bonus=0.0, **_):
    return [float(c.isupper()) + bonus for c in completions]

def no_columns(completions):
    return [0.0] * len(completions)
"""


@pytest.mark.parametrize(
    "name,options,message",
    [
        ("margn", {}, "did you mean 'margin'.*ranking, regression, format"),
        ("zzz", {}, "choose one of: margin"),
        ("margin", {"scal": "unit"}, "did you mean 'scale'"),
        ("margin", {"parser": None}, "Unknown option of reward 'margin' 'parser'"),
        ("margin", {"scale": "sigm"}, "did you mean 'sigma'"),
        ("regression", {"form": "smoth"}, "did you mean 'smooth'"),
        ("regression", {"tau": 0.0}, "'tau' must be a finite number above 0"),
        ("regression", {"threshold": float("nan")}, "'threshold' must be"),
        ("no/such/file.py:reward", {}, "there is no file"),
    ],
)
def test_wrong_names_and_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        load(name, **options)


def test_own_function(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    reward = load(f"{path}:shout")
    assert reward(completions=["AH", "oh"], mos=[1, 2]) == [1.0, 0.0]
    bound = load(f"{path}:shout", bonus=0.5)
    assert bound(completions=["AH", "oh"], mos=[1, 2]) == [1.5, 0.5]
    assert bound.__name__ == "shout"


@pytest.mark.parametrize(
    "spec,options,message",
    [
        ("own.py", {}, "names no function"),
        ("own.py:", {}, "names no function"),
        ("own.py:shuot", {}, "did you mean 'shout'"),
        ("own.py:no_columns", {}, r"must accept \*\*kwargs"),
        ("own.py:shout", {"bonnus": 1}, "did you mean 'bonus'"),
    ],
)
def test_own_function_mistakes(spec, options, message, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load(spec, **options)


def test_an_error_in_the_own_file_is_shown_as_it_is(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load(f"{tmp_path / 'broken.py'}:reward")
