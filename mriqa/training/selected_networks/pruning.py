"""Prune a network's weights by what calibration pictures show: Wanda, and shares of layers by rate and distortion.

Wanda (Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024) sets to zero, in each
row of a linear layer, the same share of the weights: those of the smallest |weight| × norm of their input.

The other way follows the idea of RDPrune (Xu et al., "Efficient Joint Optimization of Layer-Adaptive Weight Pruning in
Deep Neural Networks", ICCV 2023), which Q-Diverse prunes by; it is not its authors' code. Each layer alone loses its
smallest weights at several rates, and how far that moves the network's outputs on the calibration pictures is the
layer's curve of rate and distortion. Distortions of several layers are taken to add up, and dynamic programming finds
the rate of each layer that prunes the share asked for with the least sum. As layers differ in the positions that their
weights work at, the operations left depend on the calibration pictures.

Legend: L layers, K rates, N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
UNITS = 2000  # that dynamic programming counts a network's weights in

Layer = nn.Linear | nn.Conv2d


@dataclass
class Observed:
    """What ran through a layer: the root of the summed squares (in,) of each of its inputs, and how many positions."""

    norms: Tensor
    positions: int


def prunable_layers(
    model: nn.Module, left_alone: Collection[str] = (), kinds: tuple[type[nn.Module], ...] = (nn.Linear,)
) -> dict[str, Any]:
    """The layers of these kinds by name, without those under a module whose name is among `left_alone`."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, kinds) and not set(name.split(".")) & set(left_alone)
    }


@contextmanager
def observed(layers: dict[str, Any]) -> Iterator[dict[str, Observed]]:
    """What runs through each layer inside the block; filled when the block ends."""
    squares: dict[str, Tensor] = {}
    positions = dict.fromkeys(layers, 0)

    def note(name: str) -> Any:
        def hook(layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            values = inputs[0].detach().float()
            own = values.square().sum(dim=(0, 2, 3)) if isinstance(layer, nn.Conv2d) else _squares_of_rows(values)
            squares[name] = squares.get(name, torch.zeros_like(own)) + own
            positions[name] += output.numel() // layer.weight.shape[0]

        return hook

    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    found: dict[str, Observed] = {}
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
    found.update({name: Observed(own.sqrt(), positions[name]) for name, own in squares.items()})


def _squares_of_rows(values: Tensor) -> Tensor:
    return values.flatten(0, -2).square().sum(dim=0)


def wanda(layers: dict[str, Any], seen: dict[str, Observed], share: float) -> None:
    """Set to zero, in each row of each linear layer's weights, the `share` with the smallest |weight| × input norm."""
    for name, layer in layers.items():
        importance = layer.weight.detach().abs() * seen[name].norms
        places = importance.argsort(dim=1, stable=True)[:, : int(share * importance.shape[1])]
        _set_to_zero(layer, torch.ones_like(importance).scatter_(1, places, 0.0))


def smallest(layer: Layer, share: float) -> None:
    """Set to zero the `share` of a layer's weights that is smallest, rounded down."""
    weights = layer.weight.detach().abs().flatten()
    mask = torch.ones_like(weights)
    mask[weights.argsort(stable=True)[: int(share * len(weights))]] = 0.0
    _set_to_zero(layer, mask.view_as(layer.weight))


def rate_distortion(layers: dict[str, Any], outputs: Callable[[], np.ndarray], share: float) -> dict[str, float]:
    """Prune `share` of all weights or a little more, each layer at its own rate, which is returned by its name.

    Arguments:
        layers: what is pruned.
        outputs: the network's outputs (N,) on the calibration pictures, as it stands at the call.
        share: of the weights of all layers together, 0 to below the highest of `RATES`.
    """
    before_N = outputs()
    sizes = [layer.weight.numel() for layer in layers.values()]
    distortion_LK = np.zeros((len(layers), len(RATES)))
    for place, layer in enumerate(layers.values()):
        whole = layer.weight.detach().clone()
        for column, rate in enumerate(RATES[1:], start=1):
            smallest(layer, rate)
            distortion_LK[place, column] = np.square(outputs() - before_N).mean()
            with torch.no_grad():
                layer.weight.copy_(whole)
    columns = least_distortion(sizes, distortion_LK, share)
    rates = {name: RATES[column] for name, column in zip(layers, columns, strict=True)}
    for name, layer in layers.items():
        smallest(layer, rates[name])
    return rates


def least_distortion(sizes: Sequence[int], distortion_LK: np.ndarray, share: float) -> list[int]:
    """The column of `RATES` for each layer (L,) with the least sum of distortions that prunes at least the share.

    Arguments:
        sizes: weights of each layer (L,).
        distortion_LK: of each layer at each rate.
        share: of all weights; up to `UNITS` of them are counted exactly, more in that many parts, rounded so that no
            less than the share is pruned.
    """
    total = sum(sizes)
    unit = max(1, total // UNITS)
    pruned_LK = [[int(rate * size) // unit for rate in RATES] for size in sizes]
    wanted = -(-int(np.ceil(share * total)) // unit)
    best_W = np.full(wanted + 1, np.inf)  # least distortion so far that prunes w units, the last one or more
    best_W[0] = 0.0
    chosen: list[np.ndarray] = []
    for pruned_K, distortion_K in zip(pruned_LK, distortion_LK, strict=True):
        next_W, from_W = np.full(wanted + 1, np.inf), np.full((wanted + 1, 2), -1)
        for column, (units, distortion) in enumerate(zip(pruned_K, distortion_K, strict=True)):
            for before in np.flatnonzero(np.isfinite(best_W)):
                after = min(before + units, wanted)
                if best_W[before] + distortion < next_W[after]:
                    next_W[after], from_W[after] = best_W[before] + distortion, (column, before)
        best_W = next_W
        chosen.append(from_W)
    columns, at = [], wanted if np.isfinite(best_W[wanted]) else int(np.flatnonzero(np.isfinite(best_W))[-1])
    for from_W in reversed(chosen):
        column, at = from_W[at]
        columns.append(int(column))
    return columns[::-1]


def operations(layers: dict[str, Any], seen: dict[str, Observed]) -> tuple[float, float]:
    """Floating point operations of the layers' weights on what was seen: of those that aren't zero, and of all."""
    left = sum(2.0 * seen[name].positions * int(layer.weight.count_nonzero()) for name, layer in layers.items())
    return left, sum(2.0 * seen[name].positions * layer.weight.numel() for name, layer in layers.items())


def _set_to_zero(layer: Layer, mask: Tensor) -> None:
    prune.custom_from_mask(layer, "weight", mask)
    prune.remove(layer, "weight")  # the zeros become the weights
