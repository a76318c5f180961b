"""Work in pieces, and through Pillow, gives what work at once gives."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from mriqa.distortions import distort, pieces
from mriqa.distortions.draws import normal_as
from mriqa.distortions.eight_bits import through_pictures


def test_pieces_take_their_rows_and_are_cut_to_the_range(monkeypatch):
    seen = []

    @pieces.in_pieces
    def shifted(images_BCHW, noise_BCHW, shift_B, word):
        seen.append((len(images_BCHW), len(noise_BCHW), len(shift_B), word))
        return images_BCHW + 0.1 * noise_BCHW + shift_B[:, None, None, None]

    images, shift = torch.rand(5, 3, 8, 8), torch.linspace(-1, 1, 5)
    monkeypatch.setattr(pieces, "VALUES_AT_ONCE", 2 * images[0].numel())
    found = shifted(images, normal_as(images, torch.Generator().manual_seed(1)), shift, "same")
    assert seen == [(2, 2, 2, "same"), (2, 2, 2, "same"), (1, 1, 1, "same")]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, (images + 0.1 * noise + shift[:, None, None, None]).clamp(0, 1))


def test_images_reach_pillow_and_come_back_as_their_8_bits():
    images = torch.rand(3, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    seen = {}  # threads may call in either order

    def look(picture: Image.Image, value: float) -> Image.Image:
        seen[value] = np.asarray(picture)
        return picture

    back = through_pictures(images, look, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, True]))
    bytes_BHWC = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert sorted(seen) == [1, 3]
    for value, expected in zip([1, 3], bytes_BHWC[[0, 2]], strict=True):
        np.testing.assert_array_equal(seen[value], expected)
    assert torch.equal(back[1], images[1])
    assert torch.equal(back[[0, 2]], (images[[0, 2]] * 255).round() / 255)


def test_two_threads_give_what_one_gives(photos):
    severity = torch.tensor([0.3, 0.9])
    one = distort(photos, "jpeg", severity)
    torch.set_num_threads(2)
    try:
        assert torch.equal(distort(photos, "jpeg", severity), one)
    finally:
        torch.set_num_threads(1)
