"""EfficientNet-Lite0 up to stride 16 in plain torch, and the local statistics that the embedded model sees.

EfficientNet-Lite0 (Tan and Le, ICML 2019; Google's Lite variant: no squeeze-and-excitation, ReLU6, stem and first
stage unscaled) with every batch normalisation folded into the convolution before it. Names of weights are timm's.
It needs neither timm nor transformers, which take seconds to import.

Quality lives in local statistics more than in objects, so the last layer is not what is handed on: in cells of 32 x 32
pixels it is the mean and the standard deviation over space of the stride-4 and the stride-16 features. The cells are
averaged to a grid, those of the eye's tiles may be summed up in a single one, and each channel is standardised.

Legend: B images, T tiles of an image, C channels (3 of an image, 272 of a cell), H W pixels,
g cells along each side of a tile's grid, h w cells of an image, n cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mriqa.files import replacing

CELL_PIXELS = 32
STRIDES = (4, 16)  # of the stages that are read
STATISTICS = 2 * (24 + 112)  # mean and standard deviation of both stages' channels
SUMS = 3  # of a `summary`, for each channel

_STEM = 32
_STAGES = (  # blocks, kernel size, stride of the first, expansion, channels: table 1 of the paper, stages 2 to 6
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
)
_READ = (1, 4)  # stages of the strides above

# What torch.compile makes of a convolution and its clamping on CPUs: no second pass over activations of megabytes.
_ONE_PASS = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class LiteStatistics(nn.Module):
    """Pixels (B, 3, H, W) to standardised cells (B, C, h, w): `cell_statistics`, summed up where asked."""

    channel_mean: Tensor
    channel_std: Tensor

    def __init__(self, grid: int, tile: int | None = None, summed_up: bool = False) -> None:
        super().__init__()
        self.grid, self.tile, self.summed_up = grid, tile, summed_up
        self.backbone = LiteBackbone()
        channels = channels_of(summed_up)
        self.register_buffer("channel_mean", torch.zeros(channels))
        self.register_buffer("channel_std", torch.ones(channels))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        cells_BChw = cell_statistics(self.backbone, images_BCHW, self.grid, self.tile)
        if self.summed_up:
            cells_BChw = summary(cells_BChw, self.grid)
        return standardised(cells_BChw, self.channel_mean, self.channel_std)


def channels_of(summed_up: bool) -> int:
    """Channels of a cell."""
    return STATISTICS * (SUMS if summed_up else 1)


def cell_statistics(backbone: LiteBackbone, images_BCHW: Tensor, grid: int, tile: int | None = None) -> Tensor:
    """Mean and standard deviation (B, C, T g, g) of both stages' channels in the cells of the grid of each tile.

    An image is a strip of T square tiles of side `tile`, or a single one of its own size, at least 32 pixels each.
    Pixels are 8-bit, 0..255, or already normalised as (x - 127) / 128 where they are floating point.

    Raises:
        ValueError: a strip that does not consist of whole tiles.
    """
    eight_bit = images_BCHW.dtype == torch.uint8
    images_BCHW = images_BCHW.to(backbone.conv_stem.weight.dtype)
    if eight_bit:
        images_BCHW = normalised(images_BCHW)
    # Depthwise convolutions run two to three times faster on CPUs with the channels last.
    images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
    height = tile or images_BCHW.shape[2]
    if images_BCHW.shape[2] % height:
        raise ValueError(f"a strip of {images_BCHW.shape[2]} pixels is not made of tiles of {height}")
    # On a CPU an image's activations fit its caches and the memory that the one before it left; a batch's don't.
    at_once = images_BCHW.split(1) if images_BCHW.device.type == "cpu" else [images_BCHW]
    return torch.cat([_strip(backbone, image_BCHW.split(height, dim=2), grid) for image_BCHW in at_once])


def summary(cells_BChw: Tensor, grid: int) -> Tensor:
    """One cell (B, 3 C, 1, 1) of a strip's: the mean of the first tile's, the mean and the deviation of all others'.

    In which crop something is seen says nothing of quality, and a model that can't tell learns less by heart.

    Raises:
        ValueError: cells of a single tile.
    """
    if cells_BChw.shape[2] <= grid:
        raise ValueError("one tile alone can't be summed up: give the side of the tiles that an image is a strip of")
    whole_BCn, crops_BCn = cells_BChw[:, :, :grid].flatten(2), cells_BChw[:, :, grid:].flatten(2)
    spread_BC = crops_BCn.var(dim=2).clamp_min(1e-30).sqrt()  # not 0, as in `_cells`
    return torch.cat([whole_BCn.mean(dim=2), crops_BCn.mean(dim=2), spread_BC], dim=1)[..., None, None]


def _strip(backbone: LiteBackbone, tiles: Sequence[Tensor], grid: int) -> Tensor:
    """The grids (B, C, g, g) of tiles (B, 3, H, W), below each other."""
    return torch.cat([_cells(backbone(tile_BCHW), grid) for tile_BCHW in tiles], dim=2)


def normalised(pixels: Tensor) -> Tensor:
    """What the network takes of pixels 0..255; exact for bytes in every type, half precision included."""
    return (pixels - 127) / 128 if pixels.is_floating_point() else (pixels.float() - 127) / 128


def standardised(cells_BChw: Tensor, mean_C: Tensor, std_C: Tensor) -> Tensor:
    """Cells with mean 0 and deviation 1 in each channel, where these are the mean and the deviation."""
    return (cells_BChw - mean_C[:, None, None]) / std_C[:, None, None]


def _cells(stages: list[Tensor], grid: int) -> Tensor:
    cells = []
    for features_BCHW, stride in zip(stages, STRIDES, strict=True):
        window = CELL_PIXELS // stride
        mean_BCHW = F.avg_pool2d(features_BCHW, window)
        square_BCHW = F.avg_pool2d(features_BCHW.square(), window)
        # A flat cell's deviation is 1e-15, not 0, where the gradient that goes to the pixels would be NaN.
        cells += [mean_BCHW, (square_BCHW - mean_BCHW.square()).clamp_min(1e-30).sqrt()]
    return F.adaptive_avg_pool2d(torch.cat(cells, dim=1), grid)


class PooledStatistics(nn.Module):
    """A network that gives both stages, with gradients: pixels to mean and spread of their local statistics (B, 544).

    The local statistics are those above, but differentiable where a cell is flat.
    """

    EPS, WIDTH = 1e-6, 2 * STATISTICS

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images_BCHW: Tensor) -> Tensor:
        parts = []
        for features_BCHW, stride in zip(self.backbone(images_BCHW), STRIDES, strict=True):
            window = min(CELL_PIXELS // stride, *features_BCHW.shape[2:])
            mean_BCHW = F.avg_pool2d(features_BCHW, window)
            variance_BCHW = F.avg_pool2d(features_BCHW.square(), window) - mean_BCHW.square()
            parts += [mean_BCHW.flatten(2), (variance_BCHW.clamp_min(0) + self.EPS).sqrt().flatten(2)]
        spreads = [(part_BCn.var(dim=2, correction=0) + self.EPS).sqrt() for part_BCn in parts]
        return torch.cat([*(part_BCn.mean(dim=2) for part_BCn in parts), *spreads], dim=1)


class LiteBackbone(nn.Module):
    """The network: pixels, normalised as (x - 127) / 128, to the features of stride 4 and of stride 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = LiteConvolution(3, _STEM, 3, stride=2)
        stages, channels = [], _STEM
        for blocks, kernel, stride, expansion, out in _STAGES:
            first = LiteBlock(channels, out, kernel, stride, expansion)
            others = (LiteBlock(out, out, kernel, 1, expansion) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *others))
            channels = out
        self.blocks = nn.Sequential(*stages)

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        """Features (B, 24, H/4, W/4) and (B, 112, H/16, W/16)."""
        features_BCHW = self.conv_stem(images_BCHW.flip(2, 3))  # mirrored, see `LiteConvolution`
        read = []
        for number, stage in enumerate(self.blocks):
            features_BCHW = stage(features_BCHW)
            if number in _READ:
                read.append(features_BCHW.flip(2, 3))
        return read


