"""Every exception that the project defines is a refusal for people, or says why it never reaches one."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest

from mriqa.errors import UserError
from mriqa.files import WriteError

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("mriqa", "reward", "eval", "recipes")


def class_statements() -> dict[str, ast.ClassDef]:
    """All classes of the project by name."""
    found: dict[str, ast.ClassDef] = {}
    for room in ROOMS:
        for path in (REPOSITORY / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    assert node.name not in found or not is_exception(node.name, found), f"two classes {node.name}"
                    found[node.name] = node
    return found


def bases(name: str, classes: dict[str, ast.ClassDef]) -> set[str]:
    """The names of a class and of all it derives from, as far as the project defines them."""
    node = classes.get(name)
    direct = [ast.unparse(base).rpartition(".")[2] for base in node.bases] if node else []
    return {name}.union(*(bases(base, classes) for base in direct))


def is_exception(name: str, classes: dict[str, ast.ClassDef]) -> bool:
    kinds = [getattr(builtins, base, None) for base in bases(name, classes)]
    return any(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)


def test_every_exception_is_for_people_or_says_why_not():
    classes = class_statements()
    exceptions = {name for name in classes if is_exception(name, classes)}
    assert {"UserError", "ManifestError", "RowError", "VideoError", "NotFiniteError"} <= exceptions
    unexplained = {
        name
        for name in exceptions
        if "UserError" not in bases(name, classes)
        and "Never reaches a person" not in (ast.get_docstring(classes[name]) or "")
    }
    assert not unexplained, (
        "derive them from mriqa.errors.UserError, or say in their docstring why they never reach one"
    )


def test_a_write_error_is_a_sentence_and_an_os_error():
    error = WriteError(28, "No space left on device", "/full/scores.json")
    assert isinstance(error, UserError) and (error.errno, error.filename) == (28, "/full/scores.json")
    sentence = "/full/scores.json cannot be written (No space left on device): see to that, or name another place."
    assert str(error) == sentence


@pytest.mark.parametrize(
    "refused",
    [
        lambda: __import__("mriqa.answers").answers.load_format("absent"),
        lambda: __import__("mriqa.views").views.ViewSettings.from_dict({"zoom": 2}),
        lambda: __import__("mriqa.manifest").manifest.resolve_scale("koniq11k"),
        lambda: __import__("mriqa.reward").reward.load("margins"),
        lambda: __import__("mriqa.reward").reward.load("regression", tau=0),
        lambda: __import__("mriqa.reward").reward.load("absent.py:function"),
        lambda: __import__("mriqa.embedded").embedded.DatasetSettings(distortions=("absent",)),
        lambda: __import__("mriqa.serving.limits").serving.limits.Limits(images=0),
        lambda: __import__("mriqa.datasets.splits").datasets.splits.split_by_content([], [0.5, 0.5]),
    ],
)
def test_what_a_person_chose_wrongly_is_both_a_user_error_and_a_value_error(refused):
    with pytest.raises(UserError) as caught:
        refused()
    assert isinstance(caught.value, ValueError) and str(caught.value)[-1] in ".?"
