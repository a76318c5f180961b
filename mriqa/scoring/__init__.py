"""Scoring images with a vision-language model: the Scorer, its readouts, and whole folders to a file."""

from typing import TYPE_CHECKING

from mriqa.lazy import lazily

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score, Scorer

__all__ = ["Score", "Scorer"]
__getattr__ = lazily(__name__, {"Score": "scorer", "Scorer": "scorer"})
