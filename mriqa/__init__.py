"""mriqa: train vision-language models to score image quality, and score images with them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score, Scorer

__version__ = "0.1.0"
__all__ = ["Score", "Scorer", "__version__"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch and transformers take seconds."""
    if name in ("Score", "Scorer"):
        from mriqa.scoring import scorer

        return getattr(scorer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
