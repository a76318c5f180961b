"""The batch of all processes on each of them, with gradients that flow back to the process each row came from.

Every process then computes the loss of the whole batch. Back-propagation sums the gradients of all W processes, which
is W times the gradient; the mean that DistributedDataParallel takes over processes makes it the gradient itself. So
training on W processes equals training on one with the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_batch(local_BX: Tensor) -> Tensor:
    """Rows of all processes (B', …) in the order of the processes, whose batches may differ in length.

    Without a process group, or with a single process, the rows as they are.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return local_BX
    return _Gather.apply(local_BX)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local_BX: Tensor) -> Tensor:
        length = torch.tensor([len(local_BX)], device=local_BX.device)
        lengths = [torch.empty_like(length) for _ in range(dist.get_world_size())]
        dist.all_gather(lengths, length)
        counts = [int(length) for length in lengths]
        padded = local_BX.new_zeros(max(counts), *local_BX.shape[1:])  # collectives want equal shapes
        padded[: len(local_BX)] = local_BX
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        ctx.start, ctx.count = sum(counts[: dist.get_rank()]), len(local_BX)
        return torch.cat([part[:count] for part, count in zip(parts, counts)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()  # all_reduce works in place
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.count]
