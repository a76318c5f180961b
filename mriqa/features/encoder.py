"""What an encoder of pictures is, and how any function becomes one.

Legend: B pictures, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mriqa.errors import UserError
from mriqa.views import ViewSettings

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float32]


class FeatureError(UserError, ValueError):
    """An encoder that cannot be had, or features that cannot be used, as one sentence."""


def _as_it_is(image: Image.Image) -> Image.Image:
    return image


@dataclass(frozen=True)
class Encoder:
    """A frozen function of pictures.

    Attributes:
        name: for people.
        key: changes whenever the features of a picture may change: a digest of weights and settings. Cached features
            are found by it.
        encode: prepared pictures, B of them, to features (B, D).
        prepare: one RGB picture to what `encode` takes; runs in a thread, a picture at a time.
        views: how to look at a picture that nothing else is said about; features of several views are averaged.
    """

    name: str
    key: str
    encode: Callable[[list[Any]], npt.ArrayLike]
    prepare: Callable[[Image.Image], Any] = _as_it_is
    views: ViewSettings = field(default_factory=ViewSettings)


def callable_encoder(name: str, function: Callable[[list[Image.Image]], npt.ArrayLike]) -> Encoder:
    """An encoder of your own: `function` takes a list of RGB pictures and returns an array (B, D).

    Cached features are found by `name` alone: change it whenever the function changes.
    """
    return Encoder(name, key=f"callable {name}", encode=function)


def digest(*settings: Any, weights: dict[str, torch.Tensor] | None = None) -> str:
    """A short digest of settings and of every byte of the weights."""
    whole = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for name, weight in sorted((weights or {}).items()):
        whole.update(f"{name}{weight.dtype}{tuple(weight.shape)}".encode())
        whole.update(_bytes(weight))
    return whole.hexdigest()


def _bytes(weight: torch.Tensor) -> Any:
    import torch

    return weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def as_rows(features: npt.ArrayLike | torch.Tensor, count: int, name: str) -> FloatArray:
    """What an encoder returned as (B, D) float32. Raises FeatureError where it is something else."""
    values: Any = features.detach().float().cpu().numpy() if hasattr(features, "detach") else features
    rows_BD = np.asarray(values, dtype=np.float32)
    if rows_BD.ndim != 2 or len(rows_BD) != count or rows_BD.shape[1] == 0:
        raise FeatureError(
            f"Encoder {name} gave features of shape {rows_BD.shape} for {count} pictures; one row a picture is needed."
        )
    return rows_BD


def in_groups_of_shape(tensors: Sequence[torch.Tensor], encode: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`encode` of tensors (C, H, W) of any sizes, those of one size together, in their order: (B, D)."""
    import torch

    places: dict[tuple[int, ...], list[int]] = {}
    for place, tensor in enumerate(tensors):
        places.setdefault(tuple(tensor.shape), []).append(place)
    rows: list[Any] = [None] * len(tensors)
    for same in places.values():
        for place, row in zip(same, encode(torch.stack([tensors[place] for place in same]))):
            rows[place] = row
    return torch.stack(rows)
