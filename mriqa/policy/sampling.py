"""Sample G completions of a prompt at the cost of reading the prompt once, in the distribution of `model.generate`.

One prefill reads each distinct prompt, its images included. The completions then grow side by side behind it in one
sequence: each step feeds one token of every completion, and a 4-D mask lets a token see the prompt and its own
completion, at the position it would have alone (the tree attention of SpecInfer, Miao et al., ASPLOS 2024). The cache
therefore holds P + G·C tokens per prompt where expanding it to G rows would hold G·(P + C). The tokens are drawn from
torch's global generator just as `generate` draws them, so a resumed run draws the same ones.

Legend: N distinct prompts, P prompt tokens, R rows (completions), G completions of one prompt, C completion tokens,
V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mriqa.shared_prefix import as_attention_mask, core_of, family_of, why_not_shared

if TYPE_CHECKING:
    from transformers import GenerationConfig, LogitsProcessor

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bad_words_ids": (None,),
    "begin_suppress_tokens": (None,),
    "cache_implementation": (None, "dynamic"),
    "do_sample": (True,),
    "encoder_no_repeat_ngram_size": (None, 0),
    "epsilon_cutoff": (None, 0.0),
    "eta_cutoff": (None, 0.0),
    "exponential_decay_length_penalty": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "guidance_scale": (None, 1, 1.0),
    "max_time": (None,),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "no_repeat_ngram_size": (None, 0),
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "remove_invalid_values": (None, False),
    "sequence_bias": (None,),
    "stop_strings": (None,),
    "top_h": (None,),
    "typical_p": (None, 1, 1.0),
    "watermarking_config": (None,),
}
"""Settings of `generate` that are disregarded here, and the values at which that makes no difference."""


def unusual_setting(config: GenerationConfig, model_config: GenerationConfig) -> str | None:
    """The name of a setting that `sample_completions` would disregard, or None.

    `generate` takes what `config` leaves open from the model's own `model_config`.
    """
    for name, neutral in NEUTRAL.items():
        value = getattr(config, name, None)
        if (getattr(model_config, name, None) if value is None else value) not in neutral:
            return name
    return None


def logits_processors(
    config: GenerationConfig, device: torch.device, constraint: LogitsProcessor | None = None
) -> LogitsProcessorList:
    """What `generate` would put between logits and sampling, in its order; a `constraint` goes before the warpers."""
    processors = LogitsProcessorList()
    if config.repetition_penalty not in (None, 1.0):
        processors.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
    if config.suppress_tokens is not None:
        processors.append(SuppressTokensLogitsProcessor(config.suppress_tokens, device=str(device)))
    if constraint is not None:
        processors.append(constraint)
    if config.temperature not in (None, 1.0):
        processors.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k not in (None, 0):
        processors.append(TopKLogitsWarper(config.top_k))
    if config.top_p is not None and config.top_p < 1.0:
        processors.append(TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        processors.append(MinPLogitsWarper(config.min_p))
    return processors


@torch.no_grad()
def sample_completions(
    model: Any,
    prompts: Mapping[str, Any],
    prompt_of_R: Sequence[int],
    processors: LogitsProcessorList,
    *,
    max_new_tokens: int,
    eos_ids: Sequence[int],
    pad_id: int,
    finished: Callable[[torch.Tensor], bool] = bool,
) -> list[list[int]]:
    """One sampled completion per row, up to and including its first EOS token, at most C = `max_new_tokens` long.

    Args:
        model: an image-text model of a known family, bare or wrapped.
        prompts: what its processor returns for N left-padded prompts: input_ids and attention_mask (N, P), and the
            images' tensors, once per prompt.
        prompt_of_R: the prompt of each row, in any order and any number.
        processors: called with (prompt and completion so far (R, P + c), logits (R, V) in float32).
        finished: turns "all rows of this process have ended" (bool tensor) into "stop"; where processes must run the
            same number of forward passes, it asks them all.

    Raises ValueError for a model whose prompts can't be shared.
    """
    family = family_of(model)
    if family is None:
        raise ValueError(f"The prompts of this model can't be shared: {why_not_shared(model)}.")
    core = core_of(model)
    ids_NP, mask_NP = prompts["input_ids"], prompts["attention_mask"]
    device, (n_prompts, prompt_length) = ids_NP.device, ids_NP.shape
    slot_R, n_slots = _slots(prompt_of_R)
    row_prompt_R = torch.tensor(prompt_of_R, device=device)
    cell_R = row_prompt_R * n_slots + torch.tensor(slot_R, device=device)
    eos_E = torch.tensor(list(eos_ids), device=device)
    depths_NC = torch.arange(max_new_tokens, device=device).expand(n_prompts, -1)
    positions = family.positions(core, prompts, depths_NC)  # (N, P + C), or (3, N, P + C)

    prefill = model(**prompts, position_ids=positions[..., :prompt_length], use_cache=True, logits_to_keep=1)
    cache = prefill.past_key_values
    logits_RV = prefill.logits[:, -1][row_prompt_R]
    sees_NGT = mask_NP.bool()[:, None].expand(-1, n_slots, -1)
    own_NGG = torch.eye(n_slots, dtype=torch.bool, device=device).expand(n_prompts, -1, -1)
    ids_RT = ids_NP[row_prompt_R]
    ended_R = torch.zeros(len(row_prompt_R), dtype=torch.bool, device=device)
    for depth in range(max_new_tokens):
        scores_RV = processors(ids_RT, logits_RV.to(torch.float32, copy=True))
        next_R = torch.multinomial(scores_RV.softmax(-1), num_samples=1).squeeze(1)
        next_R = next_R.masked_fill(ended_R, pad_id)
        ids_RT = torch.cat([ids_RT, next_R[:, None]], dim=1)
        ended_R = ended_R | torch.isin(next_R, eos_E)
        if depth + 1 == max_new_tokens or finished(ended_R.all()):
            break
        sees_NGT = torch.cat([sees_NGT, own_NGG], dim=-1)
        next_NG = torch.full((n_prompts * n_slots,), pad_id, device=device)
        next_NG[cell_R] = next_R
        step = model(
            input_ids=next_NG.view(n_prompts, n_slots),
            attention_mask=as_attention_mask(core, sees_NGT),
            position_ids=positions[..., prompt_length + depth, None].expand(*positions.shape[:-1], n_slots),
            past_key_values=cache,
            use_cache=True,
        )
        logits_RV = step.logits.flatten(0, 1)[cell_R]
    return [_until_eos(row, set(eos_ids)) for row in ids_RT[:, prompt_length:].tolist()]


def _slots(prompt_of_R: Sequence[int]) -> tuple[list[int], int]:
    """Each row's number among the rows of its prompt, and how many rows the prompt with the most has."""
    seen: Counter[int] = Counter()
    slots = []
    for prompt in prompt_of_R:
        slots.append(seen[prompt])
        seen[prompt] += 1
    return slots, max(seen.values())


def _until_eos(ids: list[int], eos_ids: set[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in eos_ids), len(ids) - 1)
    return ids[: end + 1]
