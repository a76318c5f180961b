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


METHODS = ["ConOrd + centre (mean)", "centre alone (sum)", "SupCon", "L1 regression", "ridge"]
METHODS += ["nearest neighbours, untrained"]


def test_a_whole_run_goes_on_where_it_stopped(rated, tmp_path, capsys):
    import conord_features

    out = tmp_path / "out"
    options = ["--manifest", str(rated), "--output", str(out), "--cache", str(tmp_path), "--crop", "48"]
    options += ["--steps", "3", "--methods", *METHODS, "--splits"]
    assert conord_features.main([*options, "1", "--no_plots"]) == 0
    first = json.loads((out / "results.json").read_text())["results"]
    capsys.readouterr()
    assert conord_features.main([*options, "2"]) == 0
    assert "split 0" not in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())["results"]
    assert list(results) == METHODS and all(len(found) == 2 for found in results.values())
    assert all(results[method][0] == first[method][0] for method in METHODS)
    assert min(outcome["srcc"] for outcome in results["ridge"]) > 0.8  # noise is easily seen
    lines = (out / "table.md").read_text().splitlines()
    assert len(lines) == 2 + len(results) and "nan" not in "".join(lines)
    ridge, conord = ([outcome["srcc"] for outcome in results[name]] for name in ("ridge", METHODS[0]))
    row = next(line for line in lines if line.startswith("| ridge |")).split("|")
    assert row[2].strip() == f"{sum(ridge) / 2:.3f}" and row[3].split()[0] == f"{sum(ridge) / 2:.3f}"
    assert row[5].split()[0] == f"{(sum(ridge) - sum(conord)) / 2:+.3f}"
    assert {path.name for path in out.glob("*.png")} == {"similarity.png", "tsne.png", "weightings.png"}
    assert conord_features.main([*options, "2", "--crop", "40"]) == 2
    assert "holds results of other options" in capsys.readouterr().err


def test_photographs_are_distorted_and_labelled(tmp_path):
    import conord_features

    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(12):
        pixels = generator.integers(0, 255, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((400, 400), Image.Resampling.BICUBIC).save(tmp_path / f"photos/{index}.png")
    options = ["--photos", tmp_path / "photos", "--images", 24, "--output", tmp_path / "out", "--cache", tmp_path]
    options += ["--crop", 48, "--splits", 1, "--methods", "ridge", "--no_plots"]
    assert conord_features.main(list(map(str, options))) == 0
    rows = (tmp_path / "out" / "labelled" / "train.jsonl").read_text().splitlines()
    assert len(rows) == 24 and len({json.loads(row)["content"] for row in rows}) == 10  # two are in the other splits
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["results"]["ridge"]) == 1


def test_the_losses_of_a_method_are_the_sum_of_its_terms():
    import conord_features

    torch.manual_seed(0)
    ranks = torch.tensor([10.0, 10.0, 30.0, 80.0])
    model = conord_features.Projection(7, dropout=0.0)
    z = model(torch.randn(4, 7))
    for name, method in conord_features.TRAINED.items():
        loss_of, trained = conord_features.objective(method, model, ranks, torch.Generator().manual_seed(1))
        found = loss_of(z, ranks)
        expected = torch.zeros(())
        if method.loss is not None:
            bare = conord_features.Method(method.loss)
            expected = conord_features.objective(bare, model, ranks, torch.Generator())[0](z, ranks)
        if method.centre:
            ((points, _),) = trained
            place = {10.0: 0, 30.0: 1, 80.0: 2}
            distances = torch.stack([(one - points.points[place[r]]).norm() for one, r in zip(z, ranks.tolist())])
            expected = expected + (distances.sum() if method.centre == "sum" else distances.mean())
        torch.testing.assert_close(found, expected, msg=name)
    ordinal = conord_features.objective(conord_features.TRAINED["ConOrd"], model, ranks, torch.Generator())[0]
    torch.testing.assert_close(ordinal(z, ranks), conord_loss(z, ranks))


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
