"""Pruning on selected calibration images: the right weights go, and a small run reports every selector."""

from __future__ import annotations

import json

import numpy as np
import prune_calibration as recipe
import torch
from torch import nn


def test_the_smallest_products_of_weight_and_input_norm_go():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(10, 6, generator=generator)
    before = [layer.weight.detach().double().numpy().copy() for layer in (model[0], model[2])]
    with recipe.input_norms(model) as norms:
        model(x[:4])
        model(x[4:])
    inputs = [x.double().numpy(), np.maximum(x.double().numpy() @ before[0].T + model[0].bias.detach().numpy(), 0)]
    recipe.prune_by(model, norms, 0.5)
    for layer, weight, seen in zip((model[0], model[2]), before, inputs):
        importance = np.abs(weight) * np.sqrt((seen**2).sum(axis=0))
        kept = importance >= np.sort(importance, axis=1)[:, weight.shape[1] // 2][:, None]
        np.testing.assert_allclose(layer.weight.detach().numpy(), np.where(kept, weight, 0), rtol=1e-6)


def test_a_small_run(tiny_model, manifest, tmp_path):
    options = ["--model", str(tiny_model), "--manifest", str(manifest), "--test_manifest", str(manifest)]
    options += ["--budget", "3", "--seeds", "1", "--output", str(tmp_path)]
    assert recipe.main([*options, "--target", str(manifest)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["after"]) == set(recipe.DEFAULT_SELECTORS)
    assert recipe.main([*options, "--share", "0", "--selectors", "random"]) == 0
    untouched = json.loads((tmp_path / "results.json").read_text())
    assert untouched["after"]["random"] == [untouched["before"]] == [results["before"]]


def test_it_says_what_is_missing(tiny_model, manifest, tmp_path, capsys):
    options = ["--model", str(tiny_model), "--manifest", str(manifest), "--test_manifest", str(manifest)]
    assert recipe.main([*options, "--budget", "7", "--output", str(tmp_path)]) == 2
    assert "budget is 7, but there are 6" in capsys.readouterr().err
    assert "presta" not in recipe.parse_arguments(options).selectors
