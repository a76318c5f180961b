"""Pruning: the right weights go, the best rates are found, and operations are those that torch counts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mriqa.training.selected_networks import pruning


def test_the_smallest_products_of_weight_and_input_norm_go() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(10, 6, generator=generator)
    before = [layer.weight.detach().double().numpy().copy() for layer in (model[0], model[2])]
    layers = pruning.prunable_layers(model)
    with pruning.observed(layers) as seen:
        model(x[:4])
        model(x[4:])
    inputs = [x.double().numpy(), np.maximum(x.double().numpy() @ before[0].T + model[0].bias.detach().numpy(), 0)]
    pruning.wanda(layers, seen, 0.5)
    for layer, weight, own in zip((model[0], model[2]), before, inputs):
        importance = np.abs(weight) * np.sqrt((own**2).sum(axis=0))
        kept = importance >= np.sort(importance, axis=1)[:, weight.shape[1] // 2][:, None]
        np.testing.assert_allclose(layer.weight.detach().numpy(), np.where(kept, weight, 0), rtol=1e-6)


def test_rates_are_the_best_of_all_combinations() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.15, 0.2, 0.55, 0.8):
        sizes = [7, 20, 11]
        distortion_LK = np.sort(rng.uniform(size=(3, len(pruning.RATES))), axis=1)
        distortion_LK[:, 0] = 0
        found = pruning.least_distortion(sizes, distortion_LK, share)
        allowed = [
            columns
            for columns in product(range(len(pruning.RATES)), repeat=3)
            if sum(int(pruning.RATES[c] * size) for c, size in zip(columns, sizes)) >= np.ceil(share * sum(sizes))
        ]
        best = min(allowed, key=lambda columns: sum(distortion_LK[range(3), list(columns)]))
        assert found == list(best)


def test_a_network_loses_the_share_asked_for_where_it_matters_least() -> None:
    """One of two layers has no influence: nearly all of it goes, and its operations with it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2))
    read = nn.Linear(8, 1)
    pictures = torch.rand(4, 3, 12, 10)
    layers = pruning.prunable_layers(model, kinds=(nn.Linear, nn.Conv2d))
    assert list(layers) == ["0", "2"]

    @torch.no_grad()
    def outputs() -> np.ndarray:
        return read(model[:2](pictures).mean(dim=(2, 3)) + 0 * model(pictures).mean(dim=(2, 3)))[:, 0].numpy()

    with pruning.observed(layers) as seen, FlopCounterMode(display=False) as counter:
        model(pictures)
    assert pruning.operations(layers, seen)[1] == counter.get_total_flops()
    with torch.no_grad():
        expected = pictures.square().sum(dim=(0, 2, 3)).sqrt()
    torch.testing.assert_close(seen["0"].norms, expected)
    rates = pruning.rate_distortion(layers, outputs, 0.3)
    assert rates["0"] == 0 and rates["2"] >= 0.5
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers.values())
    assert zeros >= 0.3 * sum(layer.weight.numel() for layer in layers.values())
    left, of_all = pruning.operations(layers, seen)
    total = sum(layer.weight.numel() for layer in layers.values())
    assert left / of_all == pytest.approx(1 - zeros / total)  # both layers have as many positions
