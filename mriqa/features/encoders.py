"""Find an encoder by name: those of the table in `mriqa.features`, timm's, a VLM's, a pretrained one, a function."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from mriqa.features.encoder import Encoder, FeatureError, callable_encoder

TIMM_NAMES = {"resnet50": "resnet50", "swin_b": "swin_base_patch4_window7_224"}
LAST_STAGES = {"lite0_stage4": "lite0", "resnet50_pooled": "resnet50", "swin_b_stage4": "swin_b"}
ENCODERS = ("lite0", "lite0_quality", "brisque", *TIMM_NAMES, *LAST_STAGES)


def load_encoder(name: str, device: str | None = None) -> Encoder:
    """The encoder of that name.

    Args:
        name: one of `ENCODERS`, "timm:NAME", "vlm:FOLDER", "levels:FOLDER" or "shamisa:FOLDER" (or hub names), or
            "path/to/file.py:function".
        device: of the computation; the accelerator if there is one.

    Raises:
        FeatureError: there is no such encoder, or its weights can't be had.
        ModelError: there is no such vision-language model.
        PretrainError: there is no such pretrained encoder.
        ReadoutError: the model of "levels:" has no distribution over scores.

    Example:
        >>> load_encoder("lite0").name
        'lite0'
    """
    if name == "brisque":
        from mriqa.features.brisque import brisque_encoder

        return brisque_encoder()
    from mriqa.features import convolutional

    last_only = name in LAST_STAGES
    name = LAST_STAGES.get(name, name)
    if name == "lite0":
        return convolutional.lite_encoder(device, last_only)
    if name == "lite0_quality":
        return convolutional.lite_quality_encoder(device)
    if name in TIMM_NAMES or name.startswith("timm:"):
        architecture = TIMM_NAMES.get(name) or name.removeprefix("timm:")
        return convolutional.timm_encoder(architecture, device=device, last_only=last_only)
    if name.startswith("vlm:"):
        from mriqa.features.vlm import load_vlm_encoder

        return load_vlm_encoder(name.removeprefix("vlm:"), device)
    if name.startswith("shamisa:"):
        from mriqa.features.shamisa_encoder import load_shamisa_encoder

        return load_shamisa_encoder(name.removeprefix("shamisa:"), device)
    if name.startswith("levels:"):
        from mriqa.features.level_logits import load_levels_encoder

        return load_levels_encoder(name.removeprefix("levels:"), device)
    file, _, function = name.rpartition(":")
    if file.endswith(".py"):
        return _from_file(Path(file), function)
    raise FeatureError(
        f"Unknown encoder {name!r}; choose one of {', '.join(ENCODERS)}, timm:NAME, vlm:FOLDER, levels:FOLDER, "
        "shamisa:FOLDER or FILE.py:FUNCTION."
    )


def _from_file(file: Path, name: str) -> Encoder:
    """The function `name` of a file as an encoder; the file's content is part of its key."""
    if not file.is_file():
        raise FeatureError(f"There is no file {file} to take the encoder {name!r} from.")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable | None = getattr(module, name, None)
    if not callable(function):
        raise FeatureError(f"{file} defines no function {name!r}.")
    version = hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
    return callable_encoder(f"{file}:{name} {version}", function)
