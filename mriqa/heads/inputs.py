"""What every head asks of what it is given: embeddings, ranks, numbers, and the JSON file that describes a saved one.

Each refusal is one sentence that names the thing and the cure.

Legend: B batch, D embedding width, R numbers in a rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mriqa.errors import UserError


class HeadError(UserError, ValueError):
    """A head was given something it cannot work with."""


def check_positive(what: str, given: float) -> None:
    """HeadError unless `given` is a finite number above 0."""
    if not (math.isfinite(given) and given > 0):
        raise HeadError(f"{what} must be a finite number above 0, not {given!r}.")


def as_embeddings(embeddings: Tensor) -> Tensor:
    """Embeddings (B, D) in at least float32; HeadError where the shape is another or a value is not finite."""
    if embeddings.ndim != 2:
        raise HeadError(f"Embeddings must have the shape (B, D), one row each, not {tuple(embeddings.shape)}.")
    broken = int((~torch.isfinite(embeddings)).any(dim=1).sum())
    if broken:
        raise HeadError(
            f"{broken} of {len(embeddings)} embeddings hold NaN or infinity; look at the encoder, or leave them out."
        )
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def as_ranks(ranks: Tensor, count: int, device: torch.device | None = None) -> Tensor:
    """Ranks as (B, R), R = 1 for scalars, halves as float32; HeadError for a wrong number of them or NaN."""
    ranks = torch.as_tensor(ranks, device=device)
    if ranks.ndim not in (1, 2) or len(ranks) != count:
        raise HeadError(f"There are {count} embeddings but ranks of shape {tuple(ranks.shape)}; give one rank to each.")
    if not torch.isfinite(ranks).all():
        raise HeadError("Some ranks are NaN or infinite; every embedding needs a finite rank.")
    ranks_BR = ranks[:, None] if ranks.ndim == 1 else ranks
    return ranks_BR.float() if ranks_BR.dtype in (torch.float16, torch.bfloat16) else ranks_BR


def read_about(path: Path, form: str, kind: str, required: Collection[str] = ()) -> dict[str, Any]:
    """The content of a JSON file whose "format" is `form`; `kind`, as in "rank index", names what it describes.

    Raises:
        HeadError: no file there, no JSON, another format, or a `required` key that is missing.
    """
    if not path.is_file():
        raise HeadError(f"{path.parent} holds no {kind} ({path.name} is missing).")
    again = f"save the {kind.split()[-1]} again."
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HeadError(f"{path} is not JSON ({error}); {again}") from error
    if not isinstance(about, dict) or about.get("format") != form or not set(required) <= set(about):
        raise HeadError(f"{path} is no {kind} of this version; {again}")
    return about
