"""Grad-CAM of a ConOrd model against its definition: channel weights are mean gradients, and what is negative is 0."""

from __future__ import annotations

import builtins

import pytest
import torch
import torch.nn.functional as F

from mriqa.conord import ConOrdModel
from mriqa.conord.crops import CropSettings
from mriqa.conord.heat_maps import heat_maps, last_layer_with_places
from mriqa.heads import HeadError

PIXELS = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def built(encoder: str) -> ConOrdModel:
    torch.manual_seed(0)
    return ConOrdModel.build(f"timm:{encoder}", pretrained=False, width=8, views=CropSettings(crop=160)).eval()


def by_definition(model: ConOrdModel, pixels: torch.Tensor, layer: str) -> torch.Tensor:
    kept = {}
    hook = model.encoder.network.get_submodule(layer).register_forward_hook(lambda *call: kept.update(output=call[2]))
    features = model.encoder(pixels[None])
    hook.remove()
    (gradient,) = torch.autograd.grad(model.projection.linear(features).norm(), kept["output"])
    activation, gradient = kept["output"][0], gradient[0]
    if activation.ndim == 2:  # tokens (T, C), the class token first
        side = int((len(activation) - 1) ** 0.5)
        activation, gradient = (t[1:].T.reshape(-1, side, side) for t in (activation, gradient))
    heat = torch.zeros(activation.shape[1:])
    for channel in range(len(activation)):
        heat += gradient[channel].mean() * activation[channel]
    heat = heat.clamp_min(0)
    heat = (heat - heat.min()) / (1e-7 + heat.max() - heat.min())
    return F.interpolate(heat[None, None], pixels.shape[1:], mode="bilinear")[0, 0].detach()


@pytest.mark.parametrize(("encoder", "layer"), [("test_resnet", "layer4"), ("test_vit", "blocks.5.norm1")])
def test_maps_are_grad_cam_of_the_length_of_the_projection(encoder, layer):
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    model = built(encoder)
    assert last_layer_with_places(model).startswith(layer)
    found = heat_maps(model, PIXELS)
    expected = torch.stack([by_definition(model, pixels, last_layer_with_places(model)) for pixels in PIXELS])
    scaled = [(heat - heat.min()) / (1e-7 + heat.max() - heat.min()) for heat in expected]  # once more, as it does
    assert found.shape == (2, 160, 160) and found.max() > 0.99 and found.min() >= 0
    torch.testing.assert_close(found, torch.stack(scaled), rtol=0, atol=2e-3)


def test_a_frozen_encoder_has_maps_and_stays_frozen():
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    model = built("test_resnet")
    before = heat_maps(model, PIXELS)
    model.encoder.freeze()
    torch.testing.assert_close(heat_maps(model, PIXELS), before)
    assert model.encoder.frozen and not any(p.requires_grad for p in model.encoder.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_what_has_no_maps_says_why(monkeypatch):
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    model = built("test_resnet")
    with pytest.raises(HeadError, match="no layer 'layer9'"):
        heat_maps(model, PIXELS, "layer9")
    with pytest.raises(HeadError, match="has no places: name another"):
        heat_maps(model, PIXELS, "global_pool")
    real = builtins.__import__

    def without(name, *rest):
        if name == "pytorch_grad_cam":
            raise ImportError
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(HeadError, match=r"pip install .mriqa\[gradcam\]"):
        heat_maps(model, PIXELS)
