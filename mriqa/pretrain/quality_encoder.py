"""The encoder that pretraining makes: pictures to unit features, and a folder that keeps it.

A folder holds `shamisa.json` (what the encoder is, and how it was trained), `model.safetensors` and a card, README.md.
`mriqa.features` loads it as `shamisa:FOLDER`.

Legend: B images, D features, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mriqa.files import new_folder
from mriqa.models import ENCODER_FILE
from mriqa.pretrain.graphs.layout import PretrainError

FORMAT = "mriqa-shamisa-1"
ABOUT_FILE, WEIGHTS_FILE, CARD_FILE = ENCODER_FILE, "model.safetensors", "README.md"
LITE0 = "lite0"
RANDOM, IMAGENET = "random", "imagenet"


@dataclass(frozen=True)
class EncoderAbout:
    """What an encoder is: the name of its timm model, and the mean and spread of the pixels it was made for."""

    architecture: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


class QualityEncoder(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to features (B, D) on the unit sphere: a timm backbone and its pooling."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, backbone: nn.Module, about: EncoderAbout):
        super().__init__()
        self.backbone, self.about = backbone, about
        self.width: int = backbone.num_features  # type: ignore[assignment]  # timm gives every model this number
        self.register_buffer("mean_C11", torch.tensor(about.mean)[:, None, None], persistent=False)
        self.register_buffer("std_C11", torch.tensor(about.std)[:, None, None], persistent=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        normalised_BCHW = (images_BCHW - self.mean_C11) / self.std_C11
        features_BD = self.backbone(normalised_BCHW.contiguous(memory_format=torch.channels_last))
        return F.normalize(features_BD.float(), dim=1)


def build_encoder(architecture: str = "resnet50", weights: str = RANDOM) -> QualityEncoder:
    """An encoder to train.

    Args:
        architecture: a timm model such as resnet50, or lite0 (EfficientNet-Lite0).
        weights: "random"; "imagenet", which timm downloads once (those of lite0 come with the installation); or a
            safetensors file of the same architecture.

    Raises:
        PretrainError: no such model, or weights that cannot be had or do not fit.
    """
    import timm

    from mriqa.embedded.lite_tower import ARCHITECTURE, imagenet_weights

    name = ARCHITECTURE if architecture == LITE0 else architecture
    if not timm.is_model(name.split(".")[0]):
        raise PretrainError(
            f"timm knows no model {architecture!r}: `python -c 'import timm; print(timm.list_models())'` lists them."
        )
    download = weights == IMAGENET and architecture != LITE0
    try:
        backbone = timm.create_model(name, pretrained=download, num_classes=0)
    except Exception as error:  # the hub, the disk and timm itself fail in ways of their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PretrainError(
            f"The weights of {architecture} cannot be had ({first}): connect, or take weights random, or lite0."
        ) from error
    config = timm.data.resolve_data_config({}, model=backbone)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if architecture == LITE0:
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3
        if weights == IMAGENET:
            known = imagenet_weights()
            backbone.load_state_dict({key: known[key] for key in backbone.state_dict()})
    if weights not in (RANDOM, IMAGENET):
        _load_weights(backbone, Path(weights))
    return QualityEncoder(backbone, EncoderAbout(name, mean, std))


def _load_weights(backbone: nn.Module, path: Path) -> None:
    """Weights out of a file, whose classifier, if there is one, is left out."""
    try:
        source = load_file(path)
        backbone.load_state_dict({key: source[key] for key in backbone.state_dict()})
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise PretrainError(
            f"weights {path} cannot be loaded ({first}): give random, imagenet, or a safetensors file that fits."
        ) from error


def save_encoder(encoder: QualityEncoder, folder: str | Path, settings: Mapping[str, Any], card: str) -> None:
    """Write the encoder's folder, whole or not at all. PretrainError where there is something of that name."""
    folder = Path(folder)
    if folder.exists():
        raise PretrainError(f"{folder} is there already; save the encoder to another folder.")
    about = {"format": FORMAT, **asdict(encoder.about), "width": encoder.width, "settings": dict(settings)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.backbone.state_dict().items()}
    with new_folder(folder, sync=True) as temporary:
        save_file(tensors, temporary / WEIGHTS_FILE, {"format": "pt"})
        (temporary / ABOUT_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        (temporary / CARD_FILE).write_text(card, encoding="utf-8")


def load_quality_encoder(source: str | Path) -> tuple[QualityEncoder, dict[str, Any]]:
    """A saved encoder, in evaluation mode on the CPU, and the settings it was trained with.

    Args:
        source: its folder, or the name of a repository on the Hub that holds one.

    Raises:
        PretrainError: no encoder there, another format, or weights that do not fit.
    """
    import timm

    folder = encoder_folder(source)
    try:
        about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
        if about.get("format") != FORMAT:
            raise PretrainError(f"{folder / ABOUT_FILE} is of format {about.get('format')!r}, not {FORMAT!r}.")
        own = EncoderAbout(about["architecture"], tuple(about["mean"]), tuple(about["std"]))
        backbone = timm.create_model(own.architecture, num_classes=0)
        backbone.load_state_dict(load_file(folder / WEIGHTS_FILE))
        return QualityEncoder(backbone, own).eval(), about["settings"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, PretrainError):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PretrainError(f"{folder} holds no whole pretrained encoder ({first}); save it again.") from error


def encoder_folder(source: str | Path) -> Path:
    """The folder, or the local copy of a Hub repository, fetched where it has to be. PretrainError without one."""
    from mriqa.models import HUB_NAME

    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(source, str) and HUB_NAME.fullmatch(source):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors", CARD_FILE]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise PretrainError(
                f"There is no folder {source}, and no encoder of that name could be fetched from the hub (check the "
                "spelling, the network and your access rights)."
            ) from error
    raise PretrainError(f"There is no pretrained encoder at {source}: give its folder or a hub name.")
