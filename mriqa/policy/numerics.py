"""Stop training at the first loss or gradient that isn't finite, before it can spoil the weights.

transformers' Trainer leaves such a loss out of its log and goes on, and one NaN gradient makes every weight NaN: the
run then saves checkpoints that hold nothing. Legend: B rows (completions) of a micro-batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NoReturn

import torch
from accelerate.utils import gather_object

from mriqa.policy.checkpoints import whole_checkpoints
from mriqa.policy.checks import SettingsError

ROWS_FIELD = "image_rows"
NAMED = 12  # images in a message
NO_DISTRIBUTION = re.compile("probability tensor contains")  # torch.multinomial's words


class NotFiniteError(SettingsError):
    """Training that diverged, as one sentence: what became NaN or infinite, when, on which images, what is left."""


class FiniteUpdates:
    """Mixin for `transformers.Trainer`, before the mixins that save; where a rollout is sampled it names the images.

    Every process looks at its losses and at the norm of the gradient once an update, before the optimiser steps, and
    all of them stop together. DeepSpeed steps within the backward pass, so there the update is seen once it is done,
    but still before it is saved. In fp16 an infinite gradient is a matter of course, which the loss scaler handles.
    """

    _losses: list[tuple[torch.Tensor, torch.Tensor | None]]  # of this update, with the images' rows in the training set

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._losses = []
        super().__init__(*args, **kwargs)

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        output = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if model.training:
            loss = output[0] if isinstance(output, tuple) else output
            self._losses.append((loss.detach(), inputs.get(ROWS_FIELD)))
        return output

    def _get_grad_norm(self: Any, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        losses, self._losses = self._losses, []
        bad = [(float(loss), rows) for loss, rows in losses if not torch.isfinite(loss)]
        infinite_norm = not (self.args.fp16 or norm is None or math.isfinite(norm))
        found = self._everyones(torch.tensor([len(bad), int(infinite_norm)])).any(dim=0)
        step = self.state.global_step + 1
        if found[0]:
            value = gather_object([value for value, _ in bad])[0]
            self._stop(f"The loss became {_in_words(value)} at step {step}", self._names(rows for _, rows in bad))
        if found[1]:
            self._stop(f"The gradient became {_in_words(norm)} at step {step}", self._names(rows for _, rows in losses))
        return norm

    def _generate_and_score_completions(self: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """The rollout with, for each of its rows, the place of its image in the training set."""
        rows_B = torch.tensor([self._row_of_image[str(row["image_id"])] for row in inputs])
        try:
            rollout = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        except RuntimeError as error:
            if not NO_DISTRIBUTION.search(str(error)):
                raise
            images = [self._image_ids[row] for row in rows_B.tolist()]  # of this process: the others may be well
            self._stop(f"The model's answers became NaN at step {self.state.global_step + 1}", images)
        return {**rollout, ROWS_FIELD: rows_B.to(rollout["prompt_ids"].device)}

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        self._check_weights()
        super()._save_checkpoint(model, trial)  # type: ignore[misc]

    def save_final_model(self: Any, folder: Any) -> Any:
        self._check_weights()
        return super().save_final_model(folder)  # type: ignore[misc]

    def _check_weights(self: Any) -> None:
        """Finite gradients can still throw weights out of the range of their type: such weights are never saved."""
        broken = [name for name, weight in self.model.named_parameters() if not _own_part(weight).isfinite().all()]
        if self._everyones(torch.tensor([len(broken)])).any():
            name = gather_object(broken)[0]
            self._stop(f"The weights ({name}) became NaN or infinite by step {self.state.global_step}", [])

    def _everyones(self: Any, values: torch.Tensor) -> torch.Tensor:
        """`values` (n,) of every process, (processes, n)."""
        return self.accelerator.gather(values[None].to(self.accelerator.device))

    def _names(self: Any, rows: Iterable[torch.Tensor | None]) -> list[str]:
        """The ids of the images in these micro-batches of every process."""
        own = [self._image_ids[row] for rows_B in rows if rows_B is not None for row in rows_B.tolist()]
        return gather_object(own)

    def _stop(self: Any, what: str, images: list[str]) -> NoReturn:
        named = list(dict.fromkeys(images))
        shown = ", ".join(named[:NAMED]) + (f" and {len(named) - NAMED} more" if len(named) > NAMED else "")
        where = f" on image{'s' if len(named) > 1 else ''} {shown}" if named else ""
        kept = whole_checkpoints(self.args.output_dir)
        last = f"{kept[-1]} is the last good checkpoint" if kept else "there was no checkpoint yet"
        cure = f"lower the learning rate ({self.args.learning_rate:g})" + (" or look at these images" if named else "")
        raise NotFiniteError(
            f"{what}{where}: training stopped and nothing of this step was saved; {last}; {cure} and run again"
            f"{' with --resume_from_checkpoint auto' if kept else ''}."
        )

    @cached_property
    def _image_ids(self: Any) -> list[str]:
        return list(map(str, self.train_dataset.with_format(None)["image_id"]))  # without decoding the images

    @cached_property
    def _row_of_image(self: Any) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self._image_ids)}


def _own_part(weight: torch.Tensor) -> torch.Tensor:
    """What this process holds of a weight that FSDP or ZeRO-3 has sharded; the weight itself otherwise."""
    if hasattr(weight, "to_local"):
        return weight.to_local()
    return getattr(weight, "ds_tensor", weight).detach()


def _in_words(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinite"
