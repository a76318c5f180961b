"""Draw what is done to the images of a tiny-batch: compositions of distortions along which one strength varies.

After §III-D of the paper. A composition takes M of the seven categories, M uniform on 1..M_d, one distortion of each,
in a random order, and base severities min(1, |ε|) with ε ~ N(0, σ²). One of its distortions varies: at each of L levels
its severity is drawn anew, all else stays. All references of a tiny-batch go through the same C compositions.

Legend: C groups (compositions), L levels, M distortions of a composition at most, R references, B tiny-batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mriqa.pretrain.distortion_types import CATEGORIES, DISTORTION_NAMES, effective_severity, parameter_at
from mriqa.pretrain.graphs.layout import PretrainError

SEVERITIES = ("half_normal", "levels", "uniform")
ORDERS = ("random", "sorted", "first")


@dataclass(frozen=True)
class CompositionSettings:
    """How compositions are drawn.

    Attributes:
        groups, levels: C and L.
        most: M_d, the most distortions in a composition (1 in ablation D1).
        sigma: σ of the half-normal severities.
        severity: "half_normal", "levels" for these rounded to multiples of ¼ (D2), or "uniform" on [0, 1] (D3).
        order: "random"; "sorted" for one fixed order of the categories (D4); or "first", as the published code has D4:
            the first M categories by the alphabet, and of each the first distortion.
    """

    groups: int = 4
    levels: int = 5
    most: int = 7
    sigma: float = 0.5
    severity: str = "half_normal"
    order: str = "random"

    def __post_init__(self) -> None:
        if not 1 <= self.most <= len(CATEGORIES):
            raise PretrainError(f"A composition has 1 to {len(CATEGORIES)} distortions, not {self.most}.")
        if not self.sigma > 0:
            raise PretrainError(f"The spread of severities must be above 0, not {self.sigma}.")
        for name, value, known in (("severity", self.severity, SEVERITIES), ("order", self.order, ORDERS)):
            if value not in known:
                raise PretrainError(f"Unknown {name} {value!r}; choose one of: {', '.join(known)}.")


@dataclass(frozen=True)
class Compositions:
    """What is done to the images of a tiny-batch, as tensors; stacked along a first dimension B for a batch.

    Attributes:
        names_CM: which distortion, as its place in `DISTORTION_NAMES`, in the order in which they act; -1 beyond M.
        severity_CLM: λ in [0, 1] of each at each level; -1 beyond M. Only the varying one's differ between levels.
        varying_C: the place along M of the one that varies.
        seeds_RCM: of the random numbers of each distortion on each reference, the same at all levels.
    """

    names_CM: Tensor
    severity_CLM: Tensor
    varying_C: Tensor
    seeds_RCM: Tensor

    @property
    def counts(self) -> Tensor:
        """(C,) how many distortions each composition has."""
        return (self.names_CM >= 0).sum(dim=-1)

    @property
    def varying_severity(self) -> Tensor:
        """(C, L) λ of the varying distortion: what the graphs are made from."""
        place = self.varying_C[..., None, None].expand(*self.severity_CLM.shape[:-1], 1)
        return self.severity_CLM.gather(-1, place)[..., 0]

    def of(self, tiny_batch: int) -> Compositions:
        """Those of one tiny-batch out of a stack."""
        return Compositions(**{each.name: getattr(self, each.name)[tiny_batch] for each in fields(Compositions)})

    def parameters(self) -> Tensor:
        """(C, L, M) each distortion's own parameter; NaN beyond M. Of one tiny-batch."""
        found_CLM = torch.full_like(self.severity_CLM, torch.nan)
        for group, places in enumerate(self.names_CM.tolist()):
            for place, name in enumerate(places):
                if name >= 0:
                    severity_L = self.severity_CLM[group, :, place]
                    found_CLM[group, :, place] = parameter_at(DISTORTION_NAMES[name], severity_L)
        return found_CLM


def stacked(tiny_batches: Sequence[Compositions]) -> Compositions:
    """Those of a batch, with a first dimension B."""
    columns = {each.name: torch.stack([getattr(t, each.name) for t in tiny_batches]) for each in fields(Compositions)}
    return Compositions(**columns)


def draw_compositions(settings: CompositionSettings, references: int, generator: torch.Generator) -> Compositions:
    """The C compositions of a tiny-batch of so many references."""
    groups, levels, most = settings.groups, settings.levels, settings.most
    names_CM = torch.full((groups, most), -1)
    severity_CLM = torch.full((groups, levels, most), -1.0, dtype=torch.float64)
    varying_C = torch.zeros(groups, dtype=torch.long)
    for group in range(groups):
        names = _draw_names(settings, generator)
        varying = _below(len(names), generator)
        severity_LM = _draw_severities(settings, len(names), generator).expand(levels, -1).clone()
        severity_LM[:, varying] = _draw_severities(settings, levels, generator)
        for place, name in enumerate(names):
            severity_CLM[group, :, place] = effective_severity(name, severity_LM[:, place])
            names_CM[group, place] = DISTORTION_NAMES.index(name)
        varying_C[group] = varying
    seeds_RCM = torch.randint(2**62, (references, groups, most), generator=generator)
    return Compositions(names_CM, severity_CLM.float(), varying_C, seeds_RCM)


def _draw_names(settings: CompositionSettings, generator: torch.Generator) -> list[str]:
    count = 1 + _below(settings.most, generator)
    if settings.order == "first":
        return [CATEGORIES[category][0][0] for category in sorted(CATEGORIES)[:count]]
    chosen = torch.randperm(len(CATEGORIES), generator=generator)[:count].tolist()
    if settings.order == "sorted":
        chosen.sort()
    names = []
    for place in chosen:
        types = list(CATEGORIES.values())[place]
        signs = types[_below(len(types), generator)]
        names.append(signs[_below(len(signs), generator)])
    return names


def _draw_severities(settings: CompositionSettings, count: int, generator: torch.Generator) -> Tensor:
    if settings.severity == "uniform":
        return torch.rand(count, generator=generator, dtype=torch.float64)
    drawn = torch.randn(count, generator=generator, dtype=torch.float64).mul(settings.sigma).abs().clamp(max=1)
    return drawn.mul(4).round().div(4) if settings.severity == "levels" else drawn


def _below(bound: int, generator: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=generator))
