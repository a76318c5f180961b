"""The objective that the published results come from, as far as it differs from the paper's equations.

Six graphs instead of five: "structural" joins distorted views of equal composition and level whose numbers in the
tiny-batch have equal parity (with each reference seen at full and at half size, in this order, different contents).
Of the merged graph only what lies above the diagonal counts. The values of knn and ot carry gradient into the encoder.
Variance and covariance are those of two halves of the batch, added.

Legend: N nodes, B tiny-batches, R references (views), C groups, L levels, D features, K prototypes, M distortions.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from mriqa.pretrain.graphs.edges import Edges
from mriqa.pretrain.graphs.graph_losses import graph_losses, spread_losses
from mriqa.pretrain.graphs.layout import Layout
from mriqa.pretrain.graphs.prototypes import full_precision
from mriqa.pretrain.graphs.relations import GraphSettings, distorted_distorted, reference_distorted, reference_reference

RELEASED_GRAPHS = ("structural", "rd", "rr", "dd", "knn", "ot")


def released_edges(
    layout: Layout,
    severity_BCL: Tensor,
    features_ND: Tensor,
    log_a_NK: Tensor,
    settings: GraphSettings,
    names: Collection[str] = RELEASED_GRAPHS,
) -> dict[str, Edges]:
    """The graphs above the diagonal, as symmetric edges; where the published code adds a transpose, so do these.

    `features_ND` must be on the unit sphere, as the encoder puts them; `settings.gradient` is True in the published
    configuration.
    """
    with torch.autocast(features_ND.device.type, enabled=False):
        features_ND, log_a_NK = full_precision(features_ND, log_a_NK)
        if not settings.gradient:
            features_ND, log_a_NK = features_ND.detach(), log_a_NK.detach()
        severity_BCL = severity_BCL.to(features_ND)
        make = {
            "structural": lambda: structural(layout, severity_BCL),
            "rd": lambda: reference_distorted(layout, severity_BCL, settings),
            "rr": lambda: reference_reference(layout, severity_BCL, settings),
            "dd": lambda: distorted_distorted(layout, severity_BCL, settings),
            "knn": lambda: _nearest(features_ND, settings),
            "ot": lambda: _transported(log_a_NK, settings),
        }
        return {name: make[name]() for name in RELEASED_GRAPHS if name in names}


def structural(layout: Layout, like: Tensor) -> Edges:
    """Weight 1 between distorted views at equal (i, k, l) whose numbers differ by an even number."""
    nodes_BRCL = layout.distorted_nodes(like.device)
    one, other = torch.triu_indices(layout.references, layout.references, offset=1, device=like.device)
    even = (other - one) % 2 == 0
    first_E, second_E = nodes_BRCL[:, one[even]].flatten(), nodes_BRCL[:, other[even]].flatten()
    return Edges(first_E, second_E, like.new_ones(len(first_E)), layout.nodes)


def released_losses(z_ND: Tensor, graph: Edges, log_a_NK: Tensor, t_NK: Tensor, layout: Layout) -> dict[str, Tensor]:
    """The five terms, not weighted, to be weighted as the normalised ones are (`LossWeights.factors`)."""
    with torch.autocast(z_ND.device.type, enabled=False):
        z_ND, log_a_NK, t_NK = full_precision(z_ND, log_a_NK, t_NK)
        halves = [spread_losses(z_ND[half]) for half in _halves(layout)]
        invariance, regulariser = graph_losses(z_ND, graph)
        return {
            "variance": sum((variance for variance, _ in halves), z_ND.new_zeros(())) / 2,
            "covariance": sum((covariance for _, covariance in halves), z_ND.new_zeros(())) / 2,
            "invariance": invariance,
            "graph": regulariser,
            "ot": _transport_loss(log_a_NK, t_NK.detach().to(log_a_NK), layout),
        }


def _nearest(features_ND: Tensor, settings: GraphSettings) -> Edges:
    """1 / (1 + distance) of the nearest neighbours plus the transpose: mutual neighbours count twice."""
    nodes = len(features_ND)
    with torch.no_grad():
        far_NN = torch.cdist(features_ND, features_ND, compute_mode="donot_use_mm_for_euclid_dist")
        far_NN.fill_diagonal_(torch.inf)
        near_NN = torch.zeros_like(far_NN).scatter(
            1, far_NN.topk(min(settings.neighbours, nodes - 1), dim=1, largest=False).indices, 1.0
        )
        first_E, second_E = torch.triu(near_NN + near_NN.T, diagonal=1).nonzero().unbind(dim=1)
        times_E = (near_NN + near_NN.T)[first_E, second_E]
    # The root has no slope at 0, where equal images lie.
    square_E = (features_ND[first_E] - features_ND[second_E]).square().sum(dim=1)
    distance_E = torch.where(square_E > 0, square_E, 1.0).sqrt() * (square_E > 0)
    return Edges(first_E, second_E, times_E / (1 + distance_E), nodes)


def _transported(log_a_NK: Tensor, settings: GraphSettings) -> Edges:
    """The largest entries of the scaled transpose of S, of which those above the diagonal stay."""
    nodes = len(log_a_NK)
    s_NN = log_a_NK @ log_a_NK.exp().T
    low, high = s_NN.min(), s_NN.max()
    if high - low <= 64 * torch.finfo(s_NN.dtype).eps * s_NN.abs().max():
        none = torch.zeros(0, dtype=torch.long, device=s_NN.device)
        return Edges(none, none, s_NN.new_zeros(0), nodes)
    wanted = 8 * nodes if settings.top_ot is None else settings.top_ot
    place_E = s_NN.detach().flatten().topk(min(wanted, nodes * nodes)).indices
    first_E, second_E = place_E // nodes, place_E % nodes
    above_E = first_E < second_E
    first_E, second_E = first_E[above_E], second_E[above_E]
    return Edges(first_E, second_E, (s_NN[first_E, second_E] - low) / (high - low), nodes)


def _transport_loss(log_a_NK: Tensor, t_NK: Tensor, layout: Layout) -> Tensor:
    """As `transport_loss`, with pairs of views of equal parity only."""
    own = -(t_NK * log_a_NK).sum(dim=1).mean()
    edges = structural(layout, log_a_NK)
    if not len(edges.first_E):
        return own
    u, v = torch.cat([edges.first_E, edges.second_E]), torch.cat([edges.second_E, edges.first_E])
    return own - (t_NK[u] * log_a_NK[v]).sum(dim=1).mean()


def _halves(layout: Layout) -> tuple[Tensor, Tensor]:
    """Nodes of the first and of the second half of the tiny-batches, or of the views where there is one tiny-batch."""
    references_BR, distorted_BRCL = layout.reference_nodes(), layout.distorted_nodes()
    if layout.tiny_batches > 1:
        middle = layout.tiny_batches // 2
        parts = [(references_BR[half], distorted_BRCL[half]) for half in (slice(0, middle), slice(middle, None))]
    else:
        middle = layout.references // 2
        parts = [(references_BR[:, half], distorted_BRCL[:, half]) for half in (slice(0, middle), slice(middle, None))]
    first, second = (torch.cat([references.flatten(), distorted.flatten()]) for references, distorted in parts)
    return first, second
