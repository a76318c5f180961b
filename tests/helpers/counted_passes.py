"""How many images a model's vision tower is given, pass by pass."""

from __future__ import annotations

from typing import Any

import torch

from mriqa.frozen.cached_tower import vision_towers


def counted(model: Any) -> list[int]:
    """Images that each later pass of the tower takes; to be called before a store is put there."""
    (tower,) = vision_towers(model)
    forward, seen = tower.forward, []

    def count(pixels: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        grid = kwargs.get("grid_thw")
        seen.append(len(pixels if grid is None else grid))
        return forward(pixels, *args, **kwargs)

    tower.forward = count
    return seen
