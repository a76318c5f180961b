"""The five relation graphs of a batch: three from how its images were made, two from their features (§III-E).

| graph | joins                                                        | weight                                       |
|-------|--------------------------------------------------------------|----------------------------------------------|
| rd    | a reference and each of its distorted images                 | φ(severity of the varying distortion) (eq. 9) |
| dd    | distorted images of one composition group, whatever content  | φ(difference of these severities) (eq. 10)    |
| rr    | references                                                   | w_rr (eq. 11)                                |
| knn   | an image and its k nearest by cosine                         | the cosine, 0 where negative (eq. 12)        |
| ot    | images with similar prototypes                               | Σ_k A_ik log A_jk, scaled to [0, 1] (eq. 13)  |

Directed graphs (knn, ot) become (G + Gᵀ) / 2, which leaves the invariance of eq. 7 as it is.

Legend: N nodes, B tiny-batches, R references, C groups, L levels, D features, K prototypes, E edges.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mriqa.pretrain.graphs.edges import CHUNK_NUMBERS, Edges, symmetric_mean
from mriqa.pretrain.graphs.layout import Layout, PretrainError
from mriqa.pretrain.graphs.prototypes import assignments, full_precision

GRAPHS = ("rd", "dd", "rr", "knn", "ot")
METADATA_GRAPHS = ("rd", "dd", "rr")
FALLOFFS = ("exponential", "reciprocal")


@dataclass(frozen=True)
class GraphSettings:
    """What the graphs depend on beside the batch.

    Attributes:
        kappa: φ(u) = exp(−κ u).
        falloff: "exponential", or "reciprocal" for φ(u) = 1 / (1 + u) (ablation F1).
        w_rr: weight between references.
        neighbours: k_n of knn; at most N − 1 are taken.
        top_dd: K_d, entries of the whole matrix that dd keeps.
        top_ot: K_g, entries that ot keeps, self-edges among them; None is 8 N.
        top_ot_of_row: keep so many in each row instead, self-edges not among them (ablation C1 has 8).
        selfs_first: take the self-edges out of ot before its largest entries are chosen.
        gradient: let the values of knn and ot carry gradient into the features, as the published code does.
    """

    kappa: float = 3.0
    falloff: str = "exponential"
    w_rr: float = 0.5766
    neighbours: int = 31
    top_dd: int = 4096
    top_ot: int | None = None
    top_ot_of_row: int | None = None
    selfs_first: bool = False
    gradient: bool = False

    def __post_init__(self) -> None:
        if self.falloff not in FALLOFFS:
            raise PretrainError(f"Unknown falloff {self.falloff!r}; choose one of: {', '.join(FALLOFFS)}.")

    def phi(self, severity: Tensor) -> Tensor:
        """How related images are whose severities differ by so much."""
        return torch.exp(-self.kappa * severity) if self.falloff == "exponential" else 1 / (1 + severity)


def relation_graphs(
    layout: Layout,
    severity_BCL: Tensor,
    features_ND: Tensor,
    prototypes_KD: Tensor,
    *,
    kappa: float = 3.0,
    w_rr: float = 0.5766,
    neighbours: int = 31,
    top_dd: int = 4096,
    top_ot: int | None = None,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    rounds: int | None = None,
) -> dict[str, Tensor]:
    """The five graphs as symmetric (N, N) matrices in [0, 1] with an empty diagonal, cut off from the features.

    Args:
        layout: sizes and order of the N images.
        severity_BCL: λ in [0, 1] of each group's varying distortion at each level.
        features_ND: encoder features, in the layout's order; they are put on the unit sphere here.
        prototypes_KD: used as they are.
        kappa, w_rr, neighbours, top_dd, top_ot: see `GraphSettings`.
        temperature: τ_c of the assignments that ot compares.
        epsilon, rounds: of the transport targets (`sinkhorn`). No graph depends on them: they are taken so that one
            set of settings describes graphs and targets.

    Raises:
        PretrainError: severities or features that don't fit the layout.
    """
    settings = GraphSettings(kappa=kappa, w_rr=w_rr, neighbours=neighbours, top_dd=top_dd, top_ot=top_ot)
    log_a_NK = assignments(features_ND, prototypes_KD, temperature)
    edges = relation_edges(layout, severity_BCL, features_ND, log_a_NK, settings)
    return {name: graph.dense() for name, graph in edges.items()}


def relation_edges(
    layout: Layout,
    severity_BCL: Tensor,
    features_ND: Tensor,
    log_a_NK: Tensor,
    settings: GraphSettings,
    names: Collection[str] = GRAPHS,
) -> dict[str, Edges]:
    """Those of the five graphs that are named, in the order of `GRAPHS`, as lists of edges.

    No matrix of N × N numbers is held where N is large: rows are compared in blocks.
    """
    if features_ND.ndim != 2 or len(features_ND) != layout.nodes:
        raise PretrainError(f"{layout} has {layout.nodes} images, but the features are {tuple(features_ND.shape)}.")
    wanted = (layout.tiny_batches, layout.groups, layout.levels)
    if severity_BCL.shape != wanted:
        raise PretrainError(f"{layout} has severities {wanted}, not {tuple(severity_BCL.shape)}.")
    with torch.autocast(features_ND.device.type, enabled=False):
        features_ND, log_a_NK = full_precision(features_ND, log_a_NK)
        if not settings.gradient:
            features_ND, log_a_NK = features_ND.detach(), log_a_NK.detach()
        severity_BCL = severity_BCL.to(features_ND)
        make = {
            "rd": lambda: reference_distorted(layout, severity_BCL, settings),
            "dd": lambda: distorted_distorted(layout, severity_BCL, settings),
            "rr": lambda: reference_reference(layout, severity_BCL, settings),
            "knn": lambda: nearest(features_ND, settings),
            "ot": lambda: transported(log_a_NK, settings),
        }
        return {name: make[name]() for name in GRAPHS if name in names}


def reference_distorted(layout: Layout, severity_BCL: Tensor, settings: GraphSettings) -> Edges:
    """G_rd (eq. 9), in both directions."""
    distorted_BRCL = layout.distorted_nodes(severity_BCL.device)
    references_BR = layout.reference_nodes(severity_BCL.device)
    first_BRCL = references_BR[:, :, None, None].expand_as(distorted_BRCL)
    weight_BRCL = settings.phi(severity_BCL)[:, None].expand(distorted_BRCL.shape)
    return Edges(first_BRCL.flatten(), distorted_BRCL.flatten(), weight_BRCL.flatten(), layout.nodes)


def distorted_distorted(layout: Layout, severity_BCL: Tensor, settings: GraphSettings) -> Edges:
    """G_dd (eq. 10), the largest entries of the whole matrix.

    Equal entries are the rule, so pairs are chosen, in the order of their nodes among equals, and symmetry survives.
    """
    device = severity_BCL.device
    nodes_BCM = layout.distorted_nodes(device).transpose(1, 2).flatten(2)  # M = R · L images of a group
    severity_BCM = severity_BCL.repeat(1, 1, layout.references)
    one, other = torch.triu_indices(nodes_BCM.shape[-1], nodes_BCM.shape[-1], offset=1, device=device)
    weight_E = settings.phi((severity_BCM[..., one] - severity_BCM[..., other]).abs()).flatten()
    first_E, second_E = nodes_BCM[..., one].flatten(), nodes_BCM[..., other].flatten()
    if settings.top_dd // 2 < len(weight_E):
        in_order_E = (first_E * layout.nodes + second_E).argsort()
        kept = in_order_E[weight_E[in_order_E].sort(descending=True, stable=True).indices[: settings.top_dd // 2]]
        first_E, second_E, weight_E = first_E[kept], second_E[kept], weight_E[kept]
    return Edges(first_E, second_E, weight_E, layout.nodes)


def reference_reference(layout: Layout, like: Tensor, settings: GraphSettings) -> Edges:
    """G_rr (eq. 11), across tiny-batches too."""
    references = layout.tiny_batches * layout.references
    first_E, second_E = torch.triu_indices(references, references, offset=1, device=like.device)
    return Edges(first_E, second_E, like.new_full((len(first_E),), settings.w_rr), layout.nodes)


def nearest(features_ND: Tensor, settings: GraphSettings) -> Edges:
    """G_k (eq. 12): the k largest cosines of each row; a row of zeros has the cosine 0 with all."""
    nodes = len(features_ND)
    unit_ND = F.normalize(features_ND, dim=1)
    k = min(settings.neighbours, nodes - 1)
    with torch.no_grad():
        tops = [block.topk(k, dim=1) for _, block in _products_by_rows(unit_ND, unit_ND, without_selfs=True)]
        column_E = torch.cat([top.indices for top in tops]).flatten()
        value_E = torch.cat([top.values for top in tops]).flatten()
    row_E = torch.arange(nodes, device=column_E.device).repeat_interleave(k)
    if settings.gradient:
        value_E = _products(unit_ND, unit_ND, row_E, column_E)
    return symmetric_mean(row_E, column_E, value_E.clamp(min=0), nodes)


def transported(log_a_NK: Tensor, settings: GraphSettings) -> Edges:
    """G_o (eq. 13): S = A log Aᵀ scaled to [0, 1] over all N² entries, of which the largest are kept.

    Empty where all entries are equal, up to the precision of the numbers.
    """
    nodes = len(log_a_NK)
    a_NK = log_a_NK.exp()
    with torch.no_grad():
        extremes = []
        for start, block in _products_by_rows(a_NK, log_a_NK):
            extremes += [(block.min(), block.argmin() + start * nodes), (block.max(), block.argmax() + start * nodes)]
        values, places = (torch.stack(column) for column in zip(*extremes))
        ends = torch.stack([values.argmin(), values.argmax()])
        low, high = values[ends]
        if high - low <= 64 * torch.finfo(values.dtype).eps * values.abs().max():
            none = places.new_zeros(0)
            return Edges(none, none, values.new_zeros(0), nodes)
        place_E, value_E = _largest(a_NK, log_a_NK, settings)
    row_E, column_E = place_E // nodes, place_E % nodes
    if settings.gradient:
        value_E = _products(a_NK, log_a_NK, row_E, column_E)
        low, high = _products(a_NK, log_a_NK, places[ends] // nodes, places[ends] % nodes)
    return symmetric_mean(row_E, column_E, (value_E - low) / (high - low), nodes)


def _largest(a_NK: Tensor, log_a_NK: Tensor, settings: GraphSettings) -> tuple[Tensor, Tensor]:
    """Places in the flattened matrix and values of the entries of S that are kept."""
    nodes = len(a_NK)
    of_row = settings.top_ot_of_row
    wanted = 8 * nodes if settings.top_ot is None else settings.top_ot
    without_selfs = settings.selfs_first or of_row is not None
    place_E = torch.zeros(0, dtype=torch.long, device=a_NK.device)
    value_E = a_NK.new_zeros(0)
    for start, block in _products_by_rows(a_NK, log_a_NK, without_selfs):
        if of_row is not None:
            top = block.topk(min(of_row, nodes - 1), dim=1)
            rows = torch.arange(start, start + len(block), device=block.device)[:, None]
            place_E = torch.cat([place_E, (rows * nodes + top.indices).flatten()])
            value_E = torch.cat([value_E, top.values.flatten()])
            continue
        top = block.flatten().topk(min(wanted, block.numel()))
        place_E = torch.cat([place_E, top.indices + start * nodes])
        value_E = torch.cat([value_E, top.values])
        best = value_E.topk(min(wanted, len(value_E)))
        place_E, value_E = place_E[best.indices], best.values
    finite_E = value_E > -math.inf  # more wanted than there are
    return place_E[finite_E], value_E[finite_E]


def _products_by_rows(left_NX: Tensor, right_NX: Tensor, without_selfs: bool = False) -> Iterator[tuple[int, Tensor]]:
    """left · rightᵀ in blocks of rows: the number of a block's first row, and the block (rows, N)."""
    nodes = len(left_NX)
    size = max(1, CHUNK_NUMBERS // nodes)
    for start in range(0, nodes, size):
        block = left_NX[start : start + size] @ right_NX.T
        if without_selfs:
            rows = torch.arange(len(block), device=block.device)
            block[rows, rows + start] = -math.inf
        yield start, block


def _products(left_NX: Tensor, right_NX: Tensor, row_E: Tensor, column_E: Tensor) -> Tensor:
    return (left_NX[row_E] * right_NX[column_E]).sum(dim=1)
