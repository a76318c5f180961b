"""A pretrained quality encoder (`recipes/shamisa.py`) as an encoder of pictures: `shamisa:FOLDER`, or a Hub name.

A picture is seen at full and at half size, in crops at its centre and its four corners; the unit features of the two
sizes lie side by side, and are averaged over the crops. A picture with a side shorter than a crop is enlarged.

Legend: B pictures, V crops of a picture at one size (5 at most: those that coincide come once), D features, H W pixels.
"""

from __future__ import annotations

import torch
from PIL import Image

from mriqa.features.encoder import Encoder, digest, in_groups_of_shape
from mriqa.pretrain.quality_encoder import load_quality_encoder
from mriqa.pretrain.tiny_batches import pixels
from mriqa.views import ViewSettings, enlarged, views


def load_shamisa_encoder(source: str, device: str | None = None) -> Encoder:
    """The encoder of a folder or Hub repository, 2 D features. Raises PretrainError where there is none."""
    place = torch.device(device) if device else torch.accelerator.current_accelerator() or torch.device("cpu")
    network, settings = load_quality_encoder(source)
    network.to(place)
    crop = int(settings.get("crop", 224))
    looks = ViewSettings(crop=crop, count=5)

    def prepare(image: Image.Image) -> list[torch.Tensor]:
        """The crops (V, 3, H, W) at full and at half size."""
        half = image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BICUBIC)
        return [torch.stack([pixels(each) for each in views(enlarged(own, crop), looks)]) for own in (image, half)]

    @torch.no_grad()
    def encode(pictures_B: list[list[torch.Tensor]]) -> torch.Tensor:
        rows = [torch.cat([network(crops.to(place)).mean(dim=0) for crops in picture]) for picture in pictures_B]
        return torch.stack(rows).cpu()

    key = digest("shamisa", crop, network.about, weights=network.state_dict())
    return Encoder(f"shamisa:{source}", key, encode, prepare)


def load_shamisa_crops(source: str, device: str | None = None) -> Encoder:
    """The encoder of a folder or Hub repository for crops that somebody else takes, D unit features of each.

    Raises PretrainError where there is none.
    """
    place = torch.device(device) if device else torch.accelerator.current_accelerator() or torch.device("cpu")
    network, _ = load_quality_encoder(source)
    network.to(place)

    @torch.no_grad()
    def encode(crops: list[torch.Tensor]) -> torch.Tensor:
        return in_groups_of_shape(crops, lambda crops_BCHW: network(crops_BCHW.to(place)).cpu())

    key = digest("shamisa crops", network.about, weights=network.state_dict())
    return Encoder(f"shamisa:{source}", key, encode, pixels)
