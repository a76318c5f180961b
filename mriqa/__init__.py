"""mriqa: train vision-language models to score image quality, and score images with them."""

from typing import TYPE_CHECKING

from mriqa.lazy import lazily

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score, Scorer

__version__ = "0.1.0"
__all__ = ["Score", "Scorer", "__version__"]
__getattr__ = lazily(__name__, {"Score": "scoring.scorer", "Scorer": "scoring.scorer"})
