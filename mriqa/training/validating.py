"""Validation for the training recipes: the live model scores unseen images exactly as `mriqa score` would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mriqa.answers import AnswerFormat
from mriqa.errors import SettingsError
from mriqa.eval.metrics import plcc, srcc
from mriqa.manifest import RatedImage
from mriqa.policy.validation import Validation
from mriqa.scoring.readout_table import READOUT_NAMES
from mriqa.scoring.scorer import Scorer
from mriqa.training.config import RunArguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


def validation_on(
    rows: Sequence[RatedImage], answer_format: AnswerFormat, arguments: RunArguments
) -> Validation | None:
    """SRCC and PLCC on `rows`; None where there are none."""
    if not rows:
        return None
    options: dict[str, Any] = {"readout": arguments.val_readout, "batch_size": arguments.val_batch_size}
    if arguments.val_readout not in READOUT_NAMES:
        raise SettingsError(f"val_readout is one of {', '.join(READOUT_NAMES)}, not {arguments.val_readout!r}.")

    def score(model: PreTrainedModel, processor: ProcessorMixin, batch: Sequence[RatedImage]) -> list[float]:
        scorer = Scorer(model, processor, answer_format, **options)
        return [result.score for result in scorer.score([row.image for row in batch])]

    return Validation(rows, score, {"srcc": srcc, "plcc": plcc})
