"""The comparison of ordinal losses on frozen features: a whole small run, and that its splits share no content."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mriqa.heads import conord_loss
from mriqa.manifest import RatedImage, write_manifest


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """Forty 64×64 images of ten contents, the noisier the lower rated."""
    folder = tmp_path_factory.mktemp("noisy")
    generator = np.random.default_rng(0)
    rows = []
    for index in range(40):
        pixels = generator.normal(100 + 8 * (index // 4), 4 + 20 * (index % 4), (64, 64, 3)).clip(0, 255)
        path = folder / f"{index}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        mos = 4.6 - index % 4 + 0.01 * (index // 4)
        rows.append(RatedImage(image=path, mos=mos, std=0.5, dataset="noise", content=str(index // 4), id=f"i{index}"))
    write_manifest(rows, folder / "rows.jsonl")
    return folder / "rows.jsonl"


def test_a_whole_run(rated, tmp_path):
    import conord_features

    options = ["--manifest", str(rated), "--output", str(tmp_path), "--size", "64", "--crop", "48", "--splits", "2"]
    methods = ["ConOrd + centre (sum)", "SupCon", "L1 regression", "ridge", "nearest neighbours, untrained"]
    assert conord_features.main([*options, "--steps", "3", "--methods", *methods]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == methods
    assert all(len(found["srcc"]) == 2 for found in results.values())
    assert min(results["ridge"]["srcc"]) > 0.8  # noise is easily seen
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert len(lines) == 2 + len(results) and "nan" not in "".join(lines)
    plots = {path.name for path in tmp_path.glob("*.png")}
    assert plots == {"similarity.png", "tsne.png", "weightings.png"}


def test_parts_share_no_content_and_training_is_repeatable(rated):
    import conord_features

    from mriqa.manifest import read_manifest

    rows = read_manifest(rated)
    place = {row.id: index for index, row in enumerate(rows)}
    train, test = conord_features.split(rows, place, 0.2, seed=3)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(40))
    assert not {rows[i].content for i in train} & {rows[i].content for i in test}

    x = torch.randn(40, 5, 7, generator=torch.Generator().manual_seed(0))
    ranks = torch.linspace(0, 100, 40)
    x[..., 0] = (ranks[:, None] - 50) / 25
    settings = conord_features.Settings(learning_rate=1e-2)
    once, again = (conord_features.fit("ConOrd", x, ranks, settings, steps=30, seed=1) for _ in range(2))
    assert torch.equal(once.linear.weight, again.linear.weight)
    untrained = conord_features.fit("ConOrd", x, ranks, settings, steps=1, seed=1)
    embedded = [conord_loss(conord_features.embed(model, x), ranks) for model in (untrained, once)]
    assert embedded[1] < embedded[0]
