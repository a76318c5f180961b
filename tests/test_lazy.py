"""Packages whose names are found on first use: every one they list, no other, and nothing heavy before that."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PACKAGES = ["mriqa.adapters", "mriqa.embedded", "mriqa.features"]


@pytest.mark.parametrize("name", PACKAGES)
def test_what_a_package_lists_is_there_and_nothing_else(name: str) -> None:
    package = importlib.import_module(name)
    assert all(hasattr(package, listed) for listed in package.__all__)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        _ = package.nothing


def test_importing_them_is_cheap() -> None:
    code = f"import sys, {', '.join(PACKAGES)}; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
