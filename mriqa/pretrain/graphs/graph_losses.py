"""The five terms that pretraining minimises (eqs. 4, 5, 7, 14 and 19), and how they add up.

As printed ("literal") they are sums over everything, so their balance depends on the number of images and widths, and
is not the balance that the published weights were tuned with. "normalised", the default, divides by those.

| term        | literal                     | normalised                       |
|-------------|-----------------------------|----------------------------------|
| variance    | Σ_t relu(1 − √Cov_tt)       | mean_t relu(1 − √(Cov_tt + 1e-4)) |
| covariance  | Σ_{t≠u} Cov_tu²             | 2/D of that                      |
| invariance  | Σ_ij G_ij ‖z_i − z_j‖²      | 1/(N D) of that                  |
| graph       | −Σ_ij G_ij²                 | the same                         |
| ot          | mean CE(T_n, A_n) + mean over pairs of equal distortion of CE(T_u, A_v)         | the same |

Legend: N images, D embedding width, K prototypes, B tiny-batches, R references, C groups, L levels, E edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mriqa.gather import gather_batch
from mriqa.pretrain.graphs.edges import Edges, squared_distances
from mriqa.pretrain.graphs.layout import Layout, PretrainError
from mriqa.pretrain.graphs.prototypes import full_precision

PRESETS = ("normalised", "literal", "released")
UNDER_ROOT = 1e-4


@dataclass(frozen=True)
class LossWeights:
    """α, β, γ, η and ξ of eqs. 8 and 19, as published.

    The normalised and the released objective put η/K and ξ inside γ, which is where the published values were tuned.
    """

    alpha: float = 11.98
    beta: float = 57.21
    gamma: float = 88.37
    eta: float = 0.4906
    xi: float = 0.0342

    def factors(self, preset: str, prototypes: int) -> dict[str, float]:
        """The weight of each term."""
        inside = self.gamma if preset != "literal" else 1.0
        return {
            "variance": self.alpha,
            "covariance": self.beta,
            "invariance": self.gamma,
            "graph": inside * self.xi,
            "ot": inside * self.eta / (prototypes if preset != "literal" else 1),
        }


def total_loss(losses: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """Σ factor · term."""
    return torch.stack([factors[name] * loss for name, loss in losses.items()]).sum()


def shamisa_losses(
    z_ND: Tensor,
    graph: Edges | Tensor,
    log_a_NK: Tensor,
    t_NK: Tensor,
    layout: Layout,
    normalised: bool = True,
    *,
    gather: bool = False,
) -> dict[str, Tensor]:
    """The five terms of a batch, not weighted: variance, covariance, invariance, graph and ot.

    Args:
        z_ND: projector outputs, in the layout's order.
        graph: the mixed graph, as edges or as an (N, N) matrix.
        log_a_NK: logarithms of the assignments.
        t_NK: their targets; no gradient passes to them.
        layout: sizes and order of the batch.
        normalised: see the table above.
        gather: variance and covariance over the images of all processes.

    Raises:
        PretrainError: fewer than two images, or sizes that don't fit the layout.
    """
    for name, tensor in {"embeddings": z_ND, "assignments": log_a_NK, "targets": t_NK}.items():
        if len(tensor) != layout.nodes:
            raise PretrainError(f"{layout} has {layout.nodes} images, but there are {len(tensor)} {name}.")
    with torch.autocast(z_ND.device.type, enabled=False):
        z_ND, log_a_NK, t_NK = full_precision(z_ND, log_a_NK, t_NK)
        variance, covariance = spread_losses(gather_batch(z_ND) if gather else z_ND, normalised)
        invariance, regulariser = graph_losses(z_ND, graph, normalised)
        return {
            "variance": variance,
            "covariance": covariance,
            "invariance": invariance,
            "graph": regulariser,
            "ot": transport_loss(log_a_NK, t_NK, layout),
        }


def spread_losses(z_ND: Tensor, normalised: bool = True) -> tuple[Tensor, Tensor]:
    """Variance and covariance terms (eqs. 4 and 5), with N − 1 in Cov. Raises PretrainError for a single image."""
    count, width = z_ND.shape
    if count < 2:
        raise PretrainError("Variance needs at least two images; make the batch larger.")
    centred_ND = z_ND - z_ND.mean(dim=0)
    cov_DD = centred_ND.T @ centred_ND / (count - 1)
    variance_D = cov_DD.diagonal()
    covariance = (cov_DD - torch.diag(variance_D)).square().sum()
    if normalised:
        return torch.relu(1 - (variance_D + UNDER_ROOT).sqrt()).mean(), 2 / width * covariance
    # The root has no slope at 0: a constant dimension gets the value 1 and no gradient, instead of NaN.
    spread_D = torch.where(variance_D > 0, variance_D, 1.0).sqrt() * (variance_D > 0)
    return torch.relu(1 - spread_D).sum(), covariance


def graph_losses(z_ND: Tensor, graph: Edges | Tensor, normalised: bool = True) -> tuple[Tensor, Tensor]:
    """Invariance (eq. 7) and the regulariser of the graph (eq. 19), over its edges only."""
    if isinstance(graph, Edges):
        first_E, second_E, weight_E, times = graph.first_E, graph.second_E, graph.weight_E.to(z_ND), 2
    else:
        first_E, second_E = graph.nonzero().unbind(dim=1)
        weight_E, times = graph[first_E, second_E].to(z_ND), 1
    distance_E = squared_distances(z_ND, first_E, second_E)
    scale = z_ND.numel() if normalised else 1
    return times * (weight_E * distance_E).sum() / scale, -times * weight_E.square().sum()


def transport_loss(log_a_NK: Tensor, t_NK: Tensor, layout: Layout) -> Tensor:
    """L_ot (eq. 14): assignments against their targets, and against those of equal distortion on other contents."""
    t_NK = t_NK.detach().to(log_a_NK)
    own = -(t_NK * log_a_NK).sum(dim=1).mean()
    if layout.references == 1:
        return own
    nodes_MR = layout.distorted_nodes(own.device).movedim(1, -1).flatten(0, -2)  # M = B · C · L distortions
    crossed_MRR = -(t_NK[nodes_MR] @ log_a_NK[nodes_MR].transpose(1, 2))
    selfs_M = crossed_MRR.diagonal(dim1=1, dim2=2).sum(dim=1)
    pairs = crossed_MRR.numel() * (layout.references - 1) / layout.references
    return own + (crossed_MRR.sum() - selfs_M.sum()) / pairs
