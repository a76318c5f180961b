"""The auxiliary head against the papers' formulas in plain float64 loops, and what it keeps on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import ordinal_formulas
import pytest
import torch

from mriqa.heads import HeadError
from mriqa.heads.neighbour_head import AuxiliaryHead, HeadScorer

FEATURES, IMAGES = 12, 7


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Features of very different size, and MOS of which two are tied."""
    generator = torch.Generator().manual_seed(0)
    features = 40 * torch.randn(IMAGES, FEATURES, generator=generator)
    return features, torch.tensor([1.0, 1.52, 2.3, 2.3, 3.87, 4.5, 5.0])


def embedded(head: AuxiliaryHead, features: torch.Tensor) -> list[list[float]]:
    """Standardised, projected, put on the unit sphere: one number after the other."""
    weight, bias = head.projection.weight.tolist(), head.projection.bias.tolist()
    rows = []
    for row in features.tolist():
        mean = math.fsum(row) / len(row)
        std = math.sqrt(math.fsum((x - mean) ** 2 for x in row) / len(row) + 1e-5)
        z = [b + math.fsum(w * (x - mean) / std for w, x in zip(ws, row)) for ws, b in zip(weight, bias)]
        norm = math.sqrt(math.fsum(x * x for x in z))
        rows.append([x / norm for x in z])
    return rows


def centre(head: AuxiliaryHead, z: list[list[float]], ranks: list[float]) -> float:
    """Mean distance to the reference point of the rank, rounded to whole points of 0..100."""
    of_bin = dict(zip(head.points.point_bins_MR[:, 0].tolist(), head.points.points.tolist(), strict=True))
    return math.fsum(math.dist(row, of_bin[round(rank)]) for row, rank in zip(z, ranks, strict=True)) / len(z)


def test_loss_is_conord_and_centre_of_the_projection(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, mos = batch
    head = AuxiliaryHead(FEATURES, mos, width=5, seed=1)
    z, ranks = embedded(head, features), [25 * (each - 1) for each in mos.tolist()]
    expected = ordinal_formulas.conord(z, ranks, "VIII") + centre(head, z, ranks)
    assert head(features, mos).item() == pytest.approx(expected, rel=1e-4)
    one = centre(head, z[:1], ranks[:1])
    assert head(features[:1], mos[:1]).item() == pytest.approx(one, rel=1e-4), "one image: nothing to compare"
    halves = head(features.bfloat16(), mos)
    assert halves.dtype == torch.float32 and halves.item() == pytest.approx(expected, rel=0.05)


def test_first_weights_depend_on_the_seed_alone(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    weights = [AuxiliaryHead(FEATURES, batch[1], seed=seed).projection.weight for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_scores_are_the_mean_mos_of_the_nearest(batch: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    features, mos = batch
    head = AuxiliaryHead(FEATURES, mos, width=5)
    known = HeadScorer.build(head, "vision", features, mos, neighbours=3)
    queries = torch.randn(4, FEATURES, generator=torch.Generator().manual_seed(2))
    z, z_known = embedded(head, queries), embedded(head, features)
    expected = []
    for query in z:
        nearest = sorted(range(IMAGES), key=lambda place: math.dist(query, z_known[place]))[:3]
        expected.append(sum(mos[place].item() for place in nearest) / 3)
    assert known.scores(queries).tolist() == pytest.approx(expected, abs=1e-5)

    known.save(tmp_path / "conord")
    loaded = HeadScorer.load(tmp_path / "conord")
    assert (loaded.pooling, loaded.neighbours) == ("vision", 3)
    assert torch.equal(loaded.scores(queries), known.scores(queries))
    assert loaded.head(features, mos).item() == head(features, mos).item()
    many = [HeadScorer.build(head, "vision", features.repeat(n, 1), mos.repeat(n)).neighbours for n in (1, 9, 90)]
    assert many == [1, 6, 10], "ten neighbours, or a tenth of few images"


def test_refusals(batch: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    features, mos = batch
    head = AuxiliaryHead(FEATURES, mos)
    with pytest.raises(HeadError, match="no training ranks"):
        AuxiliaryHead(FEATURES, torch.empty(0))
    with pytest.raises(HeadError, match="7 embeddings hold NaN"):
        head(features * math.nan, mos)
    with pytest.raises(HeadError, match="has no reference point"):
        head(features, mos - 0.5)
    with pytest.raises(HeadError, match="k is 8, but the index holds 7 items"):
        HeadScorer.build(head, "vision", features, mos, neighbours=8).scores(features)
    with pytest.raises(HeadError, match="index is empty"):
        HeadScorer.build(head, "vision", features[:0], mos[:0]).scores(features)
    known = HeadScorer.build(head, "vision", features, mos)
    with pytest.raises(HeadError, match="reads 12 features, but this model gives 5"):
        known.scores(features[:, :5])

    with pytest.raises(HeadError, match="holds no auxiliary head"):
        HeadScorer.load(tmp_path)
    known.save(tmp_path)
    (tmp_path / "head.json").write_text(json.dumps({"format": "another"}))
    with pytest.raises(HeadError, match="no auxiliary head of this version"):
        HeadScorer.load(tmp_path)
    known.save(tmp_path)
    HeadScorer.build(AuxiliaryHead(FEATURES, mos, width=4), "vision", features, mos).index.save(tmp_path)
    with pytest.raises(HeadError, match="is of width 4, its head of 64"):
        HeadScorer.load(tmp_path)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(HeadError, match=r"lacks head.safetensors"):
        HeadScorer.load(tmp_path)
