"""Vision encoders by name: pixels to one feature vector, from timm, transformers or the embedded EfficientNet-Lite0.

    timm:vit_base_patch16_clip_224.openai      ViT-B of CLIP, ConOrd's encoder (Appendix B)
    timm:resnet18                              any model of timm
    transformers:FOLDER_OR_HUB_NAME            any vision model of transformers, of CLIP's kind the vision half
    embedded                                   EfficientNet-Lite0 with ImageNet weights, no download

An encoder describes itself in plain JSON (`about`), so that a saved encoder is built again without a download.
Weights are read from safetensors; code that ships with a model never runs.

Legend: B images, C channels, H W pixels, F features, T tokens, n cells.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mriqa.heads.inputs import HeadError

CLIP_VIT_B = "timm:vit_base_patch16_clip_224.openai"
EMBEDDED = "embedded"
OFFLINE_CURE = "check the name and the network, or take random weights (pretrained=False)"


class VisionEncoder(nn.Module):
    """Pixels, uint8 or 0..255 (B, 3, H, W), to features (B, F).

    Attributes:
        about: what the network is, as plain JSON; `rebuild_encoder` makes it again.
        width: number of features F.
        size: side in pixels of the pictures it was made for.
        frozen: whether its weights and batch statistics stay as they are.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, network: nn.Module, about: dict[str, Any]):
        super().__init__()
        self.network = network
        self.about = about
        self.size: int = about["size"]
        self.frozen = False
        self.register_buffer("mean_C11", torch.tensor(about["mean"])[:, None, None], persistent=False)
        self.register_buffer("std_C11", torch.tensor(about["std"])[:, None, None], persistent=False)
        self.width: int = self._measured_width()

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.traced(pixels_BCHW)

    def traced(self, pixels_BCHW: Tensor) -> Tensor:
        """The same features, through which gradients flow to the pixels even where the encoder is frozen."""
        pixels_BCHW = pixels_BCHW.to(self.mean_C11.dtype)
        return _pooled(self.network((pixels_BCHW / 255 - self.mean_C11) / self.std_C11))

    def freeze(self) -> None:
        """Keep the weights as they are from now on."""
        self.frozen = True
        self.network.requires_grad_(False)
        self.network.eval()

    def train(self, mode: bool = True) -> VisionEncoder:
        return super().train(mode and not self.frozen)

    @torch.no_grad()
    def _measured_width(self) -> int:
        self.eval()
        return self(torch.zeros(1, 3, self.size, self.size)).shape[1]


def build_encoder(name: str, pretrained: bool = True) -> VisionEncoder:
    """The encoder of a name as above, with its published weights, or with random ones from torch's generator.

    Raises:
        HeadError: no such encoder, its weights cannot be had, or its library is not installed.
    """
    kind, _, rest = name.partition(":")
    if name == EMBEDDED:
        return VisionEncoder(
            _lite(pretrained), {"kind": EMBEDDED, "size": 224, "mean": [127 / 255] * 3, "std": [128 / 255] * 3}
        )
    if kind == "timm" and rest:
        return _from_timm(rest, pretrained)
    if kind == "transformers" and rest:
        return _from_transformers(rest, pretrained)
    raise HeadError(f"There is no encoder {name!r}: write timm:NAME, transformers:NAME or {EMBEDDED}.")


def rebuild_encoder(about: dict[str, Any]) -> VisionEncoder:
    """The encoder that `about` describes, with random weights. HeadError where it describes none."""
    try:
        if about["kind"] == EMBEDDED:
            return VisionEncoder(_lite(pretrained=False), about)
        if about["kind"] == "timm":
            import timm

            return VisionEncoder(timm.create_model(about["name"], pretrained=False, num_classes=0), about)
        if about["kind"] == "transformers":
            from transformers import AutoConfig

            return VisionEncoder(_vision_tower(AutoConfig.for_model(**about["config"])), about)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise HeadError(f"The encoder's description cannot be used ({error}); save the model again.") from error
    raise HeadError(f"The encoder's description names the unknown kind {about['kind']!r}; save the model again.")


def _lite(pretrained: bool) -> nn.Module:
    from mriqa.embedded.lite_network import PooledStatistics
    from mriqa.embedded.lite_tower import lite_trunk

    return PooledStatistics(lite_trunk(pretrained))


def _from_timm(name: str, pretrained: bool) -> VisionEncoder:
    import timm

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        nearest = get_close_matches(architecture, timm.list_models(), n=1)
        raise HeadError(f"timm has no model {name!r}{f'; did you mean {nearest[0]!r}?' if nearest else '.'}")
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        raise HeadError(f"timm cannot make {name!r} ({_one_line(error)}); {OFFLINE_CURE}.") from error
    data = timm.data.resolve_model_data_config(network)
    about = {"kind": "timm", "name": name, "size": data["input_size"][-1]}
    return VisionEncoder(network, {**about, "mean": list(data["mean"]), "std": list(data["std"])})


def _from_transformers(name: str, pretrained: bool) -> VisionEncoder:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
        published = None
        if pretrained:
            published = AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise HeadError(f"transformers cannot load {name!r} ({_one_line(error)}); {OFFLINE_CURE}.") from error
    network = _vision_tower(config)
    if published is not None:
        network.model.load_state_dict(getattr(published, "vision_model", published).state_dict())
    about = {
        "kind": "transformers",
        "name": Path(name).name,
        "config": network.model.config.to_diff_dict() | {"model_type": network.model.config.model_type},
        "size": int(getattr(network.model.config, "image_size", 224)),
        "mean": list(processor.image_mean or [0.0] * 3),
        "std": list(processor.image_std or [1.0] * 3),
    }
    return VisionEncoder(network, about)


class _VisionTower(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        output = self.model(pixel_values=pixels_BCHW)
        pooled_BF = getattr(output, "pooler_output", None)
        return output.last_hidden_state if pooled_BF is None else pooled_BF


def _vision_tower(config: Any) -> Any:
    """The vision model of a configuration, or of its vision half, with random weights."""
    from transformers import AutoModel

    return _VisionTower(AutoModel.from_config(getattr(config, "vision_config", config)))


def _pooled(features: Tensor) -> Tensor:
    """A vector for each image (B, F): of tokens (B, T, F) or maps (B, F, H, W) the mean; vectors stay as they are."""
    if features.ndim == 3:
        return features.mean(dim=1)
    return features.flatten(2).mean(dim=2) if features.ndim > 3 else features


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200].rstrip(".")
