"""Stop training at the first loss or gradient that isn't finite, before it can spoil the weights.

transformers' Trainer leaves such a loss out of its log and goes on, and one NaN gradient makes every weight NaN: the
run then saves checkpoints that hold nothing. Legend: B rows (completions) of a micro-batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from accelerate.utils import gather_object
from torch import nn

from mriqa.errors import SettingsError
from mriqa.policy.checkpoints import whole_checkpoints

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset
    from transformers import TrainingArguments

ROWS_FIELD = "image_rows"
"""Where a batch says, for each of its rows, which image of the training set it is about, (B,)."""

NAMED = 12  # images in a message
NO_DISTRIBUTION = re.compile("probability tensor contains")  # torch.multinomial's words


class NotFiniteError(SettingsError):
    """Training that diverged, as one sentence: what became NaN or infinite, when, on which images, what is left."""


class FiniteGuard:
    """Looks at losses, gradients and weights of a run; raises NotFiniteError.

    Every process looks at its losses and at the norm of the gradient once an update, before the optimiser steps, and
    all of them stop together. DeepSpeed steps within the backward pass, so there the update is seen once it is done,
    but still before it is saved. In fp16 an infinite gradient is a matter of course, which the loss scaler handles.

    Args:
        accelerator: of the run.
        args: its settings: learning_rate, fp16, and output_dir, whose checkpoints the message points to.
        images: its training set, whose column image_id names images.
    """

    def __init__(self, accelerator: Accelerator, args: TrainingArguments, images: Dataset) -> None:
        self._accelerator, self._args, self._images = accelerator, args, images
        self._losses: list[tuple[torch.Tensor, torch.Tensor | None]] = []  # of this update, with rows of the images

    def saw(self, loss: torch.Tensor, batch: Mapping[str, Any]) -> None:
        """Keep the loss of one micro-batch until its update."""
        self._losses.append((loss.detach(), batch.get(ROWS_FIELD)))

    def check_update(self, grad_norm: float | torch.Tensor | None, step: int) -> None:
        """Once the gradients of update number `step` are there, and before the weights follow them."""
        losses, self._losses = self._losses, []
        bad = [(float(loss), rows_B) for loss, rows_B in losses if not torch.isfinite(loss)]
        infinite_norm = not (self._args.fp16 or grad_norm is None or math.isfinite(grad_norm))
        found = self._of_all_processes(torch.tensor([len(bad), int(infinite_norm)])).any(dim=0)
        if found[0]:
            value = gather_object([value for value, _ in bad])[0]
            self.stop(f"The loss became {_in_words(value)} at step {step}", self._names(rows for _, rows in bad))
        if found[1]:
            norm = float("nan") if grad_norm is None else float(grad_norm)
            self.stop(f"The gradient became {_in_words(norm)} at step {step}", self._names(rows for _, rows in losses))

    @contextmanager
    def check_sampling(self, rows_B: torch.Tensor, step: int) -> Iterator[None]:
        """Around the sampling of answers to the images `rows_B`: a policy of NaN has no distribution to draw from."""
        try:
            yield
        except RuntimeError as error:
            if not NO_DISTRIBUTION.search(str(error)):
                raise
            images = [self._image_ids[row] for row in rows_B.tolist()]  # of this process: the others may be well
            self.stop(f"The model's answers became NaN at step {step}", images)

    def check_weights(self, model: nn.Module, step: int) -> None:
        """Finite gradients can still throw weights out of the range of their type: such weights are never saved."""
        broken = [name for name, weight in model.named_parameters() if not _local_part(weight).isfinite().all()]
        if self._of_all_processes(torch.tensor([len(broken)])).any():
            self.stop(f"The weights ({gather_object(broken)[0]}) became NaN or infinite by step {step}")

    def rows_of(self, image_ids: Iterable[object]) -> torch.Tensor:
        """The places of these images in the training set, (B,)."""
        return torch.tensor([self._row_of_image[str(image_id)] for image_id in image_ids])

    def stop(self, what: str, images: Iterable[str] = ()) -> NoReturn:
        """Raise NotFiniteError: what happened, on which images, which checkpoint is left, what to do."""
        named = list(dict.fromkeys(images))
        shown = ", ".join(named[:NAMED]) + (f" and {len(named) - NAMED} more" if len(named) > NAMED else "")
        where = f" on image{'s' if len(named) > 1 else ''} {shown}" if named else ""
        kept = whole_checkpoints(self._args.output_dir or ".")
        last = f"{kept[-1]} is the last good checkpoint" if kept else "there was no checkpoint yet"
        cure = f"lower the learning rate ({self._args.learning_rate:g})" + (" or look at these images" if named else "")
        raise NotFiniteError(
            f"{what}{where}: training stopped and nothing of this step was saved; {last}; {cure} and run again"
            f"{' with --resume_from_checkpoint auto' if kept else ''}."
        )

    def _of_all_processes(self, values: torch.Tensor) -> torch.Tensor:
        """`values` (n,) of every process, (processes, n)."""
        gathered: torch.Tensor = self._accelerator.gather(values[None].to(self._accelerator.device))
        return gathered

    def _names(self, rows: Iterable[torch.Tensor | None]) -> list[str]:
        """The ids of the images in these micro-batches of every process."""
        local = [self._image_ids[row] for rows_B in rows if rows_B is not None for row in rows_B.tolist()]
        return gather_object(local)

    @cached_property
    def _image_ids(self) -> list[str]:
        return list(map(str, self._images.with_format(None)["image_id"]))  # without decoding the images

    @cached_property
    def _row_of_image(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self._image_ids)}


def _local_part(weight: torch.Tensor) -> torch.Tensor:
    """What this process holds of a weight that FSDP or ZeRO-3 has sharded; the weight itself otherwise."""
    if hasattr(weight, "to_local"):
        local: torch.Tensor = weight.to_local()
        return local
    sharded: torch.Tensor = getattr(weight, "ds_tensor", weight)
    return sharded.detach()


def _in_words(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinite"
