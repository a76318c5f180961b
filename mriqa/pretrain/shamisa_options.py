"""The options of recipes/shamisa.py, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mriqa.pretrain.compositions import CompositionSettings
from mriqa.pretrain.graphs.graph_losses import LossWeights
from mriqa.pretrain.graphs.layout import Layout, PretrainError
from mriqa.pretrain.graphs.relations import GraphSettings
from mriqa.pretrain.pretraining_objective import ObjectiveSettings
from mriqa.pretrain.pretraining_run import PretrainPlan
from mriqa.pretrain.tiny_batches import TinyBatchSettings

PLACES = ("workers", "device")


@dataclass
class PretrainOptions:
    """All options; the defaults are what the paper states, and where it is silent the choices of docs/shamisa.md."""

    images: list[str] = field(
        default_factory=list, metadata={"help": "pristine pictures: folders, manifests, files, or wheels"}
    )
    output_dir: str = field(default="outputs/shamisa", metadata={"help": "folder to write to"})
    ablation: str | None = field(default=None, metadata={"help": "one of configs/shamisa/ablations.yaml, A1 to F1"})
    seed: int = field(default=27, metadata={"help": "of weights, data and distortions"})

    architecture: str = field(default="resnet50", metadata={"help": "a timm model, or lite0 for CPUs"})
    weights: str = field(default="random", metadata={"help": "random, imagenet (downloads), or a safetensors file"})
    embedding: int = field(default=256, metadata={"help": "d_z, width of the projector's output"})
    hidden: int | None = field(default=None, metadata={"help": "its hidden width (default: the encoder's width)"})
    checkpointing: bool = field(default=False, metadata={"help": "less memory, a third more computing"})
    sync_batchnorm: bool = field(default=False, metadata={"help": "batch statistics over all processes"})

    tiny_batches: int = field(default=2, metadata={"help": "B, in each process"})
    references: int = field(default=3, metadata={"help": "R, in each tiny-batch"})
    groups: int = field(default=4, metadata={"help": "C, compositions in each tiny-batch"})
    levels: int = field(default=5, metadata={"help": "L, along each composition"})
    crop: int = field(default=224, metadata={"help": "side of the crops in pixels"})
    half_scale: bool = field(default=False, metadata={"help": "show each reference at half its size too"})
    most: int = field(default=7, metadata={"help": "M_d, the most distortions of a composition"})
    sigma: float = field(default=0.5, metadata={"help": "spread of the half-normal severities"})
    severity: str = field(default="half_normal", metadata={"help": "half_normal, levels or uniform"})
    order: str = field(default="random", metadata={"help": "of distortions: random, sorted or first"})
    distort_on: str = field(default="workers", metadata={"help": "make the images in loader workers, or on the device"})

    objective: str = field(default="normalised", metadata={"help": "normalised, literal or released"})
    graphs: list[str] | None = field(default=None, metadata={"help": "learn from these only: rd dd rr knn ot"})
    mixture: str = field(default="frozen", metadata={"help": "frozen, learned or fixed"})
    fixed_weights: list[float] | None = field(default=None, metadata={"help": "of the graphs, in a fixed mixture"})
    binary: bool = field(default=False, metadata={"help": "every edge of the mixed graph counts 1"})
    graph_gradient: bool = field(default=False, metadata={"help": "gradient through the values of knn and ot"})
    coefficient_structural: float | None = field(default=None, metadata={"help": "of the released objective's graph"})
    coefficient_rd: float | None = field(default=None, metadata={"help": "of rd (default: the tuned one; literal: 1)"})
    coefficient_dd: float | None = field(default=None, metadata={"help": "of dd, likewise"})
    coefficient_knn: float | None = field(default=None, metadata={"help": "of knn, likewise"})
    coefficient_ot: float | None = field(default=None, metadata={"help": "of ot, likewise"})
    kappa: float = field(default=3.0, metadata={"help": "how fast relations fall with severity"})
    falloff: str = field(default="exponential", metadata={"help": "exponential or reciprocal"})
    w_rr: float = field(default=0.5766, metadata={"help": "weight between references"})
    neighbours: int = field(default=31, metadata={"help": "k_n of knn"})
    top_dd: int = field(default=4096, metadata={"help": "K_d, entries of dd"})
    top_ot: int | None = field(default=None, metadata={"help": "K_g, entries of ot (default: 8 for each image)"})
    top_ot_of_row: int | None = field(default=None, metadata={"help": "keep so many in each row of ot instead"})
    selfs_first: bool = field(default=False, metadata={"help": "take self-edges out of ot first"})
    prototypes: int = field(default=32, metadata={"help": "K"})
    temperature: float = field(default=0.1, metadata={"help": "of the assignments"})
    epsilon: float = field(default=0.05, metadata={"help": "of the transport"})
    rounds: int | None = field(default=None, metadata={"help": "of Sinkhorn (default: to 1e-4, 100 at most)"})
    alpha: float = field(default=11.98, metadata={"help": "weight of the variance"})
    beta: float = field(default=57.21, metadata={"help": "of the covariance"})
    gamma: float = field(default=88.37, metadata={"help": "of the invariance"})
    eta: float = field(default=0.4906, metadata={"help": "of the transport"})
    xi: float = field(default=0.0342, metadata={"help": "of the graph's regulariser"})
    gather: bool = field(default=False, metadata={"help": "variance and covariance over all processes"})

    steps: int = field(default=70_000, metadata={"help": "updates; 0 keeps the encoder as it is"})
    optimizer: str = field(default="sgd", metadata={"help": "sgd, as in the paper, or adamw"})
    learning_rate: float = field(default=1.5e-3, metadata={"help": "at the start"})
    final_rate: float = field(default=1e-6, metadata={"help": "at the end, along a cosine"})
    momentum: float = field(default=0.9, metadata={"help": "of SGD; AdamW's first beta"})
    weight_decay: float = field(default=1e-4, metadata={"help": "of every parameter"})
    bf16: bool = field(default=False, metadata={"help": "mixed precision; graphs and losses stay float32"})
    cpu: bool = field(default=False, metadata={"help": "leave an accelerator alone"})
    workers: int = field(default=4, metadata={"help": "processes that load ahead"})
    log_every: int = field(default=50, metadata={"help": "steps to a line of the log"})
    diagnose_every: int = field(default=1000, metadata={"help": "steps to a diagnosis of the features; 0 for none"})
    snapshot_every: int = field(
        default=0, metadata={"help": "steps to a snapshot of the encoder on the way, as for Fig. 5 (5000); 0 for none"}
    )
    checkpoint_minutes: float = field(default=5.0, metadata={"help": "least time between checkpoints"})

    def with_overrides(self, overrides: Mapping[str, Any]) -> PretrainOptions:
        """The same with some options changed. PretrainError for one that there is not."""
        known = {each.name for each in fields(self)}
        unknown = [name for name in overrides if name not in known]
        if unknown:
            raise PretrainError(f"There is no option {unknown[0]!r}; --help lists them.")
        return replace(self, **overrides)

    @property
    def tiny_batch_settings(self) -> TinyBatchSettings:
        """What a tiny-batch is. PretrainError for what cannot be."""
        if self.distort_on not in PLACES:
            raise PretrainError(f"Unknown distort_on {self.distort_on!r}; choose one of: {', '.join(PLACES)}.")
        compositions = CompositionSettings(self.groups, self.levels, self.most, self.sigma, self.severity, self.order)
        return TinyBatchSettings(
            self.references, self.crop, self.half_scale, compositions, self.distort_on == "workers", self.seed
        )

    @property
    def layout(self) -> Layout:
        """Sizes of a batch, in each process."""
        return self.tiny_batch_settings.layout(self.tiny_batches)

    @property
    def objective_settings(self) -> ObjectiveSettings:
        """The loss. PretrainError for what cannot be."""
        own = {name: getattr(self, f"coefficient_{name}") for name in ("structural", "rd", "dd", "knn", "ot")}
        relations = GraphSettings(
            self.kappa, self.falloff, self.w_rr, self.neighbours, self.top_dd, self.top_ot, self.top_ot_of_row,
            self.selfs_first, self.graph_gradient,
        )  # fmt: skip
        return ObjectiveSettings(
            preset=self.objective,
            graphs=None if self.graphs is None else tuple(self.graphs),
            coefficients={name: value for name, value in own.items() if value is not None},
            binary=self.binary,
            mixture=self.mixture,
            fixed_weights=None if self.fixed_weights is None else tuple(self.fixed_weights),
            relations=relations,
            weights=LossWeights(self.alpha, self.beta, self.gamma, self.eta, self.xi),
            prototypes=self.prototypes,
            temperature=self.temperature,
            epsilon=self.epsilon,
            rounds=self.rounds,
            embedding=self.embedding,
            hidden=self.hidden,
            gather=self.gather,
        )

    @property
    def plan(self) -> PretrainPlan:
        """How long and how fast. PretrainError for what cannot be."""
        own = {each.name: getattr(self, each.name) for each in fields(PretrainPlan)}
        return PretrainPlan(**own)
