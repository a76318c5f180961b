"""SHAMISA pretraining: time and memory of one step by its parts, and what graphs and losses cost as lists of edges.

    python benchmarks/shamisa_step.py                        # Table IV: ResNet-50, 126 images of 224 px; some minutes
    python benchmarks/shamisa_step.py --quick                # a small network, 32 px
    python benchmarks/shamisa_step.py --json shamisa_step.json

A step is distorting, the encoder and its projector forward and backward with the update, graphs (with assignments,
targets and mixture), and losses with their backward. The claims:

- graphs and losses beside the whole step (ratio 20: they are a twentieth of it);
- distorting with what precedes the varying distortion computed once, beside the whole chain for every image;
- graphs and losses as edges beside (N, N) matrices, in time and in peak memory, on the same features with equal
  results: at the step's N and at 1,008.

One thread on a CPU. Memory is the peak that torch's allocator reaches above what was held before, on a CPU as its
profiler records it.

Legend: N images, D features, E embedding width, B tiny-batches, K prototypes, T graphs.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from timing import Claim, in_turn, machine, parser, peak_bytes, write
from torch import Tensor

from mriqa.pretrain.compositions import CompositionSettings, draw_compositions
from mriqa.pretrain.graphs.edges import mixed
from mriqa.pretrain.graphs.graph_losses import shamisa_losses, spread_losses, transport_loss
from mriqa.pretrain.graphs.layout import Layout
from mriqa.pretrain.graphs.prototypes import assignments
from mriqa.pretrain.graphs.relations import GraphSettings, relation_edges
from mriqa.pretrain.pretraining_objective import ObjectiveSettings, PretrainingObjective
from mriqa.pretrain.quality_encoder import build_encoder
from mriqa.pretrain.trajectories import distorted_images

REFERENCES, GROUPS, LEVELS = 3, 4, 5
MANY = 16  # tiny-batches of 1,008 images
PARTS = ("distorting", "encoder", "graphs", "losses")


class Step:
    """One training step again and again, each of its parts by the clock."""

    def __init__(self, architecture: str, crop: int, device: str):
        self.device = device
        self.layout = Layout(2, REFERENCES, GROUPS, LEVELS)
        torch.manual_seed(0)
        self.objective = PretrainingObjective(build_encoder(architecture), ObjectiveSettings(), self.layout)
        self.objective.to(device)
        self.optimizer = torch.optim.SGD(self.objective.parameters(), lr=1e-4, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        smooth = torch.rand(2 * REFERENCES, 3, crop // 8, crop // 8, generator=generator)
        references = F.interpolate(smooth, (crop, crop), mode="bicubic").clamp(0, 1).to(device)
        self.references = references.unflatten(0, (2, REFERENCES))
        self.compositions = [draw_compositions(CompositionSettings(), REFERENCES, generator) for _ in range(2)]
        self.severity = torch.stack([own.varying_severity for own in self.compositions]).to(device)

    def distorted(self, share_prefix: bool = True) -> Tensor:
        parts = [distorted_images(own, each, share_prefix) for own, each in zip(self.references, self.compositions)]
        return torch.cat([self.references.flatten(0, 1), torch.stack(parts).flatten(0, 3)])

    def now(self) -> float:
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def distorting(self, share_prefix: bool) -> list[float]:
        start = self.now()
        self.distorted(share_prefix)
        return [1e3 * (self.now() - start)]

    def run(self) -> dict[str, float]:
        """Milliseconds of each part."""
        times = [self.now()]
        images = self.distorted()
        times.append(self.now())
        features = self.objective.encoder(images)
        z = self.objective.projector(features)
        times.append(self.now())
        ends = [features.detach().requires_grad_(), z.detach().requires_grad_()]
        relations = self.objective.relate(ends[0], self.severity)
        times.append(self.now())
        loss = self.objective.losses(ends[1], relations)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        times.append(self.now())
        torch.autograd.backward([features, z], [end.grad for end in ends])
        self.optimizer.step()
        times.append(self.now())
        spans = [1e3 * (later - earlier) for earlier, later in pairwise(times)]
        return dict(zip(PARTS, (spans[0], spans[1] + spans[4], spans[2], spans[3])))


class Related:
    """Graphs and losses of one batch of features, as edges and as matrices."""

    def __init__(self, tiny_batches: int, width: int, device: str):
        self.layout = Layout(tiny_batches, REFERENCES, GROUPS, LEVELS)
        generator = torch.Generator().manual_seed(tiny_batches)
        shared = torch.randn(1, width, generator=generator)
        features = shared + 0.5 * torch.randn(self.layout.nodes, width, generator=generator)
        self.h = F.normalize(features, dim=1).to(device)
        self.z = torch.randn(self.layout.nodes, 256, generator=generator).to(device).requires_grad_()
        prototypes = torch.randn(32, width, generator=generator) / width**0.5
        self.log_a = assignments(self.h, prototypes.to(device), 0.1)
        self.t = self.log_a.exp()
        self.severity = torch.rand(tiny_batches, GROUPS, LEVELS, generator=generator).to(device)
        self.omega = torch.full((5,), 0.2, device=device)
        self.settings = GraphSettings()

    def as_edges(self) -> dict[str, Tensor]:
        edges = relation_edges(self.layout, self.severity, self.h, self.log_a, self.settings)
        return shamisa_losses(self.z, mixed(list(edges.values()), self.omega), self.log_a, self.t, self.layout)

    def as_matrices(self) -> dict[str, Tensor]:
        graph = torch.zeros(self.layout.nodes, self.layout.nodes, device=self.h.device)
        for weight, own in zip(self.omega, self.matrices()):
            graph = graph + weight * own
        variance, covariance = spread_losses(self.z)
        return {
            "variance": variance,
            "covariance": covariance,
            "invariance": (graph * torch.cdist(self.z, self.z).square()).sum() / self.z.numel(),
            "graph": -graph.square().sum(),
            "ot": transport_loss(self.log_a, self.t, self.layout),
        }

    def matrices(self) -> list[Tensor]:
        """The five graphs by comparing all with all."""
        layout, device, count = self.layout, self.h.device, self.layout.nodes
        references = layout.tiny_batches * REFERENCES
        group = torch.full((count,), -1, device=device)
        severity, owner = torch.zeros(count, device=device), torch.arange(count, device=device)
        nodes = layout.distorted_nodes(device)
        shape = nodes.shape
        number = torch.arange(layout.tiny_batches * GROUPS, device=device).view(-1, 1, GROUPS, 1)
        group[nodes] = number.expand(shape)
        severity[nodes] = self.severity[:, None].expand(shape)
        owner[nodes] = layout.reference_nodes(device)[:, :, None, None].expand(shape)

        is_reference = owner == torch.arange(count, device=device)
        directed = (owner[None] == torch.arange(count, device=device)[:, None]) & ~is_reference[None]
        rd = directed * torch.exp(-3 * severity)[None]
        same = (group[:, None] == group[None]) & (group >= 0)[None]
        dd = torch.triu(same * torch.exp(-3 * (severity[:, None] - severity[None]).abs()), diagonal=1)
        kept = dd.flatten().sort(descending=True, stable=True).indices[: self.settings.top_dd // 2]
        dd = torch.zeros_like(dd).flatten().index_put((kept,), dd.flatten()[kept]).view_as(dd)
        rr = torch.zeros_like(dd)
        rr[:references, :references] = self.settings.w_rr
        cosines = (self.h @ self.h.T).fill_diagonal_(-torch.inf)
        top = cosines.topk(self.settings.neighbours, dim=1)
        knn = torch.zeros_like(dd).scatter(1, top.indices, top.values.clamp(min=0))
        s = self.log_a.exp() @ self.log_a.T
        s = (s - s.min()) / (s.max() - s.min())
        best = s.flatten().topk(8 * count)
        ot = torch.zeros_like(dd).flatten().index_put((best.indices,), best.values).view_as(dd)
        graphs = [rd + rd.T, dd + dd.T, rr, (knn + knn.T) / 2, (ot + ot.T) / 2]
        return [graph.fill_diagonal_(0) for graph in graphs]

    def update(self, form: Any) -> None:
        """Graphs, losses and their gradient."""
        self.z.grad = None
        losses = form()
        (losses["variance"] + losses["covariance"] + losses["invariance"]).backward()
        if self.z.is_cuda:
            torch.cuda.synchronize()

    def milliseconds(self, form: Any) -> list[float]:
        start = time.perf_counter()
        self.update(form)
        return [1e3 * (time.perf_counter() - start)]


def whole_step(step: Step, rounds: int, settings: dict[str, Any]) -> list[Claim]:
    """The parts of a step, and what sharing the prefix saves."""
    step.run()  # warms up
    parts = [step.run() for _ in range(rounds)]
    split = {part: statistics.median(each[part] for each in parts) for part in PARTS}
    peak = peak_bytes(step.run, step.device != "cpu")
    settings = {**settings, "milliseconds": split, "peak_memory_mb": peak / 1e6}
    print("one step: " + ", ".join(f"{part} {span:.1f} ms" for part, span in split.items()))
    shared, plain = in_turn(lambda: step.distorting(True), lambda: step.distorting(False), rounds)
    learned = sum(split[part] for part in PARTS[1:])
    related = split["graphs"] + split["losses"]
    return [
        Claim("shamisa/graphs and losses", related, learned, "the step without distorting", "ms", settings),
        Claim("shamisa/distorting", shared, plain, "every image through its whole chain", "ms", settings),
    ]


def edges_beside_matrices(related: Related, rounds: int, settings: dict[str, Any]) -> list[Claim]:
    """Time and peak memory of graphs and losses in both forms, which must agree."""
    ours, theirs = related.as_edges(), related.as_matrices()
    for name, value in ours.items():
        if not torch.allclose(value, theirs[name], rtol=1e-3):
            raise AssertionError(f"both forms must agree, but {name} is {value.item()} and {theirs[name].item()}")
    sides = [lambda form=form: related.milliseconds(form) for form in (related.as_edges, related.as_matrices)]
    in_turn(*sides, rounds=1)
    times = in_turn(*sides, rounds=rounds)
    memory = [
        peak_bytes(lambda form=form: related.update(form), related.z.is_cuda) / 1e6
        for form in (related.as_edges, related.as_matrices)
    ]
    count = related.layout.nodes
    settings = {**settings, "images": count, "features": related.h.shape[1], "embedding": related.z.shape[1]}
    return [
        Claim(f"shamisa/time of graphs and losses, N={count}", *times, "(N, N) matrices", "ms", settings),
        Claim(f"shamisa/memory of graphs and losses, N={count}", *memory, "(N, N) matrices", "MB", settings),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    options = parser(__doc__)
    options.add_argument("--architecture", help="a timm model (default resnet50; test_resnet with --quick)")
    options.add_argument("--crop", type=int, help="pixels (default 224; 32 with --quick)")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = options.parse_args(argv)
    torch.set_num_threads(1)
    architecture = arguments.architecture or ("test_resnet" if arguments.quick else "resnet50")
    crop = arguments.crop or (32 if arguments.quick else 224)
    settings = {**machine(), "device": arguments.device, "architecture": architecture, "crop": crop}
    step = Step(architecture, crop, arguments.device)
    claims = whole_step(step, 2 if arguments.quick else 5, {**settings, "images": step.layout.nodes})
    width = step.objective.encoder.width
    for tiny_batches in (2, MANY):
        claims += edges_beside_matrices(Related(tiny_batches, width, arguments.device), 3, settings)
    write(claims, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
