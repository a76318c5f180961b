"""The frozen tower's statistics, computed once per picture and reused by every epoch, rollout and update.

A frozen tower gives the same features for the same picture for ever. `FeatureCache` holds them by picture content,
and `with_cached_features` returns a processor that hands them to the model in place of pixels (`LiteTower.forward`
takes either), so that training code, TRL's included, stays as it is.

Legend: N pictures, C channels, g cells along each side of the grid.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

from mriqa.embedded.lite_tower import LiteTower
from mriqa.embedded.parallel import map_threads
from mriqa.images import load_image


class FeatureCache:
    """Statistics (C, g, g) by picture content; a picture not seen before is computed and kept.

    Args:
        model: whose frozen tower computes what is missing.
        processor: the model's own processor.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin):
        self.tower: LiteTower = model.get_submodule("model.vision_tower")  # type: ignore[assignment]
        self.image_processor: Any = processor.image_processor  # type: ignore[attr-defined]
        self.features: dict[str, Tensor] = {}

    def __getitem__(self, image: Image.Image) -> Tensor:
        key = content_key(image)
        if key not in self.features:
            self.features[key] = self._compute(image)
        return self.features[key]

    def precompute(self, paths: Sequence[Path], workers: int = 2) -> list[Tensor]:
        """Fill the cache for picture files, ``workers`` pictures at a time, with a progress bar; their statistics."""
        return map_threads(lambda path: self[load_image(path)], paths, "vision features", "picture", workers)

    def standardise(self, features: Sequence[Tensor]) -> None:
        """Set the tower's standardisation from these (training) statistics, and redo what the cache holds by it."""
        features_NCgg = torch.stack(list(features))
        mean_C, std_C = features_NCgg.mean(dim=(0, 2, 3)), features_NCgg.std(dim=(0, 2, 3)).clamp_min(1e-6)
        self.features = {
            key: ((value - mean_C[:, None, None]) / std_C[:, None, None]).contiguous()
            for key, value in self.features.items()
        }
        self.tower.channel_mean.add_(self.tower.channel_std * mean_C)
        self.tower.channel_std.mul_(std_C)

    def save(self, path: Path) -> None:
        """Write the cache as safetensors, whole or not at all."""
        partial = path.with_suffix(".partial")
        save_file(self.features, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Add what a file written by `save` holds; it must come from the same tower."""
        self.features.update(load_file(path))

    @torch.no_grad()  # not inference_mode, whose tensors cannot take part in training
    def _compute(self, image: Image.Image) -> Tensor:
        pixel_values = self.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        return self.tower.statistics(pixel_values.to(self.tower.device))[0].cpu().contiguous()


def content_key(image: Image.Image) -> str:
    """A digest of an RGB picture's size and pixels."""
    return hashlib.blake2b(image.tobytes(), digest_size=16, key=repr(image.size).encode()).hexdigest()


def with_cached_features(processor: ProcessorMixin, cache: FeatureCache) -> ProcessorMixin:
    """A processor that gives ``pixel_values`` of cached statistics (B, C, g, g); it saves as the original does."""
    cached: Any = copy.copy(processor)
    cached.image_processor = _CachedImageProcessor(cache.image_processor, cache)
    tokens = cached.image_token * cache.tower.config.grid**2
    # The original counts image tokens from the pixels' height and width, which statistics no longer have.
    cached.replace_image_token = lambda *_, **__: tokens
    cached.save_pretrained = processor.save_pretrained
    return cached


class _CachedImageProcessor:
    """Stands where the image processor stands, and answers with cached statistics."""

    def __init__(self, original: Any, cache: FeatureCache):
        self.original, self.cache = original, cache

    def __call__(self, images: Any, return_tensors: str | None = None, **_: object) -> BatchFeature:
        features_BCgg = torch.stack([self.cache[image.convert("RGB")] for image in _flat(images)])
        return BatchFeature({"pixel_values": features_BCgg}, tensor_type=return_tensors)

    def __getattr__(self, name: str) -> Any:
        if name in ("original", "cache"):  # not there yet while being copied
            raise AttributeError(name)
        return getattr(self.original, name)


def _flat(images: Any) -> list[Image.Image]:
    if isinstance(images, Image.Image):
        return [images]
    return [picture for entry in images for picture in _flat(entry)]
