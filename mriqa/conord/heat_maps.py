"""Which parts of a picture its embedding comes from: Grad-CAM (ConOrd, Fig. 14), by the library `grad-cam`.

The paper draws "the regions that influence the encoder's representation" of a picture and does not say which number the
gradient is of. Chosen: the length of the projection before it is put on the unit sphere, as the embedding itself has
length 1 whatever the picture. Where a layer gives tokens, they are laid out on their square grid, and class tokens,
which come first, are left out.

Legend: B pictures, C channels, T tokens, H W pixels, h w places of a layer.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn

from mriqa.conord.model import ConOrdModel
from mriqa.heads.inputs import HeadError

BLOCK_NORM = re.compile(r".*\bblocks?\.\d+\.norm1|.*\blayers?\.\d+\.(layer_norm1|layernorm_before|norm1)")
"""The first norm of a transformer's block: behind it no patch token is lost to a class token."""


def heat_maps(model: ConOrdModel, pixels_B3HW: Tensor, layer: str | None = None) -> Tensor:
    """Grad-CAM (B, H, W) in 0..1 of pictures: the highest place of each is 1, and 0 where nothing adds to the length.

    Arguments:
        model: of pictures.
        pixels_B3HW: crops as the model sees them, uint8 or 0..255.
        layer: of the encoder's network, by its dotted name; by default the first norm of the last transformer block,
            or else the last layer that gives a map.

    The gradients that the model's parameters held are cleared.

    Raises:
        HeadError: a model of videos, no such layer, a layer without places, or grad-cam is not installed.
    """
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError as error:
        raise HeadError('Heat maps need the library grad-cam: pip install "mriqa[gradcam]".') from error
    if model.motion is not None:
        raise HeadError("Heat maps are of pictures, and this model is of videos.")
    network = model.encoder.network
    name = layer or last_layer_with_places(model)
    try:
        target = network.get_submodule(name)
    except AttributeError as error:
        raise HeadError(
            f"The encoder has no layer {name!r}; print(model.encoder.network) shows their names."
        ) from error
    pixels_B3HW = pixels_B3HW.float().requires_grad_()  # so that a frozen encoder gives gradients, too
    with torch.enable_grad(), GradCAM(_Length(model), [target], _as_map) as cam:
        maps = cam(pixels_B3HW, [_itself] * len(pixels_B3HW))
    model.zero_grad(set_to_none=True)
    return torch.from_numpy(maps)


@torch.no_grad()
def last_layer_with_places(model: ConOrdModel) -> str:
    """The name of the layer that `heat_maps` takes by itself. HeadError where no layer has places."""
    network = model.encoder.network
    norms = [name for name, _ in network.named_modules() if BLOCK_NORM.fullmatch(name)]
    if norms:
        return norms[-1]
    found: list[str] = []

    def noting(name: str):
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                found.append(name)

        return hook

    hooks = [module.register_forward_hook(noting(name)) for name, module in network.named_modules() if name]
    try:
        model.eval()
        model.encoder(torch.zeros(1, 3, model.encoder.size, model.encoder.size, device=model.device))
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise HeadError("No layer of the encoder gives a map of places; name one with layer.")
    return found[-1]


class _Length(nn.Module):
    """Pixels to the length (B, 1) of their projections before they are normalised."""

    def __init__(self, model: ConOrdModel):
        super().__init__()
        self.model = model

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        projected_BD = self.model.projection.unnormalised(self.model.encoder.traced(pixels_B3HW))
        return projected_BD.norm(dim=1, keepdim=True)


def _itself(output_1: Tensor) -> Tensor:
    return output_1[0]


def _as_map(output: Tensor) -> Tensor:
    """A layer's output, or its gradient, as a map (B, C, h, w)."""
    if output.ndim == 3:
        side = math.isqrt(output.shape[1])
        return output[:, output.shape[1] - side**2 :].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if output.ndim != 4:
        raise HeadError(f"This layer gives the shape {tuple(output.shape)}, which has no places: name another.")
    channels_last = output.shape[1] == output.shape[2] != output.shape[3]
    return output.permute(0, 3, 1, 2) if channels_last else output
