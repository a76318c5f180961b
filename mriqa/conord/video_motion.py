"""Motion features of clips: SlowFast's fast pathway, refined by a small transformer (ConOrd, Appendix B.3).

The fast pathway is that of SlowFast R50 (Feichtenhofer et al., ICCV 2019, Table 1) on its own: few channels, no stride
in time, a temporal convolution in every block. Its weights are random unless a safetensors file of them is loaded.

The paper asks for "inter-frame and intra-frame attention for each temporal feature map" and says no more. Chosen: one
block of attention among the places of a frame, then among the frames at a place, then a two-layer perceptron, each
added to what it is given. Features have places from the convolutions' padding, so there are no position embeddings.

Legend: B videos, M clips, C channels, T frames of a clip, H W pixels, P places of a map, D features.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

MEAN, STD = 0.45 * 255, 0.225 * 255  # SlowFast's normalisation of pixels 0..255
DEPTHS = (3, 4, 6, 3)
STEM = 8  # an eighth of the slow pathway's 64 channels
HEADS = 4


class FastBlock(nn.Module):
    """A bottleneck whose first convolution covers three frames: C → C/4 → C/4 → C channels."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        inner = channels // 4
        steps = (1, stride, stride)
        self.body = nn.Sequential(
            OrderedDict(
                conv_a=nn.Conv3d(channels_in, inner, (3, 1, 1), padding=(1, 0, 0), bias=False),
                norm_a=nn.BatchNorm3d(inner),
                act_a=nn.ReLU(),
                conv_b=nn.Conv3d(inner, inner, (1, 3, 3), stride=steps, padding=(0, 1, 1), bias=False),
                norm_b=nn.BatchNorm3d(inner),
                act_b=nn.ReLU(),
                conv_c=nn.Conv3d(inner, channels, 1, bias=False),
                norm_c=nn.BatchNorm3d(channels),
            )
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels or stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv3d(channels_in, channels, 1, stride=steps, bias=False), nn.BatchNorm3d(channels)
            )

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return F.relu(self.body(x_BCTHW) + self.shortcut(x_BCTHW))


class FastPathway(nn.Module):
    """Clips (B, 3, T, H, W) of pixels 0..255 to feature maps (B, 256, T, H/32, W/32).

    Arguments:
        depths: blocks of the four stages.
        stem: channels of the first layer; the last stage has 32 times as many.
    """

    def __init__(self, depths: tuple[int, ...] = DEPTHS, stem: int = STEM):
        super().__init__()
        self.depths = tuple(depths)
        layers: list[nn.Module] = [
            nn.Conv3d(3, stem, (5, 7, 7), stride=(1, 2, 2), padding=(2, 3, 3), bias=False),
            nn.BatchNorm3d(stem),
            nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        ]
        channels_in = stem
        for stage, depth in enumerate(depths):
            channels = 4 * stem * 2**stage
            for block in range(depth):
                layers.append(FastBlock(channels_in, channels, stride=2 if stage and not block else 1))
                channels_in = channels
        self.layers = nn.Sequential(*layers)
        self.channels = channels_in

    def forward(self, clips_B3THW: Tensor) -> Tensor:
        pixels_B3THW = clips_B3THW.to(next(self.parameters()).dtype)
        return self.layers((pixels_B3THW - MEAN) / STD)


class ClipTransformer(nn.Module):
    """Feature maps (B, C, T, H, W) refined by attention within frames and between them, same shape."""

    def __init__(self, channels: int, heads: int = HEADS):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.within = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.between = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, map_BCTHW: Tensor) -> Tensor:
        x_BTPC = map_BCTHW.flatten(3).permute(0, 2, 3, 1)
        x_BTPC = x_BTPC + self._attend(self.within, self.norms[0](x_BTPC))
        x_BPTC = x_BTPC.transpose(1, 2)
        x_BPTC = x_BPTC + self._attend(self.between, self.norms[1](x_BPTC))
        x_BPTC = x_BPTC + self.mlp(self.norms[2](x_BPTC))
        return x_BPTC.permute(0, 3, 2, 1).reshape(map_BCTHW.shape)

    @staticmethod
    def _attend(attention: nn.MultiheadAttention, x_BGSC: Tensor) -> Tensor:
        """Attention along S, in each of the B × G groups on its own."""
        x_nSC = x_BGSC.flatten(0, 1)
        return attention(x_nSC, x_nSC, x_nSC, need_weights=False)[0].view_as(x_BGSC)


class MotionEncoder(nn.Module):
    """Clips (B, M, 3, T, H, W) to motion features (B, D): the mean over places, frames and clips.

    Arguments:
        depths, stem: as for `FastPathway`; 32 × stem must be a multiple of the transformer's four heads.
    """

    def __init__(self, depths: tuple[int, ...] = DEPTHS, stem: int = STEM):
        super().__init__()
        self.fast = FastPathway(depths, stem)
        self.refine = ClipTransformer(self.fast.channels)
        self.width = self.fast.channels

    def forward(self, clips_BM3THW: Tensor) -> Tensor:
        refined_nCTHW = self.refine(self.fast(clips_BM3THW.flatten(0, 1)))
        return refined_nCTHW.mean(dim=(2, 3, 4)).unflatten(0, clips_BM3THW.shape[:2]).mean(dim=1)
