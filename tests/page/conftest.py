"""A real Scorer whose model is replaced by a rule that a test can work out: brightness is quality."""

from __future__ import annotations

import pytest
from brightness import Brightness


@pytest.fixture(scope="session")
def scorer():
    import mriqa

    return mriqa.Scorer(None, None, backend=Brightness(), distributions=True)
