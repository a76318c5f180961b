"""The recipes as modules."""

from __future__ import annotations

import sys
from pathlib import Path

RECIPES = Path(__file__).parents[3] / "recipes"
if str(RECIPES) not in sys.path:
    sys.path.insert(0, str(RECIPES))  # as Python does for the script it is asked to run
