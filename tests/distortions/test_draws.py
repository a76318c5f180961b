"""A seed for each image: its draws don't depend on its neighbours, and equal seeds draw alike."""

from __future__ import annotations

import pytest
import torch

from mriqa.distortions import DISTORTIONS, distort
from mriqa.distortions.draws import ImageSeeds, normal, normal_as, uniform, uniform_as


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", [(8, 10), (5, 7), (1, 1)])  # 16 divides the first's values
@pytest.mark.parametrize(("at_once", "in_rows"), [(uniform, uniform_as), (normal, normal_as)])
@pytest.mark.parametrize("source", [torch.Generator, lambda: ImageSeeds([4, 5, 4, 6, 5])])
def test_draws_row_by_row_are_those_made_at_once(source, at_once, in_rows, side, dtype):
    images = torch.zeros(5, 3, *side, dtype=dtype)
    expected = at_once(tuple(images.shape), images, source())
    draws = in_rows(images, source())
    found = [draws[rows] for rows in (slice(0, 2), slice(2, 3), slice(3, 5))]
    assert torch.equal(torch.cat(found), expected)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_batch_is_its_images_one_by_one(name):
    images = torch.rand(3, 3, 40, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    severity = torch.tensor([0.3, 0.9, 0.5], dtype=torch.float64)
    together = distort(images, name, severity, ImageSeeds([5, 6, 5]))
    for place, seed in enumerate([5, 6, 5]):
        alone = distort(images[place : place + 1], name, severity[place], torch.Generator().manual_seed(seed))
        assert (together[place] - alone[0]).abs().max() < 1e-9
