"""Weights of the fast pathway from a file: by the names of `FastPathway`, or by those of pytorchvideo's SlowFast.

pytorchvideo's `slowfast_r50` (trained on Kinetics-400) holds both pathways; the fast one is the second of each stage,
and only its tensors are taken: the lateral connections lead from it to the slow one and not back. Files are
safetensors. pytorchvideo publishes a pickle, which is turned into one by

    from safetensors.torch import save_file
    state = torch.load("SLOWFAST_8x8_R50.pyth", weights_only=True)["model_state"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, "slowfast_r50.safetensors")
"""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mriqa.conord.video_motion import FastPathway
from mriqa.heads.inputs import HeadError

FAST = re.compile(r"(?:.*\.)?blocks\.(\d+)\.multipathway_blocks\.1\.(.+)")
STEM_LAYERS = 4  # of FastPathway.layers: convolution, norm, ReLU, pooling
STEM_NAMES = {"conv": 0, "norm": 1}
SHORTCUT_NAMES = {"branch1_conv": 0, "branch1_norm": 1}


def load_fast_pathway(fast: FastPathway, path: str | Path) -> None:
    """Put the weights in a safetensors file into the pathway.

    Raises:
        HeadError: no such file, or its tensors do not fit.
    """
    try:
        state = load_file(path)
        if any(FAST.fullmatch(name) for name in state):
            state = from_pytorchvideo(state, fast.depths)
        fast.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError, KeyError, IndexError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise HeadError(f"fast_weights {path} cannot be loaded ({reason}).") from error


def from_pytorchvideo(state: dict[str, Tensor], depths: tuple[int, ...]) -> dict[str, Tensor]:
    """pytorchvideo's tensors of the fast pathway under the names of `FastPathway`; all others are left out.

    Arguments:
        state: of a SlowFast network, or of a network that holds one.
        depths: blocks of the four stages.
    """
    starts = [STEM_LAYERS + sum(depths[:stage]) for stage in range(len(depths))]
    renamed = {}
    for name, tensor in state.items():
        if match := FAST.fullmatch(name):
            renamed[f"layers.{_layer(int(match[1]), match[2], starts)}"] = tensor
    return renamed


def _layer(stage: int, rest: str, starts: list[int]) -> str:
    """The name behind "layers." of a tensor of a stage, 0 being the stem."""
    if stage == 0:
        part, _, tensor = rest.partition(".")
        return f"{STEM_NAMES[part]}.{tensor}"
    _, block, part, tensor = rest.split(".", 3)
    place = starts[stage - 1] + int(block)
    if part in SHORTCUT_NAMES:
        return f"{place}.shortcut.{SHORTCUT_NAMES[part]}.{tensor}"
    return f"{place}.body.{tensor}"
