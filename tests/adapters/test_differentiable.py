"""The differentiable reward: the scorer's own value, and the gradient that finite differences give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

import mriqa
from mriqa.adapters import DifferentiableReward
from mriqa.adapters.differentiable import tensor_views
from mriqa.scoring.reading import ReadoutError
from mriqa.views import ViewSettings, views


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def default_scorer():
    return mriqa.Scorer.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def tiny_scorer(tiny_model):
    """In double precision, so that small steps can be told apart; with five crops of a picture that is made smaller."""
    return mriqa.Scorer.from_pretrained(
        tiny_model, device="cpu", dtype="float64", views=ViewSettings(limit=80, crop=64, count=5)
    )


def as_tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def slope(reward: DifferentiableReward, image_CHW: torch.Tensor, way_CHW: torch.Tensor, step: float) -> float:
    """The central difference of the score along a way through the space of pictures."""
    with torch.no_grad():
        above, below = (float(reward.scores([image_CHW + sign * step * way_CHW])[0]) for sign in (1, -1))
    return (above - below) / (2 * step)


@pytest.mark.parametrize("size", [(448, 448), (700, 900), (120, 96)])
def test_the_value_is_the_scorers(default_scorer, tiny_scorer, photo, size):
    picture = photo.resize(size)
    for scorer in (default_scorer, tiny_scorer):
        (score,) = scorer.score([picture])
        reward = DifferentiableReward(scorer)
        assert float(reward([as_tensor(picture)])[0]) == pytest.approx((score.score - 1) / 4, abs=1e-5 / 4)


@pytest.mark.parametrize(("straight_through", "rel"), [(False, 0.005), (True, 0.03)])
def test_the_gradient_is_that_of_finite_differences(tiny_scorer, photo, straight_through, rel):
    """Along the gradient and random ways. Differences are of the smooth function: rounding to bytes has no slope."""
    image_CHW = as_tensor(photo.resize((128, 120))).clamp(0.05, 0.95).requires_grad_()  # clipping has corners
    DifferentiableReward(tiny_scorer, straight_through).scores([image_CHW])[0].backward()
    gradient_CHW = image_CHW.grad
    smooth = DifferentiableReward(tiny_scorer, straight_through=False)
    ways = torch.randn(2, *image_CHW.shape, generator=torch.manual_seed(0))
    for way_CHW in (gradient_CHW / gradient_CHW.norm(), *ways):
        expected = slope(smooth, image_CHW.detach(), way_CHW, 0.003 / float(way_CHW.abs().max()))
        assert float((gradient_CHW * way_CHW).sum()) == pytest.approx(expected, rel=rel, abs=2e-4)


def test_the_default_model_climbs_along_it_and_flat_pictures_have_a_finite_one(default_scorer, photo):
    reward = DifferentiableReward(default_scorer)
    blurred_CHW = as_tensor(photo.resize((64, 64)).resize((256, 256))).requires_grad_()
    flat_CHW = torch.full((3, 256, 256), 0.5, requires_grad=True)
    before_N = reward.scores([blurred_CHW, flat_CHW])
    before_N.sum().backward()
    assert flat_CHW.grad.isfinite().all() and blurred_CHW.grad.norm() > 0
    step = blurred_CHW.grad / blurred_CHW.grad.norm()
    expected = slope(DifferentiableReward(default_scorer, straight_through=False), blurred_CHW.detach(), step, 0.05)
    assert expected > 0.1 * float(blurred_CHW.grad.norm())
    assert all(not weight.requires_grad for weight in default_scorer.backend.model.parameters())


@pytest.mark.parametrize("settings", [ViewSettings(), ViewSettings(size=50, crop=32, count=5), ViewSettings(limit=40)])
def test_tensor_views_are_pillows_to_rounding(photo, settings):
    picture = photo.crop((10, 20, 110, 81))
    pillows, ours = views(picture, settings), tensor_views(255 * as_tensor(picture), settings)
    assert len(pillows) == len(ours)
    for one, other_CHW in zip(pillows, ours):
        # Pillow rounds twice, after each axis.
        assert np.abs(np.asarray(one, float) - other_CHW.permute(1, 2, 0).numpy()).max() < 1.5


def test_what_has_no_gradient_is_refused_in_a_sentence(tiny_model):
    greedy = mriqa.Scorer.from_pretrained(tiny_model, "greedy", device="cpu")
    with pytest.raises(ReadoutError, match='load the scorer with readout="expected"'):
        DifferentiableReward(greedy)
    reward = DifferentiableReward(mriqa.Scorer.from_pretrained(tiny_model, device="cpu"))
    with pytest.raises(ValueError, match="Image 1 has pixels that are NaN"):
        reward([torch.zeros(3, 64, 64), torch.full((3, 64, 64), math.nan)])
