"""Scoring images with a vision-language model: the Scorer, its readouts, and whole folders to a file."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score, Scorer

__all__ = ["Score", "Scorer"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes seconds."""
    if name in __all__:
        from mriqa.scoring import scorer

        return getattr(scorer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
