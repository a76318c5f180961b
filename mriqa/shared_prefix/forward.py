"""Log-probabilities of many continuations of a prompt from one forward pass that reads the prompt once.

The sequence is the prompt and behind it the suffix's tokens. A 4-D mask lets each of these see the prompt, its
ancestors and itself, and its position is the one it would have alone behind the prompt, so every number equals the one
of the ordinary forward, at a cost of P + K tokens where that reads G·(P + C). It is the wrapper's own forward that is
called, so data parallel, DeepSpeed and PEFT see an ordinary pass.

Only tokens with children run through the model: no next token is read behind the others. Only their positions run
through the LM head, which hands on log-probabilities in place of logits.
Legend: N prompts, P prompt tokens, K suffix tokens, M of them with children, T = P + M, U positions read, L real suffix
tokens, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mriqa.shared_prefix.families import as_attention_mask, core_of, family_of, why_not_shared
from mriqa.shared_prefix.suffix import Suffix

LOGITS_AT_ONCE = 2**22  # 16 MiB in float32; longer suffixes are read in pieces that are computed again going backward
TOKEN_TYPES = ("mm_token_type_ids", "token_type_ids")  # inputs with one entry per token, 0 for text


def suffix_log_probs(
    model: nn.Module,
    prompt_inputs: Mapping[str, Any],
    suffix: Suffix,
    temperature: float = 1.0,
    with_entropy: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probability of each suffix token given its prompt and its ancestors, with gradients.

    Args:
        model: an image-text model of a known family, bare or wrapped.
        prompt_inputs: what its processor returns for N left-padded prompts: input_ids and attention_mask (N, P),
            and the images' tensors, once per prompt.
        suffix: K tokens behind each prompt.
        temperature: divides the logits.
        with_entropy: also return the entropy (nats) of the distribution that each token was drawn from.

    Returns log-probabilities and entropies (or None), each (N, K) in float32 and 0 where the suffix is padding.
    Raises ValueError for a model whose prompts can't be shared.
    """
    family = family_of(model)
    if family is None:
        raise ValueError(f"The prompts of this model can't be shared: {why_not_shared(model)}.")
    core = core_of(model)
    inner_M, source_NK = _parents_that_run(suffix)
    visible_NKK = suffix.visible()
    depths_NM = visible_NKK.sum(-1)[:, inner_M] - 1
    inputs = {
        **prompt_inputs,
        "input_ids": torch.cat([prompt_inputs["input_ids"], suffix.ids_NK[:, inner_M]], dim=1),
        "attention_mask": _mask(core, prompt_inputs["attention_mask"], visible_NKK[:, inner_M][:, :, inner_M]),
        "position_ids": family.positions(core, prompt_inputs, depths_NM),
    }
    for name in TOKEN_TYPES:
        if inputs.get(name) is not None:
            inputs[name] = torch.cat([inputs[name], inputs[name].new_zeros(depths_NM.shape)], dim=1)

    reader = _Reader(suffix, source_NK, core.config.get_text_config().vocab_size, temperature, with_entropy)
    with _head_reads(core.get_output_embeddings(), reader):
        read_LX = model(**inputs, use_cache=False, logits_to_keep=len(inner_M) + 1).logits
    read_NKX = read_LX.new_zeros(*suffix.ids_NK.shape, read_LX.shape[1])
    read_NKX = read_NKX.masked_scatter(suffix.real_NK[..., None], read_LX)
    return read_NKX[..., 0], read_NKX[..., 1] if with_entropy else None