class LiteBlock(nn.Module):
    """An inverted residual: widen by 1 x 1, convolve each channel, narrow by 1 x 1; the first stage doesn't widen."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.residual = stride == 1 and channels == out
        wide = expansion * channels
        if expansion > 1:
            self.conv_pw = LiteConvolution(channels, wide, 1)
        self.conv_dw = LiteConvolution(wide, wide, kernel, stride=stride, groups=wide)
        narrow = LiteConvolution(wide, out, 1, clamped=False)
        if expansion > 1:
            self.conv_pwl = narrow
        else:
            self.conv_pw = narrow

    def forward(self, input_BCHW: Tensor) -> Tensor:
        output_BCHW = input_BCHW
        for convolution in self.children():
            output_BCHW = convolution(output_BCHW)
        return output_BCHW + input_BCHW if self.residual else output_BCHW


class LiteConvolution(nn.Conv2d):
    """A convolution, the batch normalisation behind it and its clamping to 0..6, if there is any, in one.

    For the mirrored picture, with TensorFlow's "same" padding: where that is odd, TensorFlow has the odd row at the
    bottom and torch at the top, so the mirrored picture needs no padding beforehand.
    """

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, clamped: bool = True
    ) -> None:
        super().__init__(channels, out, kernel, stride, padding=kernel // 2, groups=groups)
        self.clamped = clamped

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and input.dtype == torch.float32 and not torch.is_grad_enabled() and _ONE_PASS:
            clamp = ("hardtanh", [0.0, 6.0], "") if self.clamped else ("none", [], "")
            layout = (self.padding, self.stride, self.dilation, self.groups)
            return torch.ops.mkldnn._convolution_pointwise(input, self.weight, self.bias, *layout, *clamp)
        output = super().forward(input)
        return output.clamp_(0, 6) if self.clamped else output


def save_trunk(trunk: LiteBackbone, file: str | Path) -> None:
    """Write a network to a safetensors file, whole or not at all."""
    with replacing(Path(file)) as temporary:
        save_file(trunk.state_dict(), temporary)


def load_trunk(file: str | Path) -> LiteBackbone:
    """The network in a file of `save_trunk`, to be used as it is."""
    trunk = LiteBackbone()
    trunk.load_state_dict(load_file(file))
    return trunk.requires_grad_(False).eval()
