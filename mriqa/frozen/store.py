"""Where a frozen encoder's outputs are kept: the most recently used in bounded memory, all of them on disk.

`mriqa.frozen.cached_tower` puts such a store before a vision tower, `mriqa.features` before an encoder; they make the
keys.
"""

from __future__ import annotations

import shutil
import warnings
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mriqa.files import replacing

Features = dict[str, torch.Tensor]
"""What is kept of one image: tensors by name, on CPU."""

MEMORY_BYTES, DISK_BYTES = 2 * 2**30, 50 * 2**30
KEPT_FREE = 2**30  # bytes of disk that are left to others, checkpoints above all


class FeatureStore:
    """Features of images by key.

    Args:
        folder: where they lie, one safetensors file each; None keeps them in memory only.
        memory_bytes: limit of what is kept in memory; the least recently used leave first.
        disk_bytes: limit of what is kept on disk, earlier runs' features included. Once it is reached nothing more is
            written: epochs come back to every image in turn, so replacing old features would save none.
    """

    def __init__(
        self, folder: str | Path | None, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.memory_bytes, self.disk_bytes = memory_bytes, disk_bytes
        self.in_memory = 0
        self._recent: OrderedDict[str, Features] = OrderedDict()
        self._on_disk = 0
        self._takes_more = self.folder is not None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._on_disk = sum(file.stat().st_size for file in self.folder.rglob("*.safetensors"))

    def get(self, key: str) -> Features | None:
        """The features, or None where they have to be computed."""
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        if self.folder is None or not (file := self._file(self.folder, key)).is_file():
            return None
        try:
            features = load_file(file)
        except SafetensorError as error:  # a machine that lost its power while it wrote
            warnings.warn(f"{file} of the vision cache is broken and computed again ({error}).", stacklevel=2)
            file.unlink()
            return None
        self._remember(key, features)
        return features

    def put(self, key: str, features: Features) -> None:
        """Keep the features of an image, on disk whole or not at all."""
        self._remember(key, features)
        size = size_of(features)
        if self.folder is None or not self._has_room(self.folder, size):
            return
        with replacing(self._file(self.folder, key)) as partial:
            save_file(features, partial)
        self._on_disk += size

    def _remember(self, key: str, features: Features) -> None:
        if key in self._recent:
            return
        self._recent[key] = features
        self.in_memory += size_of(features)
        while self.in_memory > self.memory_bytes:
            _, oldest = self._recent.popitem(last=False)
            self.in_memory -= size_of(oldest)

    def _has_room(self, folder: Path, size: int) -> bool:
        if self._takes_more:
            room = min(self.disk_bytes - self._on_disk, shutil.disk_usage(folder).free - KEPT_FREE)
            self._takes_more = size <= room
            if not self._takes_more:
                warnings.warn(
                    f"The vision cache takes no more images: {folder} holds {self._on_disk / 2**30:.1f} GB, and its "
                    "limit or that of the disk is reached. The rest is computed again whenever it has left memory.",
                    stacklevel=2,
                )
        return self._takes_more

    @staticmethod
    def _file(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.safetensors"


def size_of(features: Features) -> int:
    """Bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in features.values())
