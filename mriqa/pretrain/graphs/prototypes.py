"""Soft assignments of images to prototypes (eq. 13), and the balanced ones that they are trained towards (eq. 14).

Legend: N images, K prototypes, D features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CONVERGED, MOST_ROUNDS = 1e-13, 20_000
CHECK_EVERY = 5  # rounds; looking takes longer than going on


def full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors in float32, or as they are where they are float64."""
    return tuple(tensor if tensor.dtype == torch.float64 else tensor.float() for tensor in tensors)


def prototype_logits(features_ND: Tensor, prototypes_KD: Tensor) -> Tensor:
    """⟨h_n, c_k⟩ (N, K) of unit features and prototypes as they are; a row of zeros gives zeros."""
    with torch.autocast(features_ND.device.type, enabled=False):
        features_ND, prototypes_KD = full_precision(features_ND, prototypes_KD)
        return F.normalize(features_ND, dim=1) @ prototypes_KD.T


def assignments(features_ND: Tensor, prototypes_KD: Tensor, temperature: float) -> Tensor:
    """log A (N, K), A = softmax(⟨h, c⟩ / τ_c) of features that are put on the unit sphere first (eq. 13).

    The logarithm is what the losses need, and finite where A itself underflows.
    """
    return torch.log_softmax(prototype_logits(features_ND, prototypes_KD) / temperature, dim=1)


@torch.no_grad()
def sinkhorn(logits_NK: Tensor, epsilon: float, rounds: int | None = None, *, tolerance: float | None = None) -> Tensor:
    """Balanced targets T (N, K): the entropic transport plan of the logits, times N. No gradient passes.

    A round scales the prototypes to mass 1/K each, then the images to 1/N each, so that rows sum to 1 exactly and
    columns to N/K at convergence. Works on logarithms, so no logits overflow.

    Args:
        logits_NK: ⟨h, c⟩, not yet divided by epsilon.
        epsilon: the entropic regularisation.
        rounds: at most so many rounds (6 in the published code, exactly, as there is no tolerance); None goes on to
            convergence, which aligned prototypes reach after hundreds of rounds, in float64.
        tolerance: stop once every prototype's mass is this near to 1/K.
    """
    with torch.autocast(logits_NK.device.type, enabled=False):
        (given_NK,) = full_precision(logits_NK)
        log_plan_NK = given_NK.double() if rounds is None else given_NK
        if rounds is None:
            rounds, tolerance = MOST_ROUNDS, CONVERGED if tolerance is None else tolerance
        images, prototypes = log_plan_NK.shape
        log_plan_NK = log_plan_NK / epsilon
        for done in range(1, rounds + 1):
            # Each scaling is one fused operation; constants don't matter, as the images come last.
            log_plan_NK = log_plan_NK.log_softmax(dim=0).log_softmax(dim=1)
            if tolerance is not None and done % CHECK_EVERY == 0:
                mass_K = log_plan_NK.exp().sum(dim=0) / images
                if (mass_K - 1 / prototypes).abs().max() <= tolerance:
                    break
        return log_plan_NK.exp().to(given_NK.dtype)
