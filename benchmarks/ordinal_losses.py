"""ConOrd against Rank-N-Contrast: time of forward and backward, and peak memory.

    python benchmarks/ordinal_losses.py                              # batches of 32 to 1024, about two minutes, 5 GB
    python benchmarks/ordinal_losses.py --quick                      # 32 and 128
    python benchmarks/ordinal_losses.py --json ordinal_losses.json

Two forms of Rank-N-Contrast are measured in the same run, on the same embeddings. "as published" loops over partners as
its authors' code does (the faithful one, and the paper's comparison: 1.9 times at a batch of 32); "mriqa" is
`mriqa.heads.rnc_loss`, which has the same values without the loop. Times are medians of repeats in turn, in one thread.
Memory is the peak that torch's allocator reaches above the embeddings, on a CPU as its profiler records it.

Legend: B batch, D embedding width, P = B-1 partners of an anchor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from timing import Claim, in_turn, machine, parser, peak_bytes, write
from torch import Tensor

from mriqa.heads import conord_loss, rnc_loss

Loss = Callable[[Tensor, Tensor], Tensor]


def rnc_as_published(z_BD: Tensor, ranks_B: Tensor, tau: float = 2.0) -> Tensor:
    """Zha et al.'s definition in the way of their code: all differences at once, then a mask for each partner."""
    batch = len(z_BD)
    others_BB = ~torch.eye(batch, dtype=torch.bool, device=z_BD.device)
    gaps_BP = (ranks_B[:, None] - ranks_B[None, :]).abs()[others_BB].view(batch, -1)
    logits_BB = -(z_BD[:, None, :] - z_BD[None, :, :]).norm(2, dim=-1) / tau
    logits_BB = logits_BB - logits_BB.amax(dim=1, keepdim=True).detach()
    logits_BP = logits_BB[others_BB].view(batch, -1)
    exponentials_BP = logits_BB.exp()[others_BB].view(batch, -1)
    loss = z_BD.new_zeros(())
    for partner in range(batch - 1):
        farther_BP = (gaps_BP >= gaps_BP[:, partner, None]).to(z_BD.dtype)
        log_p_B = logits_BP[:, partner] - (farther_BP * exponentials_BP).sum(dim=1).log()
        loss = loss - log_p_B.sum() / (batch * (batch - 1))
    return loss


BASELINES: dict[str, Loss] = {"Rank-N-Contrast as published": rnc_as_published, "Rank-N-Contrast in mriqa": rnc_loss}


def batch_of(size: int, width: int, device: str) -> tuple[Tensor, Tensor]:
    """Unit embeddings (B, D) and ranks 0..100 (B,)."""
    generator = torch.Generator().manual_seed(size)
    z_BD = F.normalize(torch.randn(size, width, generator=generator), dim=1).to(device)
    return z_BD.requires_grad_(), (100 * torch.rand(size, generator=generator)).to(device)


def update(loss: Loss, z_BD: Tensor, ranks_B: Tensor) -> None:
    """One forward and backward pass."""
    z_BD.grad = None
    loss(z_BD, ranks_B).backward()
    if z_BD.is_cuda:
        torch.cuda.synchronize()


def milliseconds(loss: Loss, z_BD: Tensor, ranks_B: Tensor) -> list[float]:
    """What one update takes."""
    start = time.perf_counter()
    update(loss, z_BD, ranks_B)
    return [1e3 * (time.perf_counter() - start)]


def compare(size: int, width: int, device: str, rounds: int) -> list[Claim]:
    """ConOrd beside both forms of Rank-N-Contrast at one batch size, in time and in memory."""
    z_BD, ranks_B = batch_of(size, width, device)
    values = [form(z_BD, ranks_B).item() for form in BASELINES.values()]
    if abs(values[0] - values[1]) > 1e-4 * abs(values[0]):
        raise AssertionError(f"both forms of Rank-N-Contrast must agree, but give {values}")
    settings = {**machine(), "device": device, "batch": size, "width": width, "dtype": "float32"}
    on_cuda = z_BD.is_cuda
    ours_bytes = peak_bytes(lambda: update(conord_loss, z_BD, ranks_B), on_cuda)
    claims = []
    for name, baseline in BASELINES.items():
        sides = [lambda loss=loss: milliseconds(loss, z_BD, ranks_B) for loss in (conord_loss, baseline)]
        in_turn(*sides, rounds=2)  # warms up
        theirs_bytes = peak_bytes(lambda baseline=baseline: update(baseline, z_BD, ranks_B), on_cuda)
        costs = {
            "forward and backward": (*in_turn(*sides, rounds), "ms"),
            "peak memory": (ours_bytes / 1e6, theirs_bytes / 1e6, "MB"),
        }
        for what, (ours, theirs, unit) in costs.items():
            claims.append(Claim(f"ConOrd loss, {what}, batch {size}", ours, theirs, name, unit, settings))
    return claims


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    options = parser(__doc__)
    options.add_argument("--width", type=int, default=128, help="embedding width (default 128)")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = options.parse_args(argv)
    torch.set_num_threads(1)
    rounds = {32: 100, 128: 25} if arguments.quick else {32: 300, 128: 50, 512: 7, 1024: 3}
    write(
        [c for size, n in rounds.items() for c in compare(size, arguments.width, arguments.device, n)], arguments.json
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
