"""The rank index: eq. 10 against a full sort, growing, saving, and its refusals."""

import json
import math
from importlib.util import find_spec

import pytest
import torch

from mriqa.heads import HeadError, RankIndex, neighbours

BACKENDS = ["torch", pytest.param("faiss", marks=pytest.mark.skipif(find_spec("faiss") is None, reason="no faiss"))]


@pytest.fixture
def items():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(300, 8, generator=generator), torch.rand(300, generator=generator) * 100


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_rank_of_the_nearest_in_blocks_and_in_pieces(items, backend, monkeypatch):
    monkeypatch.setattr(neighbours, "ITEM_BLOCK", 7)
    monkeypatch.setattr(neighbours, "QUERY_BLOCK", 4)
    embeddings, ranks = items
    queries = torch.randn(10, 8, generator=torch.Generator().manual_seed(1))
    index = RankIndex(embeddings[:2], ranks[:2], backend=backend)
    index.add(embeddings[2:150], ranks[2:150])
    index.predict(queries, k=2)
    index.add(embeddings[150:], ranks[150:])
    distances = (queries.double()[:, None] - embeddings.double()[None]).norm(dim=2)
    for k in (1, 9, 300):
        nearest = distances.argsort(dim=1)[:, :k]
        expected = ranks.double()[nearest].mean(dim=1).float()
        torch.testing.assert_close(index.predict(queries, k=k), expected)
        found, places = index.neighbours(queries, k=k)
        torch.testing.assert_close(found, distances.gather(1, nearest).float(), rtol=1e-5, atol=1e-4)
        assert torch.equal(places, nearest)
    assert len(index) == 300 and index.predict(queries[:0], k=3).shape == (0,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_save_load_and_add(items, tmp_path, backend):
    embeddings, ranks = items
    gaze = torch.stack([ranks, -ranks], dim=1)
    index = RankIndex(embeddings[:200], gaze[:200], backend=backend)
    index.save(tmp_path / "index")
    again = RankIndex.load(tmp_path / "index", backend=backend)
    again.add(embeddings[200:], gaze[200:])
    again.save(tmp_path / "index")
    expected = RankIndex(embeddings, gaze).predict(embeddings + 0.01, k=5)
    assert expected.shape == (300, 2)
    torch.testing.assert_close(RankIndex.load(tmp_path / "index").predict(embeddings + 0.01, k=5), expected)
    assert len(list((tmp_path / "index").iterdir())) == 2


def test_an_interrupted_save_leaves_the_old_index(items, tmp_path, monkeypatch):
    embeddings, ranks = items
    index = RankIndex(embeddings[:20], ranks[:20])
    index.save(tmp_path)
    index.add(embeddings, ranks)

    def full_disk(tensors, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(neighbours, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        index.save(tmp_path)
    assert len(RankIndex.load(tmp_path)) == 20 and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("call, sentence", [
    (lambda index, z: RankIndex().predict(z), "The rank index is empty"),
    (lambda index, z: RankIndex(z[:0], z[:0, 0]).predict(z), "The rank index is empty"),
    (lambda index, z: index.predict(z, k=4), "k is 4, but the index holds 3 items"),
    (lambda index, z: index.predict(z, k=0), "k is 0"),
    (lambda index, z: index.predict(z * math.nan, k=1), "3 of 3 embeddings hold NaN"),
    (lambda index, z: index.add(z * math.inf, z[:, 0]), "3 of 3 embeddings hold NaN"),
    (lambda index, z: index.add(z, z[:2, 0]), "give one rank to each"),
    (lambda index, z: index.add(z[:, :1], z[:, 0]), "width 2 with ranks of 1 numbers, but these have 1 and 1"),
    (lambda index, z: index.predict(z[:, :1], k=1), "Queries have width 1, but the index 2"),
    (lambda index, z: RankIndex(backend="annoy"), "Unknown backend 'annoy'"),
])  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence):
    z = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    with pytest.raises(HeadError, match=sentence):
        call(RankIndex(z, torch.tensor([1.0, 2.0, 3.0])), z)


def test_broken_folders_are_one_sentence(items, tmp_path):
    with pytest.raises(HeadError, match="holds no rank index"):
        RankIndex.load(tmp_path)
    RankIndex(*items).save(tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    for changed, sentence in (
        ({**about, "count": 7}, "does not hold what"),
        ({**about, "items": "../../elsewhere.safetensors"}, "names elsewhere.safetensors, which is missing"),
        ({**about, "format": "other"}, "no rank index of this version"),
    ):
        (tmp_path / "index.json").write_text(json.dumps(changed))
        with pytest.raises(HeadError, match=sentence):
            RankIndex.load(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(HeadError, match="is not JSON"):
        RankIndex.load(tmp_path)
