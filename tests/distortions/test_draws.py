"""A seed for each image: its draws don't depend on its neighbours, and equal seeds draw alike."""

from __future__ import annotations

import pytest
import torch

from mriqa.distortions import DISTORTIONS, distort
from mriqa.distortions.draws import ImageSeeds, normal, uniform


@pytest.mark.parametrize("draw", [uniform, normal])
@pytest.mark.parametrize("images_in", [0, 1])
def test_each_image_draws_from_its_own_seed(draw, images_in):
    like = torch.zeros(1, dtype=torch.float64)
    shape = (4, 4, 3)
    found = draw(shape, like, ImageSeeds([7, 8, 7, 9]), images_in).movedim(images_in, 0)
    single = (1, 4, 3) if images_in == 0 else (4, 1, 3)
    for place, seed in enumerate([7, 8, 7, 9]):
        wanted = draw(single, like, torch.Generator().manual_seed(seed)).movedim(images_in, 0)[0]
        assert torch.equal(found[place], wanted)
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_batch_is_its_images_one_by_one(name):
    images = torch.rand(3, 3, 40, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    severity = torch.tensor([0.3, 0.9, 0.5], dtype=torch.float64)
    together = distort(images, name, severity, ImageSeeds([5, 6, 5]))
    for place, seed in enumerate([5, 6, 5]):
        alone = distort(images[place : place + 1], name, severity[place], torch.Generator().manual_seed(seed))
        assert (together[place] - alone[0]).abs().max() < 1e-9
