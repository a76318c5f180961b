"""A symmetric graph without self-edges as the list of its edges, each pair of nodes once.

Legend: N nodes, E edges, D dimensions, T graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK_NUMBERS = 2**18
"""How many numbers an intermediate result may hold: a megabyte in float32, whatever N, E and D are."""


@dataclass(frozen=True)
class Edges:
    """G[first[e], second[e]] = G[second[e], first[e]] = weight[e], and 0 elsewhere; first < second, no pair twice."""

    first_E: Tensor
    second_E: Tensor
    weight_E: Tensor
    nodes: int

    def dense(self) -> Tensor:
        """(N, N), symmetric."""
        empty_NN = self.weight_E.new_zeros(self.nodes, self.nodes)
        upper_NN = empty_NN.index_put((self.first_E, self.second_E), self.weight_E)
        return upper_NN + upper_NN.T

    def scaled(self, factor: float) -> Edges:
        """The same edges, each weight times `factor`."""
        return Edges(self.first_E, self.second_E, factor * self.weight_E, self.nodes)

    def binary(self) -> Edges:
        """Weight 1 wherever there is an edge."""
        return Edges(self.first_E, self.second_E, (self.weight_E > 0).to(self.weight_E.dtype), self.nodes)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Number of entries of the (N, N) matrix that are not 0, and their sum."""
        return 2 * (self.weight_E != 0).sum().to(self.weight_E.dtype), 2 * self.weight_E.sum()


def symmetric_mean(row_E: Tensor, column_E: Tensor, value_E: Tensor, nodes: int) -> Edges:
    """(G + Gᵀ) / 2 of a directed graph G given by its entries, at most one for each place; self-edges are left out."""
    others_E = row_E != column_E
    row_E, column_E, value_E = row_E[others_E], column_E[others_E], value_E[others_E]
    keys_E = torch.minimum(row_E, column_E) * nodes + torch.maximum(row_E, column_E)
    return _summed(keys_E, value_E / 2, nodes)


def mixed(graphs: Sequence[Edges], weights_T: Tensor) -> Edges:
    """Σ weights[t] · graphs[t], differentiable for the weights and for the graphs' own."""
    nodes = graphs[0].nodes
    keys_E = torch.cat([graph.first_E * nodes + graph.second_E for graph in graphs])
    values_E = torch.cat([weight * graph.weight_E for weight, graph in zip(weights_T.unbind(), graphs)])
    return _summed(keys_E, values_E, nodes)


def _summed(keys_E: Tensor, values_E: Tensor, nodes: int) -> Edges:
    """Edges by the key first · N + second; the values of equal keys are added."""
    unique_E, place_E = torch.unique(keys_E, return_inverse=True)
    weight_E = values_E.new_zeros(len(unique_E)).index_add(0, place_E, values_E)
    return Edges(unique_E // nodes, unique_E % nodes, weight_E, nodes)


def squared_distances(z_ND: Tensor, first_E: Tensor, second_E: Tensor) -> Tensor:
    """‖z_first − z_second‖² (E,). Neither forward nor backward holds E × D numbers."""
    return _SquaredDistances.apply(z_ND, first_E, second_E)


class _SquaredDistances(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z_ND: Tensor, first_E: Tensor, second_E: Tensor) -> Tensor:
        ctx.save_for_backward(z_ND, first_E, second_E)
        parts = [(z_ND[first] - z_ND[second]).square().sum(dim=1) for first, second in _chunks(z_ND, first_E, second_E)]
        return torch.cat(parts) if parts else z_ND.new_zeros(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        z_ND, first_E, second_E = ctx.saved_tensors
        gradient_ND = torch.zeros_like(z_ND)
        for first, second, upstream in _chunks(z_ND, first_E, second_E, gradients[0]):
            pull_ED = (z_ND[first] - z_ND[second]) * (2 * upstream[:, None])
            gradient_ND.index_add_(0, first, pull_ED).index_add_(0, second, pull_ED, alpha=-1)
        return gradient_ND, None, None


def _chunks(z_ND: Tensor, *columns_E: Tensor) -> Any:
    size = max(1, CHUNK_NUMBERS // z_ND.shape[1])
    return list(zip(*(column_E.split(size) for column_E in columns_E))) if len(columns_E[0]) else []
