"""Φ: how much each relation graph counts, G = Σ ω_t sg(G_t) with Σ ω_t = 1 (§III-F).

Learning ω by descent on the loss collapses: for fixed embeddings the loss is concave in ω, so its minimum over the
simplex is one graph alone. Hence `frozen` is the default, as in the published configuration: Φ is evaluated, so ω
follows the graphs' statistics, but nothing trains it.

Legend: T graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mriqa.pretrain.graphs.edges import Edges
from mriqa.pretrain.graphs.layout import PretrainError

KINDS = ("frozen", "learned", "fixed")
COLLAPSED = 0.95
"""A weight from which on the other graphs hardly count."""


class GraphMixture(nn.Module):
    """Statistics of T graphs to their weights ω (T,).

    Two numbers of each graph, how many entries it has and their sum, go through layer norm, a linear layer to 4 T,
    layer norm, PReLU, a linear layer to T and softmax.

    Arguments:
        graphs: names of the graphs, in order.
        kind: "frozen" (random Φ, no gradient), "learned" (Φ trains) or "fixed" (ω does not depend on the graphs).
        fixed: ω for "fixed", by default 1/T each; need not sum to 1.

    Raises:
        PretrainError: no such kind, no graph, or the wrong number of fixed weights.
    """

    fixed_T: Tensor

    def __init__(self, graphs: Sequence[str], kind: str = "frozen", fixed: Sequence[float] | None = None):
        super().__init__()
        if kind not in KINDS:
            raise PretrainError(f"Unknown mixture {kind!r}; choose one of: {', '.join(KINDS)}.")
        if not graphs:
            raise PretrainError("There is no graph to learn from; name at least one.")
        count = len(graphs)
        if fixed is not None and len(fixed) != count:
            raise PretrainError(f"{len(fixed)} fixed weights do not fit {count} graphs ({', '.join(graphs)}).")
        self.graphs, self.kind = tuple(graphs), kind
        self.register_buffer("fixed_T", torch.tensor(fixed or [1 / count] * count))
        self.phi: nn.Sequential | None = None
        if kind != "fixed":
            self.phi = nn.Sequential(
                nn.LayerNorm(2 * count),
                nn.Linear(2 * count, 4 * count),
                nn.LayerNorm(4 * count),
                nn.PReLU(),
                nn.Linear(4 * count, count),
            )
            self.phi.requires_grad_(kind == "learned")

    def forward(self, edges: Mapping[str, Edges]) -> Tensor:
        """ω (T,) in the order of `graphs`, from the graphs by name."""
        weight = edges[self.graphs[0]].weight_E
        if self.phi is None:
            return self.fixed_T.to(weight)
        with torch.autocast(weight.device.type, enabled=False):
            numbers_2T = torch.stack([number for name in self.graphs for number in edges[name].statistics()])
            dtype: Any = self.phi[1].weight.dtype  # a layer's attribute, typed as tensor or module
            omega_T = torch.softmax(self.phi(numbers_2T.detach().to(dtype)), dim=0).to(weight)
        return omega_T if self.kind == "learned" else omega_T.detach()
