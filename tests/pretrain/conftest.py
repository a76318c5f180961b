"""Exact small cases that were computed elsewhere; tests that need them are skipped where they are not at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def vectors(repository: Path) -> dict[str, Any]:
    path = repository.parent / "shared" / "facts" / "shamisa_vectors.json"
    if not path.exists():
        pytest.skip("../shared/facts/shamisa_vectors.json is not beside this checkout")
    return json.loads(path.read_text())
