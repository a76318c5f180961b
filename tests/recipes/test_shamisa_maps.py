"""The maps' recipe makes the paper's versions of a picture, and writes figures and places."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mriqa.files import write_jsonl
from mriqa.pretrain.feature_maps import blur_noise_grid
from recipes.shamisa_maps import blurred_and_noisy, main

ENCODER = """
import numpy as np
def means(images):
    return np.stack([np.asarray(each, dtype=np.float32).reshape(-1, 3).std(axis=0) for each in images])
"""


@pytest.fixture
def ground(tmp_path):
    (tmp_path / "encoder.py").write_text(ENCODER)
    rng = np.random.default_rng(0)
    rows = []
    for place in range(12):
        Image.fromarray(rng.integers(0, 255, (40, 44, 3), dtype=np.uint8)).save(tmp_path / f"{place}.png")
        name = ["jpeg", "jpeg2000", "white_noise"][place % 3]
        rows.append({"image": f"{place}.png", "mos": 3.0, "distortion": name, "level": 1 + place % 5})
    write_jsonl(rows, tmp_path / "rated.jsonl")
    return tmp_path


def test_versions_are_blurred_then_noisy():
    from scipy.ndimage import gaussian_filter1d

    ramp = np.tile(np.linspace(60, 190, 64), (64, 1)).astype(np.uint8)
    ramp[:, 32:] //= 2
    picture = Image.fromarray(np.stack([ramp] * 3, axis=2))
    versions = dict(zip(blur_noise_grid(), blurred_and_noisy(picture, blur_noise_grid(), 0), strict=True))
    blurred = gaussian_filter1d(gaussian_filter1d(np.asarray(picture) / 255, 2.0, axis=0), 2.0, axis=1)
    found = np.asarray(versions[4, 0]) / 255
    assert np.abs(found - blurred)[16:-16, 16:-16].max() < 0.01
    noise = (np.asarray(versions[4, 5]).astype(float) - np.asarray(versions[4, 0])) / 255
    assert noise.var() == pytest.approx(0.01, rel=0.05)
    assert np.abs(np.asarray(versions[1, 0]).astype(int) - np.asarray(picture)).max() <= 1  # sigma 0.1


def test_tsne_of_a_manifest(ground):
    common = ["--encoders", f"{ground / 'encoder.py'}:means", "--crop", "32", "--cache", str(ground / "cache")]
    assert main([*common, "--manifest", str(ground / "rated.jsonl"), "--output", str(ground / "out")]) == 0
    found = json.loads((ground / "out" / "places.json").read_text())
    (places,) = found["places"].values()
    assert len(places) == 12 and found["distortion"][:3] == ["jpeg", "jpeg2000", "white_noise"]
    written = {path.name for path in (ground / "out").glob("*.png")}
    assert written == {"tsne_families.png", "tsne_levels.png", "tsne_compression.png", "tsne_noise.png"}


def test_umap_of_pristine_pictures(ground):
    arguments = ["--kind", "umap", "--encoders", f"{ground / 'encoder.py'}:means", "--images", str(ground)]
    assert main([*arguments, "--pictures", "2", "--crop", "32", "--output", str(ground / "out")]) == 0
    found = json.loads((ground / "out" / "places.json").read_text())
    (places,) = found["places"].values()
    assert len(places) == 70 and (ground / "out" / "umap.png").is_file()


def test_what_cannot_be_mapped_is_one_sentence(ground, capsys):
    encoder = f"{ground / 'encoder.py'}:means"
    write_jsonl([{"image": "0.png", "mos": 3.0}], ground / "plain.jsonl")
    for arguments, says in (
        ([], "needs a --manifest"),
        (["--kind", "umap"], "needs pristine --images"),
        (["--kind", "pca"], "one of tsne, umap"),
        (["--manifest", str(ground / "plain.jsonl")], "names its distortion"),
    ):
        assert main(["--encoders", encoder, *arguments]) == 2
        assert says in capsys.readouterr().err
