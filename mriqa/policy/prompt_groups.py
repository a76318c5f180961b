"""Which rows of a rollout answer the same prompt, and how to carry its image once for all of them.

TRL's batch has a row per completion, with prompt and image repeated, flattened in whatever way the model's processor
does it. Legend: B rows (completions), N distinct prompts among them, G rows of a prompt at most, S micro-batches.
"""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

IMAGE_FIELDS = ("pixel_values", "pixel_attention_mask", "image_grid_thw", "num_images")
GROUP_FIELD = "prompt_group"

Fields = dict[str, Any]


def split_by_prompt(rollout: Fields, steps: int) -> list[Fields]:
    """The S = `steps` micro-batches of TRL's rollout of B rows, its prompts shuffled, each one's rows side by side.

    A micro-batch holds the images once per prompt; "prompt_group" (B / S,) says which of them belongs to a row. The
    rollout may be of that form already.
    """
    images = split_images({name: rollout.get(name) for name in IMAGE_FIELDS})
    rows = {name: value for name, value in rollout.items() if name not in images}
    group_B = rollout.get(GROUP_FIELD)
    if group_B is None:
        group_B = group_rows(rollout["prompt_ids"], rollout["prompt_mask"], images)
        images = take(images, first_rows(group_B))
    order_B = torch.randperm(int(group_B.max()) + 1)[group_B].argsort(stable=True)
    micro_batches = []
    for chosen in order_B.split(len(order_B) // steps)[:steps]:
        prompts, group = torch.unique_consecutive(group_B[chosen], return_inverse=True)
        images_once = merge_images(take(images, prompts))
        micro_batches.append({**take(rows, chosen), **images_once, GROUP_FIELD: group})
    return micro_batches


def group_rows(prompt_ids: torch.Tensor, prompt_mask: torch.Tensor, images: Fields) -> torch.Tensor:
    """Number (B,) of each row's group, from 0 in order of appearance: rows of equal prompt tokens and equal images.

    Pictures of one size have the same prompt tokens, so pixels are compared: a few of each row, then all of those rows
    that agree in them.
    """
    pixels = [values for values in images.values() if isinstance(values[0], torch.Tensor)]
    samples = [torch.stack([_sample(value) for value in values]).tolist() for values in pixels]
    ids = map(tuple, prompt_ids.masked_fill(prompt_mask == 0, -1).tolist())
    first_rows_of: dict[tuple[Any, ...], list[int]] = {}  # rows with the same key that turned out different
    number_of: dict[int, int] = {}
    groups = []
    for row, key in enumerate(zip(ids, *samples, strict=True)):
        alike = first_rows_of.setdefault(key, [])
        first = next((other for other in alike if all(torch.equal(each[row], each[other]) for each in pixels)), row)
        if first == row:
            alike.append(row)
        groups.append(number_of.setdefault(first, len(number_of)))
    return torch.tensor(groups)


def _sample(values: torch.Tensor) -> torch.Tensor:
    return values.flatten()[:: max(1, values.numel() // 256)].double().sum()


def first_rows(group_B: torch.Tensor) -> torch.Tensor:
    """The first row of each group, (N,)."""
    return rows_of_groups(group_B)[0][:, 0]


def rows_of_groups(group_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of each group, (N, G), -1 where it has fewer than G; and the place of each row in that table, (B,)."""
    order_B, count_N = group_B.argsort(stable=True), group_B.bincount()
    start_N, most = count_N.cumsum(0) - count_N, int(count_N.max())
    place_B = torch.empty_like(group_B)
    place_B[order_B] = torch.arange(len(group_B)) + (most * torch.arange(len(count_N)) - start_N)[group_B[order_B]]
    rows_NG = torch.full((len(count_N) * most,), -1)
    rows_NG[place_B] = torch.arange(len(group_B))
    return rows_NG.view(-1, most), place_B


def split_images(images: Fields) -> Fields:
    """The image fields of a batch with one entry per row, however its processor flattens them; absent ones left out."""
    present = {name: value for name, value in images.items() if value is not None}
    return split_pixel_values_by_grid(present)


def merge_images(images: Fields) -> Fields:
    """The opposite of `split_images`."""
    return unsplit_pixel_values_by_grid(images)


def take(fields: Fields, rows: torch.Tensor) -> Fields:
    """The given rows of every field that has rows; numbers and what is absent stay as they are."""

    def chosen(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value[rows] if value.ndim else value
        return value if value is None else [value[row] for row in rows.tolist()]

    return {name: chosen(value) for name, value in fields.items()}
