"""Hierarchical features of image backbones: each stage averaged over the picture, the stages in a row.

After PreSTA (supplement, section 3.3: features of all stages carry more of quality than the last one's): Swin-B's four
stages give 1,920 features, ResNet-50's layers 1 to 4 give 3,840. Stages above stride 4 (a stem) are left out. The last
stage alone is the other side of PreSTA's Table 6, and of ResNet-50 what Q-Diverse knows content by.

Legend: B pictures, C channels, H W pixels or places, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from mriqa.embedded.lite_tower import ARCHITECTURE, LiteTower, LiteTowerConfig, imagenet_weights
from mriqa.features.encoder import Encoder, FeatureError, digest, in_groups_of_shape
from mriqa.views import ViewSettings

COARSE = 4  # stride in pixels from which a stage counts
LITE_VIEWS = ViewSettings(limit=672)  # as the embedded model sees pictures: larger ones are shrunk
LITE_SMALLEST = 32  # pixels a side: one cell of statistics


def timm_encoder(
    architecture: str,
    *,
    pretrained: bool = True,
    image_size: int | None = None,
    device: str | None = None,
    last_only: bool = False,
) -> Encoder:
    """Hierarchical features of a timm model. The whole picture is resized (bicubic) to the square the model expects.

    Args:
        architecture: a name in timm, such as resnet50 or swin_base_patch4_window7_224.
        pretrained: with the published weights, which timm downloads once; without, random ones, for tests.
        image_size: another side of the square in pixels, for convolutional architectures.
        device: of the computation; the accelerator if there is one.
        last_only: the last stage averaged, instead of each.

    Raises:
        FeatureError: no such model, weights that can't be had, or a model without feature maps.
    """
    import timm

    try:
        net = timm.create_model(architecture, pretrained=pretrained, features_only=True)
    except Exception as error:  # the hub, the disk and timm itself fail in ways of their own
        raise FeatureError(_why_not(architecture, error)) from error
    config = timm.data.resolve_data_config({}, model=net)
    side = image_size or config["input_size"][-1]
    mean_C11, std_C11 = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))

    def prepare(image: Image.Image) -> torch.Tensor:
        square = image.resize((side, side), Image.Resampling.BICUBIC)
        return (_pixels(square) / 255 - mean_C11) / std_C11

    return _hierarchical(f"timm:{architecture}", net, prepare, ViewSettings(), device, last_only, side)


def lite_encoder(device: str | None = None, last_only: bool = False) -> Encoder:
    """Hierarchical features (496) of EfficientNet-Lite0, whose ImageNet weights come with the installation.

    With `last_only` the last stage's (320).

    Pictures keep their size, up to 672 pixels on the shorter side: scale is part of quality.
    """
    import timm

    net = timm.create_model(ARCHITECTURE, features_only=True)
    weights = imagenet_weights()
    net.load_state_dict({name: weights[name] for name in net.state_dict()})
    return _hierarchical("lite0", net, _lite_pixels, LITE_VIEWS, device, last_only)


def lite_quality_encoder(device: str | None = None) -> Encoder:
    """Mean and spread (544) of EfficientNet-Lite0's local statistics, which see distortions more than objects.

    In cells of 32 × 32 pixels, the mean and the standard deviation of the stride-4 and stride-16 stages; of these, over
    a grid of 4 × 4, mean and standard deviation again. Ridge regression on them reads quality well.
    """
    tower = LiteTower(LiteTowerConfig(grid=4)).eval()
    tower.load_imagenet_weights()
    tower.to(_device(device))  # type: ignore[arg-type]  # its decorator hides that it takes a device

    @torch.no_grad()
    def encode(tensors: list[torch.Tensor]) -> torch.Tensor:
        def statistics(images_BCHW: torch.Tensor) -> torch.Tensor:
            cells_BCn = tower.statistics(images_BCHW.to(tower.device)).flatten(2)
            return torch.cat([cells_BCn.mean(dim=2), cells_BCn.std(dim=2)], dim=1).cpu()

        return in_groups_of_shape(tensors, statistics)

    key = digest("lite0_quality", weights=tower.state_dict())
    return Encoder("lite0_quality", key, encode, _lite_pixels, LITE_VIEWS)


def _hierarchical(
    name: str, net: Any, prepare: Any, views: ViewSettings, device: str | None, last_only: bool, *settings: Any
) -> Encoder:
    place = _device(device)
    net.eval().to(place)
    wanted_stages = [stride >= COARSE for stride in net.feature_info.reduction()]
    if last_only:
        wanted_stages = [False] * (len(wanted_stages) - 1) + [True]
        name, settings = f"{name}, last stage", (*settings, "last stage")
    channels_last = str(getattr(net, "output_fmt", "")).endswith("NHWC")
    over_places = (1, 2) if channels_last else (2, 3)

    @torch.no_grad()
    def encode(tensors: list[torch.Tensor]) -> torch.Tensor:
        def pooled(images_BCHW: torch.Tensor) -> torch.Tensor:
            images_BCHW = images_BCHW.to(place).contiguous(memory_format=torch.channels_last)
            maps = [stage for stage, wanted in zip(net(images_BCHW), wanted_stages, strict=True) if wanted]
            return torch.cat([stage.mean(dim=over_places) for stage in maps], dim=1).cpu()

        return in_groups_of_shape(tensors, pooled)

    return Encoder(name, digest(name, *settings, weights=net.state_dict()), encode, prepare, views)


def _lite_pixels(image: Image.Image) -> torch.Tensor:
    """(3, H, W) as Lite0 was trained, H and W at least 32."""
    if min(image.size) < LITE_SMALLEST:
        size = (max(LITE_SMALLEST, image.width), max(LITE_SMALLEST, image.height))
        image = image.resize(size, Image.Resampling.BICUBIC)
    return (_pixels(image) - 127) / 128


def _pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


def _device(device: str | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def _why_not(architecture: str, error: Exception) -> str:
    import timm

    if not timm.is_model(architecture.split(".")[0]):
        return f"timm knows no model {architecture!r}: `python -c 'import timm; print(timm.list_models())'` lists them."
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"The encoder {architecture} can't be loaded ({first_line}): its weights are downloaded once, so connect, or "
        "take lite0, whose weights come with the installation."
    )
