"""What pretraining trains: encoder, projector, prototypes and mixture, and the loss of a batch (§III).

Legend: N images, D features, E embedding width, K prototypes, B tiny-batches, C groups, L levels, T graphs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mriqa.pretrain.graphs.edges import Edges, mixed
from mriqa.pretrain.graphs.graph_losses import PRESETS, LossWeights, shamisa_losses, total_loss
from mriqa.pretrain.graphs.graph_mixture import GraphMixture
from mriqa.pretrain.graphs.layout import Layout, PretrainError
from mriqa.pretrain.graphs.prototypes import assignments, full_precision, prototype_logits, sinkhorn
from mriqa.pretrain.graphs.relations import GRAPHS, GraphSettings, relation_edges
from mriqa.pretrain.graphs.released import RELEASED_GRAPHS, released_edges, released_losses
from mriqa.pretrain.quality_encoder import QualityEncoder

TUNED = {
    "structural": 0.6010794863656556,
    "rd": 0.8038735892351129,
    "dd": 0.1789641360878255,
    "knn": 0.20874201442160423,
    "ot": 0.3670314792148166,
}
"""Coefficients of the graphs in the published code; that of rr is `w_rr`. They set the balance that was tuned."""
SINKHORN_TOLERANCE, SINKHORN_ROUNDS = 1e-4, 100


@dataclass(frozen=True)
class ObjectiveSettings:
    """The objective's own settings; sizes of a batch are its layout's.

    Attributes:
        preset: "normalised", "literal" or "released" (see `graphs.graph_losses` and `graphs.released`).
        graphs: those to learn from; None is all of the preset's.
        coefficients: of each graph, before the mixture; those not named are `TUNED`, or 1 in the literal preset.
        binary: every edge of the mixed graph counts 1 (ablation A1).
        mixture, fixed_weights: see `GraphMixture`.
        relations: see `GraphSettings`.
        weights: α, β, γ, η, ξ.
        prototypes, temperature, epsilon: K, τ_c and the entropic regularisation of the targets.
        rounds: of Sinkhorn; None stops at a column error of 1e-4, or after 100.
        embedding, hidden: widths of the projector; hidden None is the encoder's.
        gather: variance and covariance over the images of all processes.
    """

    preset: str = "normalised"
    graphs: tuple[str, ...] | None = None
    coefficients: Mapping[str, float] = field(default_factory=dict)
    binary: bool = False
    mixture: str = "frozen"
    fixed_weights: tuple[float, ...] | None = None
    relations: GraphSettings = field(default_factory=GraphSettings)
    weights: LossWeights = field(default_factory=LossWeights)
    prototypes: int = 32
    temperature: float = 0.1
    epsilon: float = 0.05
    rounds: int | None = None
    embedding: int = 256
    hidden: int | None = None
    gather: bool = False

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise PretrainError(f"Unknown objective {self.preset!r}; choose one of: {', '.join(PRESETS)}.")
        known = RELEASED_GRAPHS if self.preset == "released" else GRAPHS
        unknown = [name for name in (*(self.graphs or ()), *self.coefficients) if name not in known]
        if unknown:
            raise PretrainError(f"The {self.preset} objective has no graph {unknown[0]!r}; it has {', '.join(known)}.")
        for name in ("prototypes", "embedding"):
            if getattr(self, name) < 1:
                raise PretrainError(f"{name} must be at least 1, not {getattr(self, name)}.")

    @property
    def graph_names(self) -> tuple[str, ...]:
        """The graphs that are used, in order."""
        known = RELEASED_GRAPHS if self.preset == "released" else GRAPHS
        return tuple(name for name in known if self.graphs is None or name in self.graphs)

    def coefficient(self, graph: str) -> float:
        """What the graph is multiplied with before the mixture."""
        usual = 1.0 if self.preset == "literal" else TUNED.get(graph, 1.0)
        return self.coefficients.get(graph, usual)


@dataclass(frozen=True)
class Relations:
    """How the images of a batch are related: log A and T (N, K), the mixture's weights (T,) and the mixed graph."""

    log_a_NK: Tensor
    t_NK: Tensor
    omega_T: Tensor
    graph: Edges


class PretrainingObjective(nn.Module):
    """Images of a batch and their varying severities to the loss, its terms and the mixture's weights.

    Arguments:
        encoder: what is to be learned.
        settings: of the loss.
        layout: sizes of every batch; of each process, where there are several.
    """

    def __init__(self, encoder: QualityEncoder, settings: ObjectiveSettings, layout: Layout):
        super().__init__()
        self.encoder, self.settings, self.layout = encoder, settings, layout
        hidden = settings.hidden or encoder.width
        self.projector = nn.Sequential(
            nn.Linear(encoder.width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, settings.embedding)
        )
        bound = 1 / math.sqrt(encoder.width)
        self.prototypes_KD = nn.Parameter(torch.empty(settings.prototypes, encoder.width).uniform_(-bound, bound))
        self.mixture = GraphMixture(settings.graph_names, settings.mixture, settings.fixed_weights)

    def forward(self, images_N3HW: Tensor, severity_BCL: Tensor) -> dict[str, Tensor]:
        """{"loss", "variance", "covariance", "invariance", "graph", "ot"}: scalars, and {"omega"}: (T,).

        Images are in the layout's order and in [0, 1].
        """
        features_ND = self.encoder(images_N3HW)
        return self.losses(self.projector(features_ND), self.relate(features_ND, severity_BCL))

    def relate(self, features_ND: Tensor, severity_BCL: Tensor) -> Relations:
        """Assignments, targets and the mixed graph, from what the encoder gave."""
        settings = self.settings
        with torch.autocast(features_ND.device.type, enabled=False):
            features_ND, prototypes_KD = full_precision(features_ND, self.prototypes_KD)
            log_a_NK = assignments(features_ND, prototypes_KD, settings.temperature)
            exact = settings.rounds is not None
            t_NK = sinkhorn(
                prototype_logits(features_ND, prototypes_KD),
                settings.epsilon,
                settings.rounds if exact else SINKHORN_ROUNDS,
                tolerance=None if exact else SINKHORN_TOLERANCE,
            )
            make = released_edges if settings.preset == "released" else relation_edges
            edges = make(self.layout, severity_BCL, features_ND, log_a_NK, settings.relations, settings.graph_names)
            edges = {name: graph.scaled(settings.coefficient(name)) for name, graph in edges.items()}
            omega_T = self.mixture(edges)
            graph = mixed(list(edges.values()), omega_T)
            return Relations(log_a_NK, t_NK, omega_T, graph.binary() if settings.binary else graph)

    def losses(self, z_NE: Tensor, relations: Relations) -> dict[str, Tensor]:
        """What `forward` returns, from what the projector gave."""
        settings, inputs = self.settings, (relations.graph, relations.log_a_NK, relations.t_NK, self.layout)
        if settings.preset == "released":
            terms = released_losses(z_NE, *inputs)
        else:
            terms = shamisa_losses(z_NE, *inputs, settings.preset == "normalised", gather=settings.gather)
        loss = total_loss(terms, settings.weights.factors(settings.preset, settings.prototypes))
        return {"loss": loss, **terms, "omega": relations.omega_T}