def _parents_that_run(suffix: Suffix) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns with a real child behind some prompt (M), and where each token's parent stands among them (N, K).

    The prompt's last token has place 0, the m-th of those columns place m + 1.
    """
    has_child_K = torch.zeros(suffix.ids_NK.shape[1] + 1, dtype=torch.bool, device=suffix.ids_NK.device)
    has_child_K[suffix.parents_NK[suffix.real_NK]] = True  # -1, the prompt, is the extra last column
    has_child_K = has_child_K[:-1]
    place_K = nn.functional.pad(has_child_K.cumsum(0), (0, 1))  # and the prompt's place is 0
    return has_child_K.nonzero().flatten(), place_K[suffix.parents_NK]


def _mask(core: Any, prompt_mask_NP: torch.Tensor, visible_NMM: torch.Tensor) -> torch.Tensor:
    """What each token sees, (N, 1, T, T), in the form the model's attention takes."""
    n_prompts, length = prompt_mask_NP.shape
    total = length + visible_NMM.shape[1]
    sees_NTT = torch.ones(n_prompts, total, total, dtype=torch.bool, device=prompt_mask_NP.device).tril_()
    sees_NTT[:, :, :length] &= prompt_mask_NP[:, None].bool()
    sees_NTT[:, length:, length:] = visible_NMM
    sees_NTT.diagonal(dim1=1, dim2=2).fill_(True)  # a softmax over nothing, in a row of padding, would be NaN
    return as_attention_mask(core, sees_NTT)


class _Reader:
    """Stands in for the LM head's forward: hidden states (N, M + 1, D) → log-probability [and entropy], (L, 1 or 2)."""

    def __init__(
        self, suffix: Suffix, source_NK: torch.Tensor, vocabulary: int, temperature: float, with_entropy: bool
    ) -> None:
        self.real_NK, self.source_NK, self.ids_L = suffix.real_NK, source_NK, suffix.ids_NK[suffix.real_NK]
        self.rows_at_once = max(1, LOGITS_AT_ONCE // vocabulary)
        self.temperature, self.with_entropy = temperature, with_entropy

    def __call__(self, head: Callable[[torch.Tensor], torch.Tensor], hidden_NMD: torch.Tensor) -> torch.Tensor:
        n_prompts, n_sources, _ = hidden_NMD.shape
        first_N1 = n_sources * torch.arange(n_prompts, device=hidden_NMD.device)[:, None]
        needed_U, row_L = torch.unique((first_N1 + self.source_NK)[self.real_NK], return_inverse=True)
        hidden_UD = hidden_NMD.flatten(0, 1)[needed_U]
        if len(hidden_UD) <= self.rows_at_once:
            return self._read(head, hidden_UD, row_L, self.ids_L)
        order_L = row_L.argsort(stable=True)
        pieces = hidden_UD.split(self.rows_at_once)
        starts = self.rows_at_once * torch.arange(1, len(pieces), device=row_L.device)
        ends = torch.searchsorted(row_L[order_L], starts).tolist()
        read = [
            checkpoint(
                self._read,
                head,
                piece,
                row_L[labels] - number * self.rows_at_once,
                self.ids_L[labels],
                use_reentrant=False,
            )
            for number, (piece, labels) in enumerate(zip(pieces, order_L.tensor_split(ends), strict=True))
        ]
        return torch.cat(read)[order_L.argsort()]

    def _read(
        self,
        head: Callable[[torch.Tensor], torch.Tensor],
        hidden_UD: torch.Tensor,
        row_L: torch.Tensor,
        ids_L: torch.Tensor,
    ) -> torch.Tensor:
        logits_UV = head(hidden_UD)
        logits_UV = logits_UV.to(torch.promote_types(logits_UV.dtype, torch.float32)) / self.temperature
        total_U = logits_UV.logsumexp(-1)
        columns = [logits_UV[row_L, ids_L] - total_U[row_L]]
        if self.with_entropy:
            entropy_U = total_U - (logits_UV.softmax(-1) * logits_UV).sum(-1)
            columns.append(entropy_U[row_L])
        return torch.stack(columns, dim=-1)


@contextmanager
def _head_reads(head: Any, reader: _Reader) -> Iterator[None]:
    """Let `reader` stand between the LM head and the model, inside the forward, where its weights are at hand."""
    own, forward = "forward" in vars(head), head.forward
    head.forward = partial(reader, forward)
    try:
        yield
    finally:
        if own:
            head.forward = forward
        else:
            del head.forward
