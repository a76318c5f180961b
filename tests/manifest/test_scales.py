"""Scores to 1..5 and back; what manifests make of scales is in test_manifest.py."""

from __future__ import annotations

import math
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from mriqa.manifest.scales import Scale


@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e3), st.floats(0, 1), st.sampled_from(["higher", "lower"]))
def test_scores_come_back_to_their_scale(
    low: float, width: float, share: float, direction: Literal["higher", "lower"]
) -> None:
    scale = Scale(low, low + width, direction)
    value = min(low + share * width, scale.high)
    assert math.isclose(scale.from_mos(scale.to_mos(value)), value, rel_tol=1e-9, abs_tol=1e-9)
    assert Scale().from_mos(3.3) == 3.3
