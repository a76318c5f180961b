"""Training the tower's network to see quality: the loss, the crops and what it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from mriqa.embedded.lite_tower import imagenet_trunk
from mriqa.embedded.trained_trunk import (
    CropBatch,
    CropBatches,
    Readings,
    TrunkSettings,
    margin_loss,
    train_trunk,
    trunk_loss,
)
from mriqa.embedded.trunk_hints import Hints
from mriqa.manifest import RatedImage


def test_the_loss_is_that_of_a_plain_loop():
    predicted, scores, beta = [1.0, 2.5, 4.0, 3.9], [1.2, 2.0, 4.9, 1.0], 0.3

    def smooth(error: float) -> float:
        return error**2 / (2 * beta) if abs(error) < beta else abs(error) - beta / 2

    singles = sum(smooth(p - s) for p, s in zip(predicted, scores)) / 4
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    margins = sum(smooth((predicted[i] - predicted[j]) - (scores[i] - scores[j])) for i, j in pairs) / len(pairs)
    found = margin_loss(torch.tensor(predicted), torch.tensor(scores), beta)
    assert float(found) == pytest.approx(singles + margins, rel=1e-6)


def test_what_is_minimised_adds_the_damages_and_the_measures():
    scores, logits, measures = [2.0, 4.0], [[0.0, 2.0], [1.0, 0.0]], [[0.2], [1.5]]
    read = Readings(torch.tensor([2.5, 3.0]), torch.tensor(logits), torch.tensor(measures))
    batch = CropBatch(torch.zeros(2, 3, 8, 8), torch.tensor(scores), torch.tensor([1, 1]), torch.tensor([[0.0], [0.0]]))
    settings = TrunkSettings(damage_weight=0.5, measures_weight=2.0)
    of_damages = (np.log(1 + np.exp(-2)) + np.log(1 + np.exp(1))) / 2
    of_measures = (0.2**2 + (1.5 - 0.25)) / 2  # smooth at 0.5
    of_scores = float(margin_loss(read.scores_B, batch.scores_B, settings.beta))
    expected = of_scores + 0.5 * of_damages + 2 * of_measures
    assert float(trunk_loss(read, batch, settings)) == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Four contents, sharp (5) and blurred (1)."""
    folder = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    found = []
    for content in range(4):
        sharp = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((96, 96), 0)
        for name, picture, mos in (("sharp", sharp, 5.0), ("soft", sharp.filter(ImageFilter.GaussianBlur(3)), 1.0)):
            path = folder / f"{content}-{name}.png"
            picture.save(path)
            found.append(RatedImage(path, mos, 0.5, "toy", str(content), path.stem))
    return found


@pytest.fixture(scope="module")
def hints(rows):
    damages = {row.id: "none" if row.mos == 5 else "blur" for row in rows}
    return Hints(damages, {row.id: (row.mos, float(row.content)) for row in rows})


QUICK = TrunkSettings(steps=12, contents=2, of_content=2, side=64, learning_rate=1e-3, workers=0)


def test_batches_follow_the_seed_and_hold_pictures_of_one_content(rows, hints):
    batches = CropBatches(rows, hints, QUICK)
    crops_B3SS, scores_B, damages_B, measures_BM = batches[3]
    assert crops_B3SS.shape == (4, 3, 64, 64) and crops_B3SS.dtype == torch.uint8
    assert sorted(scores_B[:2].tolist()) == sorted(scores_B[2:].tolist()) == [1.0, 5.0]
    assert [hints.damages[each] for each in damages_B] == ["none" if score == 5 else "blur" for score in scores_B]
    assert measures_BM.shape == (4, 2) and measures_BM[0, 1] == measures_BM[1, 1] != measures_BM[2, 1]
    again = CropBatches(rows, hints, QUICK)[3]
    assert (again.crops_B3SS == crops_B3SS).all() and (again.scores_B == scores_B).all()
    assert not (batches[4].crops_B3SS == crops_B3SS).all()


def test_crops_are_turned_and_mirrored_in_all_eight_ways(tmp_path):
    square = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(square).save(tmp_path / "square.png")
    row = RatedImage(tmp_path / "square.png", 3.0, 0.5, "toy", "square", "square")
    settings = TrunkSettings(steps=1, contents=1, of_content=64, side=64, whole_share=0)
    crops_B3SS = CropBatches([row], Hints({"square": "none"}, {"square": (0.0,)}), settings)[0].crops_B3SS
    expected = {np.rot90(each, turns).tobytes() for each in (square, square[:, ::-1]) for turns in range(4)}
    assert {crop_3SS.permute(1, 2, 0).numpy().tobytes() for crop_3SS in crops_B3SS} == expected


def test_it_learns_and_the_same_seed_gives_the_same_network(rows, hints):
    losses: list[float] = []
    first = train_trunk(rows, hints, QUICK, lambda done, loss: losses.append(loss))
    second = train_trunk(rows, hints, QUICK)
    assert losses[-1] < 0.7 * losses[0] and len(losses) == 12
    same = [(tensor == second.state_dict()[name]).all() for name, tensor in first.state_dict().items()]
    moved = [(tensor != start).any() for tensor, start in zip(first.parameters(), imagenet_trunk().parameters())]
    assert all(same) and all(moved)
