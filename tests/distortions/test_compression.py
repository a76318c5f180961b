import io

import numpy as np
import torch
from PIL import Image

from mriqa.distortions import compression


def pixels(image: torch.Tensor) -> np.ndarray:
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def test_jpeg_equals_pillows_at_the_rounded_quality(photos):
    result = compression.jpeg(photos, torch.tensor([7.4, 35.6], dtype=torch.float64))
    for image, decoded, quality in zip(photos, result, (7, 36), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(pixels(image)).save(buffer, "JPEG", quality=quality)
        np.testing.assert_array_equal(pixels(decoded), np.asarray(Image.open(buffer)))


def test_jpeg2000_keeps_to_the_ratio(photos, monkeypatch):
    sizes = []
    save = Image.Image.save

    def recording_save(image, buffer, **options):
        save(image, buffer, **options)
        sizes.append(buffer.getbuffer().nbytes)

    monkeypatch.setattr(Image.Image, "save", recording_save)
    large = photos.repeat(1, 1, 3, 3)
    result = compression.jpeg2000(large, torch.tensor([16.0, 120.0], dtype=torch.float64))
    raw = large[0].numel()
    smaller, larger = sorted(sizes)  # threads may finish in any order
    assert 0.8 * raw / 16 < larger < 1.1 * raw / 16
    assert 0.8 * raw / 120 < smaller < 1.1 * raw / 120
    errors = (result - large).square().mean(dim=(1, 2, 3))
    assert errors[0] < errors[1]
