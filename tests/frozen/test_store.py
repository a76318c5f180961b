"""The store of features: its limits, and files that a lost machine left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mriqa.frozen.store import FeatureStore, size_of


def test_memory_and_disk_stay_within_their_limits(tmp_path: Path) -> None:
    features = [{"features": torch.full((25,), float(number))} for number in range(6)]
    size = size_of(features[0])
    assert size == 100
    cache = FeatureStore(tmp_path, memory_bytes=350, disk_bytes=450)
    for number in range(4):
        cache.put(f"{number:02}", features[number])
        assert cache.in_memory <= 350
    cache.get("01")
    with pytest.warns(UserWarning, match="takes no more images"):
        cache.put("04", features[4])
    cache.put("05", features[5])
    assert cache.in_memory == 300
    assert sorted(file.stem for file in tmp_path.rglob("*.safetensors")) == ["00", "01", "02", "03"]
    assert [int(cache.get(f"{n:02}")["features"][0]) for n in (5, 0, 1, 2, 3)] == [5, 0, 1, 2, 3]
    assert cache.in_memory <= 350
    assert cache.get("04") is None, "the least recently used, and not on disk"
    assert not list(tmp_path.rglob(".*"))


def test_a_broken_file_is_computed_again(tmp_path: Path) -> None:
    FeatureStore(tmp_path).put("ab", {"features": torch.ones(3)})
    file = tmp_path / "ab" / "ab.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.warns(UserWarning, match="broken"):
        assert FeatureStore(tmp_path).get("ab") is None
    assert not file.exists()
