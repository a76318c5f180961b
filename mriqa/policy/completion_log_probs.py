"""Log-probabilities of a rollout's completions, each prompt read once for all of its completions.

TRL repeats prompt and image for each of the G completions. Here the rows of one prompt form a group: its prompt and its
image go through the model once, its completions behind them (`mriqa.shared_prefix`). Log-probabilities, and so loss and
gradients, stay TRL's own. Legend: B rows (completions), N distinct prompts among them, G rows of a prompt at most, P
prompt tokens, C completion tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from mriqa.policy.prompt_groups import (
    IMAGE_FIELDS,
    first_rows,
    group_rows,
    merge_images,
    rows_of_groups,
    split_images,
    take,
)
from mriqa.shared_prefix import Suffix, suffix_log_probs

TOKEN_FIELDS = ("mm_token_type_ids", "token_type_ids")


def completion_log_probs(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    completion_length: int,
    fields: Mapping[str, Any],
    *,
    group_B: torch.Tensor | None,
    temperature: float,
    rows_at_once: int | None,
    with_entropy: bool,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities (B, C) of the last C = `completion_length` tokens of each row, and their entropies or None.

    Args:
        model: of a family that `mriqa.shared_prefix` knows, bare or wrapped.
        input_ids, attention_mask: (B, P + C) as in TRL's batch.
        fields: what else its processor returned, image tensors and types of tokens.
        group_B: the prompt of each row where the images come once per prompt; None where they come once per row, and
            the groups are found by comparing tokens and pixels.
        temperature: what logits are divided by.
        rows_at_once: how many rows a pass may hold; None for all.
    """
    prompt_length = input_ids.shape[1] - completion_length
    tokens = {name: fields[name][:, :prompt_length] for name in TOKEN_FIELDS if fields.get(name) is not None}
    tokens |= {"input_ids": input_ids[:, :prompt_length], "attention_mask": attention_mask[:, :prompt_length]}
    images = split_images({name: fields.get(name) for name in IMAGE_FIELDS})
    if group_B is None:
        group_B = group_rows(tokens["input_ids"], tokens["attention_mask"], images)
        images = take(images, first_rows(group_B))
    rows_NG, place_B = rows_of_groups(group_B)
    ids_BC, mask_BC = input_ids[:, prompt_length:], attention_mask[:, prompt_length:]

    prompts_at_once = max(1, rows_at_once // rows_NG.shape[1]) if rows_at_once else len(rows_NG)
    logps: list[torch.Tensor] = []
    entropies: list[Any] = []
    for chunk in torch.arange(len(rows_NG)).split(prompts_at_once):
        rows = rows_NG[chunk]
        present = (rows >= 0)[..., None].to(mask_BC.device)
        suffix = Suffix.chains(ids_BC[rows.clamp_min(0)], mask_BC[rows.clamp_min(0)] * present)
        prompts = take(tokens, rows[:, 0]) | merge_images(take(images, chunk))
        prompts.pop("num_images", None)
        with autocast():
            logps_NK, entropies_NK = suffix_log_probs(model, prompts, suffix, temperature, with_entropy)
        logps.append(logps_NK)
        entropies.append(entropies_NK)
    logps_BC = torch.cat(logps).view(-1, completion_length)[place_B]
    if not with_entropy:
        return logps_BC, None
    return logps_BC, torch.cat(entropies).view(-1, completion_length)[place_B]
