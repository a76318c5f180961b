"""The head's score beside the policy's: equal to features of a stock forward, the projection and its neighbours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import mriqa
from mriqa.answers import load_format
from mriqa.heads.neighbour_head import AuxiliaryHead, HeadScorer
from mriqa.models import ModelError
from mriqa.scoring.prompts import prompt_batch
from mriqa.scoring.reading import ReadoutError

MOS = torch.tensor([1.5, 2.0, 3.1, 4.4, 4.9])
NEIGHBOURS = 2


@torch.no_grad()
def features(taught_model: Any, picture: Image.Image, pooling: str) -> torch.Tensor:
    model, processor = taught_model
    inputs = prompt_batch(processor, load_format("non_thinking"), [picture])
    hidden = model(**inputs, output_hidden_states=True).hidden_states
    if pooling == "last_hidden":
        return hidden[-1][0, -1]
    return hidden[0][0][inputs["input_ids"][0] == model.config.image_token_id].mean(dim=0)


def plain_scores(taught_model: Any, pictures: list[Image.Image], known: HeadScorer, pooling: str) -> list[float]:
    weight, bias = known.head.projection.weight.detach(), known.head.projection.bias.detach()

    def embedding(picture: Image.Image) -> torch.Tensor:
        x = features(taught_model, picture, pooling).double()
        x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
        return F.normalize(weight.double() @ x + bias.double(), dim=0)

    items = known.index._embeddings[0].double()
    nearest = [(items - embedding(picture)).norm(dim=1).argsort()[:NEIGHBOURS] for picture in pictures]
    return [MOS[places].mean().item() for places in nearest]


@pytest.fixture(scope="module")
def heads(taught_model: Any) -> dict[str, HeadScorer]:
    """For each pooling a head whose five training images lie around what these pictures give."""
    generator = torch.Generator().manual_seed(4)
    made = {}
    for pooling in ("last_hidden", "vision"):
        pictures = [
            Image.fromarray(torch.randint(0, 256, (90, 90, 3), generator=generator, dtype=torch.uint8).numpy())
            for _ in MOS
        ]
        known = torch.stack([features(taught_model, picture, pooling) for picture in pictures])
        known = known + known.std() * torch.randn(known.shape, generator=generator)
        made[pooling] = HeadScorer.build(AuxiliaryHead(known.shape[1], MOS), pooling, known, MOS, NEIGHBOURS)
    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, taught_model: Any, heads: dict[str, HeadScorer]) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    for part in taught_model:
        part.save_pretrained(folder)
    heads["last_hidden"].save(folder / "conord")
    return folder


@pytest.mark.parametrize("pooling", ["last_hidden", "vision"])
@pytest.mark.parametrize("readout", [{}, {"readout": "greedy"}, {"readout": "sample", "samples": 3}, {"passes": 2}])
def test_head_score_is_that_of_a_stock_forward(
    taught_model: Any,
    pictures: list[Image.Image],
    heads: dict[str, HeadScorer],
    monkeypatch: pytest.MonkeyPatch,
    readout: dict[str, Any],
    pooling: str,
) -> None:
    if readout.pop("passes", 1) == 2:
        monkeypatch.setattr("mriqa.scoring.digit_tree.family_of", lambda _: None)
    scores = mriqa.Scorer(*taught_model, head=heads[pooling], batch_size=2, **readout).score(pictures)
    found = [score.head_score for score in scores]
    assert found == pytest.approx(plain_scores(taught_model, pictures, heads[pooling], pooling), abs=1e-5)
    plain = mriqa.Scorer(*taught_model, batch_size=2, **readout).score(pictures)
    assert [score.score for score in plain] == [score.score for score in scores]
    assert all(score.head_score is None for score in plain)


def test_from_pretrained_finds_the_head_and_averages_views(
    saved: Path, taught_model: Any, pictures: list[Image.Image], heads: dict[str, HeadScorer]
) -> None:
    big = pictures[1].resize((160, 160), Image.Resampling.BICUBIC)
    crops = [big.crop((x, y, x + 96, y + 96)) for x, y in ((0, 0), (64, 0), (0, 64), (64, 64), (32, 32))]
    each = plain_scores(taught_model, crops, heads["last_hidden"], "last_hidden")
    scorer = mriqa.Scorer.from_pretrained(
        saved, device="cpu", head="conord", views={"size": 160, "crop": 96, "count": 5}, batch_size=10
    )
    sound, broken = scorer.score([pictures[1], b"no picture"])
    assert sound.head_score == pytest.approx(sum(each) / 5, abs=1e-5)
    assert broken.head_score is None and math.isnan(broken.score)


def test_refusals(saved: Path) -> None:
    with pytest.raises(ModelError, match='has no head "centre" to score with'):
        mriqa.Scorer.from_pretrained(saved, head="centre")
    with pytest.raises(ModelError, match='has no head "../model"'):
        mriqa.Scorer.from_pretrained(saved, head="../model")
    with pytest.raises(ReadoutError, match='backend "vllm" keeps'):
        mriqa.Scorer.from_pretrained(saved, head="conord", backend="vllm")
    (saved / "conord" / "head.json").write_text("{")
    with pytest.raises(ModelError, match="head.json is not JSON"):
        mriqa.Scorer.from_pretrained(saved, head="conord")
