"""Make the distorted images of a tiny-batch: what precedes the varying distortion once, everything else per level.

Legend: R references, C groups, L levels, H W pixels, S = R · L images of a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mriqa.distortions.draws import ImageSeeds
from mriqa.pretrain.compositions import Compositions
from mriqa.pretrain.distortion_types import DISTORTION_NAMES, distort_at


@torch.no_grad()
def distorted_images(references_R3HW: Tensor, compositions: Compositions, share_prefix: bool = True) -> Tensor:
    """(R, C, L, 3, H, W) of references (R, 3, H, W) in [0, 1] and the compositions of their tiny-batch.

    Images of one reference differ between levels in one strength alone: each distortion draws its random numbers from
    one seed for all of them. `share_prefix=False` goes through the whole chain for every image, for tests.
    """
    levels = compositions.severity_CLM.shape[1]
    groups = []
    for group, count in enumerate(compositions.counts.tolist()):
        varying = int(compositions.varying_C[group])
        images, repeats = references_R3HW, 1
        for place in range(count):
            if repeats == 1 and (place == varying or not share_prefix):
                images, repeats = images.repeat_interleave(levels, dim=0), levels
            severity_L = compositions.severity_CLM[group, :repeats, place]
            severity_S = severity_L.repeat(len(references_R3HW)).to(images.device)
            seeds_R = compositions.seeds_RCM[:, group, place].tolist()
            seeds = ImageSeeds([seed for seed in seeds_R for _ in range(repeats)], images.device)
            images = distort_at(images, DISTORTION_NAMES[int(compositions.names_CM[group, place])], severity_S, seeds)
        groups.append(images.unflatten(0, (-1, levels)))
    return torch.stack(groups, dim=1)
