"""Compute a frozen vision tower's output once per image, for all epochs, rollouts, reference passes and updates.

A frozen tower gives the same output for the same picture for ever. `cache_towers` puts a `FeatureStore` before it: only
pictures that are new to it run through the tower, each of them once. The key is a digest of the picture's pixels, of
what belongs to them (grid, mask), of the tower's settings and weights, and of the precision it runs in, so nothing
stale is ever found. A change of batch can change a tower's output in the last bits; with the cache it doesn't.

Kept is what the rest of the model reads: the merged and the deepstack features of Qwen-VL's towers (rows of patches,
several pictures of different size in one tensor, told apart by `grid_thw`); of the others the last hidden state, and
the hidden layers that LLaVA selects.

Legend: B images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mriqa.frozen.store import Features, FeatureStore
from mriqa.shared_prefix import core_of

TOWER_NAMES = ("visual", "vision_tower", "vision_model")  # Qwen-VL; LLaVA, FastVLM, InternVL; SmolVLM, Idefics
PIXELS, GRID = "pixel_values", "grid_thw"
INDIFFERENT = ("return_dict", "use_cache")  # flags that towers are handed and that change nothing
Image = dict[str, Any]
"""What a tower is given for one image: pixels, whatever tensors come with them, and flags."""
ImageDigest = hashlib.blake2b


def vision_towers(model: nn.Module) -> list[nn.Module]:
    """The outermost modules of `model` that go by one of the usual names of a vision tower."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside_found = any(name.startswith(outer + ".") for outer in found)
        if name.rsplit(".", 1)[-1] in TOWER_NAMES and not inside_found:
            found[name] = module
    return list(found.values())


def cache_towers(model: nn.Module, store: FeatureStore) -> list[CachedTower]:
    """Let each frozen vision tower of `model` answer from `store`, in place. What is trained is left alone."""
    cached = []
    for tower in vision_towers(model):
        if not any(parameter.requires_grad for parameter in tower.parameters()):
            tower.forward = CachedTower(tower, store, core_of(model).config)
            cached.append(tower.forward)
    return cached


def cache_towers_like(policy: Any, reference: nn.Module | None) -> None:
    """Let the towers of `reference`, which isn't trained, share the store of those of `policy`, if there are both."""
    stores = [tower.forward.store for tower in vision_towers(policy) if isinstance(tower.forward, CachedTower)]
    if reference is not None and stores:
        for tower in vision_towers(reference):
            tower.forward = CachedTower(tower, stores[0], core_of(reference).config)


@dataclass
class TowerOutput(BaseModelOutputWithPooling):
    """What transformers' models read off their towers."""

    deepstack_features: list[torch.Tensor] | None = None


