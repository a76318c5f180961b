import pytest
import torch
from skimage import data


@pytest.fixture(scope="session")
def photos() -> torch.Tensor:
    """Two photographs, (2, 3, 96, 128) float64 in [0, 1]."""
    crops = [data.astronaut()[16:112, 160:288], data.coffee()[100:196, 180:308]]
    return torch.stack([torch.from_numpy(crop.copy()).permute(2, 0, 1) for crop in crops]).double() / 255
