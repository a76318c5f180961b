"""What the features are like while they are learned, without any label: the paper's corr, inv and rank.

Features of one picture at full and at half size lie side by side, as the probe will use them.

Legend: N pictures, D features of one scale, V = 2 D.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mriqa.files import replacing
from mriqa.pretrain.quality_encoder import QualityEncoder
from mriqa.pretrain.tiny_batches import TinyBatches, collate


def feature_diagnosis(full_ND: Tensor, half_ND: Tensor) -> dict[str, float]:
    """corr: Σ_{t≠u} Cov_tu² / V; inv: mean squared difference of the two scales; rank: of Cov, at most N - 1."""
    features_NV = torch.cat([full_ND, half_ND], dim=1).double()
    count, width = features_NV.shape
    centred_NV = features_NV - features_NV.mean(dim=0)
    # ‖Cov‖² from the N × N products, which are fewer than V × V.
    gram_NN = centred_NV @ centred_NV.T / max(1, count - 1)
    variances_V = centred_NV.square().sum(dim=0) / max(1, count - 1)
    return {
        "corr": float((gram_NN.square().sum() - variances_V.square().sum()).clamp(min=0) / width),
        "inv": float((full_ND.double() - half_ND.double()).square().mean()),
        "rank": float(torch.linalg.matrix_rank(centred_NV.float())),
    }


def diagnosis_images(tiny_batches: TinyBatches, count: int = 2) -> tuple[Tensor, Tensor]:
    """Pristine and distorted crops (N, 3, H, W) at full and at half size, of the first pictures; always the same."""
    settings = replace(tiny_batches.settings, half_scale=True, distorted=True)
    own = TinyBatches(tiny_batches.pool, settings)
    batch = collate([own[number] for number in range(count)])
    assert batch.distorted is not None
    references_BVRHW = batch.references.unflatten(1, (2, -1))
    distorted_BVR = batch.distorted.unflatten(1, (2, -1))
    full, half = (
        torch.cat([references_BVRHW[:, scale].flatten(0, 1), distorted_BVR[:, scale].flatten(0, 3)])
        for scale in range(2)
    )
    return full, half


@torch.no_grad()
def diagnose(encoder: QualityEncoder, full_N3HW: Tensor, half_N3HW: Tensor, at_once: int = 32) -> dict[str, float]:
    """`feature_diagnosis` of the encoder as it is now, in evaluation mode."""
    device = next(encoder.parameters()).device
    with _evaluating(encoder):
        full_ND, half_ND = (
            torch.cat([encoder(part.to(device)).cpu() for part in images.split(at_once)])
            for images in (full_N3HW, half_N3HW)
        )
    return feature_diagnosis(full_ND, half_ND)


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def plot_run(history: list[dict[str, Any]], path: Path) -> None:
    """Loss terms, mixture, diagnosis and speed over the steps, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = [line["step"] for line in history]
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
    panels = axes.flatten()
    for term in ("variance", "covariance", "invariance", "ot"):
        panels[0].plot(steps, [line[term] for line in history], label=term)
    panels[0].set(title="terms of the loss", yscale="log")
    panels[0].legend(fontsize=8)
    panels[1].plot(steps, [line["loss"] for line in history])
    panels[1].set(title="loss")
    for graph in history[-1]["omega"] if history else ():
        panels[2].plot(steps, [line["omega"][graph] for line in history], label=graph)
    panels[2].set(title="weight of each graph", ylim=(0, 1))
    if history:
        panels[2].legend(fontsize=8)
    diagnosed = [line for line in history if "rank" in line]
    for name in ("corr", "inv"):
        panels[3].plot([line["step"] for line in diagnosed], [line[name] for line in diagnosed], "o-", label=name)
    panels[3].set(title="corr and inv of the features", yscale="log" if diagnosed else "linear")
    panels[3].legend(fontsize=8)
    panels[4].plot([line["step"] for line in diagnosed], [line["rank"] for line in diagnosed], "o-")
    panels[4].set(title="rank of the features")
    panels[5].plot(steps, [line["images_per_second"] for line in history])
    panels[5].set(title="images per second", ylim=(0, None))
    for panel in panels:
        panel.set_xlabel("step")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)
