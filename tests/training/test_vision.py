"""Jitter of vision features: one shift per image and channel, in training only, of the strength asked for."""

import pytest
import torch
from torch import nn

from mriqa.errors import SettingsError
from mriqa.training.vision import jitter_features


class Recorder(nn.Module):
    """A model with a projector that hands on what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.multi_modal_projector = nn.Identity()

    def forward(self, features_BTD: torch.Tensor) -> torch.Tensor:
        return self.multi_modal_projector(features_BTD)


def test_shifts_are_per_image_and_channel_and_as_strong_as_asked() -> None:
    model = Recorder()
    jitter_features(model, 0.4)  # type: ignore[arg-type]
    torch.manual_seed(0)
    features_BTD = torch.randn(400, 3, 50)
    shift_BTD = model.train()(features_BTD) - features_BTD
    assert torch.allclose(shift_BTD, shift_BTD[:, :1].expand_as(shift_BTD), atol=1e-6)
    assert shift_BTD.std().item() == pytest.approx(0.4, rel=0.02)
    assert abs(shift_BTD.mean().item()) < 0.01


def test_evaluation_sees_the_features_themselves() -> None:
    model = Recorder()
    jitter_features(model, 0.4)  # type: ignore[arg-type]
    features_BTD = torch.randn(2, 3, 5)
    assert torch.equal(model.eval()(features_BTD), features_BTD)


def test_a_model_without_projector_is_refused() -> None:
    with pytest.raises(SettingsError, match="multi_modal_projector, and Linear has none"):
        jitter_features(nn.Linear(2, 2), 0.4)  # type: ignore[arg-type]
