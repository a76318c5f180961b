"""A second opinion beside a model's answer: a head that was trained with the model and reads its features.

Legend: N prompts, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mriqa.errors import UserError
from mriqa.models import ModelError

if TYPE_CHECKING:
    import torch


class Head(Protocol):
    """Scores images by a feature of each one's prompt; `pooling` names it (`mriqa.shared_prefix.prompt_features`)."""

    @property
    def pooling(self) -> str: ...

    def scores(self, features_ND: torch.Tensor) -> torch.Tensor:
        """Scores (N,) in 1..5."""
        ...


def load_head(model_dir: str | Path, name: str) -> Head:
    """The head `name` in a saved model's folder. Raises ModelError where there is none, or a broken one."""
    # The one place where scoring knows another room: a user asks for a saved head by its name, and nobody above hands
    # its class in. Imported only when a head is asked for.
    from mriqa.heads.neighbour_head import HeadScorer

    folder = Path(model_dir) / name
    if Path(name).name != name or not folder.is_dir():
        raise ModelError(
            f'{model_dir} has no head "{name}" to score with: train one beside the model (--aux {name}), or ask for '
            "no head."
        )
    try:
        return HeadScorer.load(folder)
    except UserError as error:
        raise ModelError(str(error)) from error
