"""Diagnostics of ordinal heads: the sorted similarities, and that every plot is drawn and refuses nonsense."""

import math

import numpy as np
import pytest
from PIL import Image

from mriqa.eval import head_plots


@pytest.fixture
def heads():
    rng = np.random.default_rng(0)
    ranks = rng.uniform(0, 100, 40)
    angles = ranks / 100 * math.pi
    return {
        "ordered": (np.stack([np.cos(angles), np.sin(angles)], axis=1), ranks),
        "not": (rng.normal(size=(40, 6)), ranks),
    }


def test_similarities_in_the_order_of_ranks(heads):
    embeddings, ranks = heads["not"]
    order = sorted(range(40), key=lambda i: ranks[i])
    expected = [[-math.dist(embeddings[i], embeddings[j]) for j in order] for i in order]
    np.testing.assert_allclose(head_plots.sorted_similarity(embeddings, ranks), expected, atol=1e-6)


def test_plots_are_drawn(heads, tmp_path):
    head_plots.similarity_matrices(heads, tmp_path / "similarity.png", title="Two heads")
    head_plots.tsne(heads, tmp_path / "tsne.png")
    runs = {name: {"loss": [3.0, 2.0], "gradient_norm": [1.0, 0.1]} for name in ("I", "II", "VIII")}
    head_plots.weighting_curves(runs, tmp_path / "new" / "curves.png", title="Weightings")
    for name in ("similarity.png", "tsne.png", "new/curves.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 400 and len(image.getcolors(1 << 24)) > 50


@pytest.mark.parametrize("call, sentence", [
    (lambda path: head_plots.similarity_matrices({}, path), "no embeddings"),
    (lambda path: head_plots.tsne({"a": (np.ones((5, 2)), np.ones(4))}, path), "one rank to each"),
    (lambda path: head_plots.tsne({"a": (np.full((5, 2), math.nan), np.ones(5))}, path), "NaN or infinite"),
    (lambda path: head_plots.weighting_curves({}, path), "no runs"),
    (lambda path: head_plots.weighting_curves({"I": {"loss": [1.0]}}, path), "Run 'I' needs"),
])  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        call(tmp_path / "no.png")
    assert not list(tmp_path.iterdir())