class CachedTower:
    """Stands in for the `forward` of `tower`.

    A tower whose weights are sharded (ZeRO-3, FSDP) runs as ever: every process has to take part in each of its
    passes, and they don't all lack the same pictures.
    """

    def __init__(self, tower: nn.Module, store: FeatureStore, config: Any) -> None:
        self.store = store
        self._tower, self._forward = tower, tower.forward
        selected = getattr(config, "vision_feature_layer", None)
        self._layers = [selected] if isinstance(selected, int) else list(selected or [])
        self._stamp: tuple[Any, ...] = ()
        self._digest = b""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = {name: value for name, value in kwargs.items() if value is not None}
        inputs |= dict(zip((PIXELS, GRID), args))
        images = None if _is_sharded(self._tower) else _one_by_one(inputs)
        if images is None:
            return self._forward(*args, **kwargs)
        tower_digest, precision = self._tower_digest(), self._precision(images[0][PIXELS].device.type)
        keys = [_key(image_digest(image), precision, tower_digest) for image in images]
        found = {key: self.store.get(key) for key in set(keys)}
        missing = {key: image for key, image in zip(keys, images) if found[key] is None}
        for key, features in zip(missing, self._compute(list(missing.values()))):
            self.store.put(key, features)
            found[key] = features
        return self._output([found[key] for key in keys], images[0][PIXELS].device)  # type: ignore[misc]  # all found

    def keep(self, image: ImageDigest, features: Features) -> None:
        """Put into the store what the tower, as it is now, gives for an image, worked out elsewhere in full precision.

        `features` are those of one image by the names of the tower's output, each with a first dimension of 1.
        """
        self.store.put(_key(image, None, self._tower_digest()), features)

    def _precision(self, device: str) -> torch.dtype | None:
        """What autocast makes the tower compute in; None where it keeps to its own type."""
        if getattr(self._tower, "ignores_autocast", False) or not torch.is_autocast_enabled(device):
            return None
        return torch.get_autocast_dtype(device)

    def _tower_digest(self) -> bytes:
        """Of settings and weights; worked out again where a weight was written to, moved or cast."""
        weights = dict(self._tower.named_parameters()) | dict(self._tower.named_buffers())
        stamp = tuple((weight.data_ptr(), weight._version) for weight in weights.values())
        if stamp != self._stamp:
            config = getattr(self._tower, "config", None)
            settings = {"class": type(self._tower).__qualname__, "layers": self._layers}
            settings["config"] = config.to_json_string() if config is not None else ""
            self._digest = _updated(hashlib.blake2b(digest_size=20), {**settings, **weights}).digest()
            self._stamp = stamp
        return self._digest

    @torch.no_grad()  # not inference_mode, whose tensors cannot take part in training
    def _compute(self, images: Sequence[Image]) -> list[Features]:
        """Features of new images, from a single pass for those that can be put into one tensor."""
        together: dict[Any, list[int]] = {}
        for number, image in enumerate(images):
            together.setdefault(None if GRID in image else image[PIXELS].shape, []).append(number)
        features: dict[int, Features] = {}
        for numbers in together.values():
            chosen = [images[number] for number in numbers]
            inputs = {name: _joined([image[name] for image in chosen]) for name in chosen[0]}
            output = self._forward(inputs.pop(PIXELS), **inputs)
            features |= zip(numbers, self._split(output, chosen))
        return [features[number] for number in range(len(images))]

    def _split(self, output: Any, images: Sequence[Image]) -> list[Features]:
        if GRID in images[0]:
            rows = [len(image[PIXELS]) for image in images]
            sizes = [count * len(output.pooler_output) // sum(rows) for count in rows]
            tensors = {"pooler_output": output.pooler_output}
            for level, features in enumerate(output.get("deepstack_features") or []):
                tensors[f"deepstack.{level:03}"] = features
        else:
            sizes = [1] * len(images)
            tensors = {"last_hidden_state": output.last_hidden_state}
            if output.get("hidden_states") is not None:
                tensors |= {f"hidden.{layer}": output.hidden_states[layer] for layer in self._layers}
        # Copied: a part of a larger tensor would keep all of it in memory.
        own = {"copy": True, "memory_format": torch.contiguous_format}
        parts = {name: [part.to("cpu", **own) for part in tensor.split(sizes)] for name, tensor in tensors.items()}
        return [{name: part[number] for name, part in parts.items()} for number in range(len(images))]

    def _output(self, features: Sequence[Features], device: torch.device) -> TowerOutput:
        joined = {name: torch.cat([each[name] for each in features]).to(device) for name in features[0]}
        hidden = {int(name.split(".")[1]): tensor for name, tensor in joined.items() if name.startswith("hidden.")}
        deepstack = [joined[name] for name in sorted(joined) if name.startswith("deepstack.")]
        return TowerOutput(
            last_hidden_state=joined.get("last_hidden_state"),  # type: ignore[arg-type]  # wants FloatTensor
            pooler_output=joined.get("pooler_output"),  # type: ignore[arg-type]  # likewise
            hidden_states=hidden or None,  # type: ignore[arg-type]  # read as hidden_states[layer]
            deepstack_features=deepstack or None,  # type: ignore[arg-type]  # likewise
        )


def _one_by_one(inputs: Image) -> list[Image] | None:
    """The inputs of each image, or None where they are not all of a kind that is known."""
    pixels, grid = inputs.get(PIXELS, inputs.get("hidden_states")), inputs.get(GRID)
    if not isinstance(pixels, torch.Tensor):
        return None
    inputs = {name: value for name, value in inputs.items() if name != "hidden_states"} | {PIXELS: pixels}
    tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    flags = {name: value for name, value in inputs.items() if name not in tensors}
    if not all(isinstance(value, (bool, int, float, str)) for value in flags.values()):
        return None
    if grid is not None:
        if set(tensors) != {PIXELS, GRID}:
            return None
        rows = pixels.split(grid.prod(-1).tolist())
        return [{**flags, PIXELS: row, GRID: grid[number : number + 1]} for number, row in enumerate(rows)]
    if any(len(tensor) != len(pixels) for tensor in tensors.values()):
        return None
    return [
        {**flags, **{name: tensor[number : number + 1] for name, tensor in tensors.items()}}
        for number in range(len(pixels))
    ]


def image_digest(image: Image) -> ImageDigest:
    """A running digest of what a tower is given for one image; a store's keys are this and what the tower is."""
    telling = {name: value for name, value in image.items() if name not in INDIFFERENT}
    return _updated(hashlib.blake2b(digest_size=20), telling)


def _key(image: ImageDigest, precision: torch.dtype | None, tower_digest: bytes) -> str:
    return _updated(image.copy(), {"precision": precision, "tower": tower_digest}).hexdigest()


def _joined(values: list[Any]) -> Any:
    """Tensors in one; of flags, which all images of a call share, the first."""
    return torch.cat(values) if isinstance(values[0], torch.Tensor) else values[0]


def _updated(digest: ImageDigest, content: dict[str, Any]) -> ImageDigest:
    """With names and values; of tensors the type, the shape and every byte."""
    for name, value in sorted(content.items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name}={value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # bytes
        else:
            digest.update(f"{name}={value!r};".encode())
    return digest


def _is_sharded(tower: nn.Module) -> bool:
    return any(hasattr(weight, "ds_id") or hasattr(weight, "to_local") for weight in tower.parameters())
