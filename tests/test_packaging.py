"""The wheel holds every package and data file, the pins cover the requirements, and the Makefile refuses clearly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = {"mriqa": "mriqa", "reward": "mriqa/reward", "eval": "mriqa/eval"}  # in the repository -> in the wheel
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The real wheel, built by the real backend from a copy of the sources (a build writes beside them)."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    copy.mkdir()
    for name in [*SOURCES, "pyproject.toml", "README.md", "LICENSE"]:
        subprocess.run(["cp", "-R", str(REPOSITORY / name), str(copy)], check=True)
    backend = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    built = subprocess.run([sys.executable, "-c", backend, str(folder)], cwd=copy, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def distributed_files() -> set[str]:
    """What a wheel has to hold: every module and data file of the three source folders."""
    files = set()
    for source, target in SOURCES.items():
        for path in (REPOSITORY / source).rglob("*"):
            if path.suffix in {".py", ".css", ".csv", ".yaml"} or (path.parent.name == "default" and path.is_file()):
                files.add(f"{target}/{path.relative_to(REPOSITORY / source).as_posix()}")
    return files


def test_every_package_on_disk_is_listed(project):
    packages = {str(Path(name).parent).replace("/", ".") for name in distributed_files() if name.endswith(".py")}
    assert packages == set(project["tool"]["setuptools"]["packages"]), "see [tool.setuptools] in pyproject.toml"


def test_wheel_holds_everything_and_imports(wheel, tmp_path):
    names = set(wheel.namelist())
    assert {name for name in names if ".dist-info/" not in name} == distributed_files()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    assert "License-Expression: Apache-2.0" in wheel.read(metadata).decode()

    wheel.extractall(tmp_path / "site")
    program = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "Editable" not in str(finder)]
sys.path.insert(0, sys.argv[1])
import mriqa, mriqa.eval.metrics, mriqa.reward
for module in (mriqa, mriqa.eval.metrics, mriqa.reward):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
assert mriqa.eval.metrics.srcc([1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 3.0, 4.0]) == 0.8
assert len(mriqa.reward.load("margin")(
    completions=[[{"role": "assistant", "content": f"<answer>{score}</answer>"}] for score in (2, 3, 4, 5)],
    mos=[2.0, 2.0, 4.0, 4.0], std=[1.0] * 4, image_id=["a", "a", "b", "b"],
)) == 4
"""
    loaded = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site")], cwd=tmp_path, capture_output=True, text=True
    )
    assert loaded.returncode == 0, loaded.stderr


def test_editable_install_gives_all_three_names(tmp_path):
    """From another folder, so that the checkout itself is not on the path."""
    program = "import mriqa.eval, mriqa.reward; print(mriqa.reward.__file__, mriqa.eval.__file__, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert [Path(line).name for line in loaded.stdout.splitlines()] == ["__init__.py"] * 2


def test_import_is_light():
    """`mriqa --help` and a script's first line must not wait for torch."""
    program = "import sys, mriqa; sys.exit(' '.join({'torch', 'transformers', 'trl'} & set(sys.modules)) or None)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def requirements(project: dict) -> list[Requirement]:
    extras = project["project"]["optional-dependencies"].values()
    listed = [*project["project"]["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in listed if not line.startswith("mriqa[")]


def constraints(python: str) -> dict[str, str]:
    """Package -> its one exact version on that Python."""
    pins: dict[str, str] = {}
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            assert pin.name not in pins, f"{pin.name} has two versions for Python {python}"
            pins[pin.name] = re.fullmatch(r"==([^,*]+)", str(pin.specifier))[1]
    return pins


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_within_its_range(project, python):
    assert python in SpecifierSet(project["project"]["requires-python"])
    pins = constraints(python)
    for requirement in requirements(project):
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue  # not wanted by this Python
        name = requirement.name.lower()
        assert name in pins, f"{name} is in pyproject.toml and not in constraints.txt, Python {python}"
        assert pins[name] in requirement.specifier


def test_torch_is_pinned_alike_everywhere():
    assert constraints("3.13")["torch"] == "2.13.0"
    assert "torch==2.13.0\n" in (REPOSITORY / "Makefile").read_text()


@pytest.fixture
def make(tmp_path):
    """A function that runs make on a copy of the files that set-up needs, with stand-ins for Python."""
    for name in ["Makefile", "pyproject.toml", "constraints.txt"]:
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        return subprocess.run(
            ["make", "--no-print-directory", *arguments], cwd=tmp_path, capture_output=True, text=True, env=environment
        )

    return run


def stand_in(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_make_refuses_another_python_in_one_sentence(make, tmp_path):
    missing = make("test", "PYTHON=python3.99")
    assert missing.returncode != 0 and "python3.99 was not found" in missing.stderr
    old = stand_in(tmp_path / "old", f"""exec {sys.executable} -c "import sys; sys.version_info = (3, 9, 1); $2" """)
    refused = make("test", f"PYTHON={old}")
    assert refused.returncode != 0 and "is Python 3.9, but this project needs 3.10 to 3.13" in refused.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_installs_once_and_recovers_from_an_interruption(make, tmp_path):
    """A stand-in Python logs what it is asked, and fails at the second `pip install` while a file `broken` is there."""
    log = tmp_path / "log"
    python = stand_in(
        tmp_path / "python",
        f"""echo "$*" >> {log}
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *--editable*) test ! -e broken ;;
esac""",
    )
    steps = ["-m venv", "torch==2.13.0", "--editable .[dev]", "-m mriqa.torchvision_hook", "recipes/demo.py"]

    def asked() -> list[str]:
        lines = [line for line in log.read_text().splitlines() if not line.startswith("-c")]
        log.unlink()
        return [next(step for step in steps if step in line) for line in lines]

    (tmp_path / "broken").touch()
    assert make("demo", f"PYTHON={python}").returncode != 0
    assert asked() == steps[:3]
    (tmp_path / ".venv" / "half-written").touch()
    (tmp_path / "broken").unlink()
    assert make("demo", f"PYTHON={python}").returncode == 0
    assert asked() == steps
    assert not (tmp_path / ".venv" / "half-written").exists()

    # The second run reuses the environment, a change of the pins renews it, photographs are handed on.
    assert make("demo", f"PYTHON={python}", "PHOTOS=my photos").returncode == 0
    assert log.read_text().splitlines() == ["recipes/demo.py --photos my photos"]
    log.unlink()
    assert make("demo", f"PYTHON={python}", "SET=labelled").returncode == 0
    assert log.read_text().splitlines() == ["recipes/demo.py --set labelled"]
    log.unlink()
    later = (tmp_path / ".venv" / ".ready").stat().st_mtime + 10
    os.utime(tmp_path / "constraints.txt", (later, later))
    assert make("demo", f"PYTHON={python}").returncode == 0
    assert asked() == steps
