"""Coresets of every size: what is trained, what is measured, classification, and going on."""

from __future__ import annotations

import json

import compare_coresets as recipe
import numpy as np
import pytest
from PIL import Image

from mriqa.datasets.splits import split_by_content
from mriqa.eval.metrics import srcc
from mriqa.features import extract, load_encoder
from mriqa.manifest import RatedImage, read_manifest, write_manifest
from mriqa.selection import load
from mriqa.training.selected_networks.image_classes import labelled_images
from mriqa.training.selected_networks.ridge import fit_ridge


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Forty pictures of ten contents, the noisier the lower rated, and a fast encoder."""
    folder = tmp_path_factory.mktemp("coresets")
    generator = np.random.default_rng(0)
    rows = []
    for index in range(40):
        spread = generator.uniform(2, 60)
        pixels = generator.normal(100 + 10 * (index % 10), spread, (40, 40, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        rows.append(RatedImage(folder / f"{index}.png", 5 - spread / 16, None, "noise", str(index % 10), str(index)))
    write_manifest(rows, folder / "rated.jsonl")
    (folder / "encoder.py").write_text(
        "import numpy as np\n"
        "def moments(images):\n"
        "    x = np.stack([np.asarray(i, dtype=float).reshape(-1, 3) for i in images])\n"
        "    return np.concatenate([x.mean(axis=1), x.std(axis=1)], axis=1)\n"
    )
    return folder


def run(ground, output, *options: str) -> int:
    encoder = f"{ground / 'encoder.py'}:moments"
    common = ["--encoder", encoder, "--quality_encoder", encoder, "--cache", str(ground / "cache")]
    return recipe.main([*common, "--output", str(output), *options])


def test_each_budget_is_what_a_plain_loop_gives_and_a_second_run_adds_what_is_missing(ground, tmp_path):
    options = ["--manifest", str(ground / "rated.jsonl"), "--seeds", "0", "1", "--selectors", "random", "k_center"]
    assert run(ground, tmp_path, *options, "q_diverse", "--fractions", "0.3", "0.9") == 0
    found = json.loads((tmp_path / "results.json").read_text())["results"]
    training, test = split_by_content(read_manifest(ground / "rated.jsonl"), [0.7, 0.3], seed=0)
    encoder = load_encoder(f"{ground / 'encoder.py'}:moments")
    x, x_test = (extract([row.image for row in rows], encoder) for rows in (training, test))
    y, y_test = (np.array([row.mos for row in rows]) for rows in (training, test))
    groups = np.array([row.content for row in training])
    for name, share, seed in (("random", 0.3, 1), ("k_center", 0.9, 0), ("q_diverse", 0.3, 0)):
        chosen = load(name)(x, share, seed=seed, **({"quality": x} if name == "q_diverse" else {}))
        expected = srcc(fit_ridge(x[chosen], y[chosen], groups[chosen]).predict(x_test), y_test)
        own = found[f"{name} / {share:g} / {seed}"]
        assert (own["srcc"], own["images"]) == (expected, len(chosen))
        steps = np.unique(y)
        shares = [np.mean(part[:, None] <= steps, axis=0) for part in (y, y[chosen])]
        assert own["coverage"]["largest_difference"] == pytest.approx(np.abs(shares[0] - shares[1]).max())
    text = (tmp_path / "results.md").read_text()
    assert "| 30 % |" in text and "| 90 % |" in text and "| all |" in text and "Fig. 1" in text
    for name in ("curve.png", "coverage.png"):
        assert min(Image.open(tmp_path / name).size) > 300

    before = (tmp_path / "trainings.json").read_text()
    assert run(ground, tmp_path, *options, "--fractions", "0.3", "0.5") == 0
    after = json.loads((tmp_path / "trainings.json").read_text())["results"]
    added = set(after) - set(json.loads(before)["results"])
    assert added == {f"{name} / 0.5 / {seed}" for name in ("random", "k_center") for seed in (0, 1)}


def test_a_network_trains_on_coresets(ground, tmp_path):
    options = ["--manifest", str(ground / "rated.jsonl"), "--seeds", "0", "--selectors", "random", "moderate"]
    options += ["--network", "timm:test_resnet", "--network_pretrained", "false", "--network_epochs", "1"]
    assert run(ground, tmp_path, *options, "--network_crop", "32", "--fractions", "0.5") == 0
    assert "| 50 % |" in (tmp_path / "results.md").read_text()


def test_digits_are_classified_from_coresets(ground, tmp_path):
    options = ["--classes", "digits", "--seeds", "0", "--fractions", "0.02", "0.3", "--option", "q_diverse.gamma=0.7"]
    code = run(
        ground, tmp_path, *options, "--selectors", "random", "moderate", "q_diverse", "--encoder", pixels(ground)
    )
    assert code == 0
    found = json.loads((tmp_path / "results.json").read_text())["results"]
    assert found["all images / 1 / 0"]["accuracy"] > 0.9  # logistic regression on pixels
    assert found["random / 0.02 / 0"]["accuracy"] < found["random / 0.3 / 0"]["accuracy"]
    images = labelled_images("digits", tmp_path / "digits")
    assert len(images) == 1797 and found["all images / 1 / 0"]["images"] == 1257
    assert not (tmp_path / "coverage.png").exists() and (tmp_path / "curve.png").is_file()


def pixels(ground) -> str:
    (ground / "pixels.py").write_text(
        "import numpy as np\n"
        "def pixels(images):\n"
        "    return np.stack([np.asarray(i, dtype=float)[::4, ::4, 0].ravel() for i in images])\n"
    )
    return f"{ground / 'pixels.py'}:pixels"


def test_a_folder_of_classes_with_a_test_folder(ground, tmp_path):
    for part in ("train", "test"):
        for name, level in (("dark", 40), ("light", 200)):
            (tmp_path / part / name).mkdir(parents=True)
            for place in range(6):
                Image.new("RGB", (36, 36), (level + place,) * 3).save(tmp_path / part / name / f"{place}.png")
    options = ["--classes", str(tmp_path / "train"), "--test_classes", str(tmp_path / "test"), "--fractions", "0.5"]
    options += ["--seeds", "0", "--selectors", "moderate", "--network", "timm:test_resnet", "--network_epochs", "40"]
    options += ["--network_pretrained", "false", "--network_crop", "32", "--network_rate", "0.01"]
    assert run(ground, tmp_path / "out", *options) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert found["all images / 1 / 0"]["images"] == 12 and found["moderate / 0.5 / 0"]["images"] == 6
    assert found["all images / 1 / 0"]["accuracy"] > 0.7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "one of --manifest and --classes"),
        (["--classes", "nowhere"], "no folder nowhere"),
        (["--manifest", "x.jsonl", "--fractions", "1.5"], "shares above 0"),
        (["--manifest", "x.jsonl", "--selectors", "presta"], "Unknown selector 'presta'"),
        (["--manifest", "x.jsonl", "--selectors", "contextual_diversity"], "name --level_encoder"),
        (["--manifest", "x.jsonl", "--option", "gamma=1"], "Unknown selector 'gamma'"),
        (["--manifest", "x.jsonl", "--option", "q_diverse.gama=1"], "can't take options"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(tmp_path, capsys, options, says):
    assert recipe.main(["--output", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1
