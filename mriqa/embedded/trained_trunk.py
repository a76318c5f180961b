"""Train a copy of the embedded tower's network to see quality, on labelled pictures.

Frozen ImageNet features see many kinds of damage dimly. Here all weights of EfficientNet-Lite0 up to stride 16 learn
from crops, some of them of the whole picture at a smaller size: a linear reading of the crop's statistics is fitted to
the scores and to the margins between all crops of a batch, some of which are of one content, so that what is damage and
what is content comes apart. Two more readings of the same statistics, thrown away in the end, must name the damage and
say what was measured on the picture beside its original (`trunk_hints`): a score alone teaches too little of that.
Batch statistics stay those of ImageNet, folded into the convolutions.

Legend: B crops of a batch, S side of a crop, F statistics of its features, K damages, M measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mriqa.embedded.lite_network import LiteBackbone, PooledStatistics, normalised
from mriqa.embedded.lite_tower import imagenet_trunk
from mriqa.embedded.trunk_hints import Hints
from mriqa.images import load_image
from mriqa.manifest import RatedImage


@dataclass(frozen=True)
class TrunkSettings:
    """How the network is trained.

    Attributes:
        steps: updates.
        contents: in each batch.
        of_content: crops of each of them, of pictures damaged in different ways.
        side: of a crop, in pixels.
        whole_share: how often a crop is the whole picture at a smaller size.
        learning_rate: of AdamW at the start, for the network; the linear readings learn ten times as fast.
        weight_decay: of AdamW.
        beta: score points up to which an error counts by its square.
        damage_weight: of the cross-entropy of the damages, where the scores' loss has weight 1.
        measures_weight: of the smooth L1 of the measures.
        seed: of the crops, their order and the reading.
        workers: processes that load ahead.
    """

    steps: int = 5000
    contents: int = 4
    of_content: int = 4
    side: int = 192
    whole_share: float = 0.25
    learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    beta: float = 0.3
    damage_weight: float = 0.1
    measures_weight: float = 0.3
    seed: int = 0
    workers: int = 1

    def rate(self, step: int) -> float:
        """The learning rate at a step: up over a thirtieth of all, and down along a cosine."""
        rising = min(1.0, 30 * (step + 1) / self.steps)
        return self.learning_rate * rising * (1 + math.cos(math.pi * step / self.steps)) / 2


class Readings(NamedTuple):
    """Scores (B,), logits of the damages (B, K) and measures (B, M)."""

    scores_B: Tensor
    damages_BK: Tensor
    measures_BM: Tensor


class QualityReading(nn.Module):
    """A trunk, the statistics of its features, and linear readings of them: crops (B, 3, H, W) to `Readings`."""

    def __init__(self, trunk: LiteBackbone, damages: int, measures: int):
        super().__init__()
        self.statistics = PooledStatistics(trunk)
        self.norm = nn.LayerNorm(PooledStatistics.WIDTH)
        self.score = nn.Linear(PooledStatistics.WIDTH, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.constant_(self.score.bias, 3.0)
        self.damage = nn.Linear(PooledStatistics.WIDTH, damages)
        self.measures = nn.Linear(PooledStatistics.WIDTH, measures)

    def forward(self, crops_BCHW: Tensor) -> Readings:
        pixels_BCHW = normalised(crops_BCHW).contiguous(memory_format=torch.channels_last)
        found_BF = self.norm(self.statistics(pixels_BCHW))
        return Readings(self.score(found_BF).squeeze(1), self.damage(found_BF), self.measures(found_BF))


class CropBatch(NamedTuple):
    """Crops (B, 3, S, S) of 8 bits, and of each picture its score (B,), number of damage (B,) and measures (B, M)."""

    crops_B3SS: Tensor
    scores_B: Tensor
    damages_B: Tensor
    measures_BM: Tensor


class CropBatches(Dataset[CropBatch]):
    """Batches by number; chance follows the seed and the number."""

    def __init__(self, rows: Sequence[RatedImage], hints: Hints, settings: TrunkSettings):
        self.settings, self.hints = settings, hints
        self.of_content: dict[str, list[RatedImage]] = {}
        for row in rows:
            self.of_content.setdefault(str(row.content), []).append(row)

    def __len__(self) -> int:
        return self.settings.steps

    def __getitem__(self, number: int) -> CropBatch:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, number])
        names = list(self.of_content)
        crops, chosen = [], []
        for place in rng.choice(len(names), settings.contents, replace=len(names) < settings.contents):
            rows = self.of_content[names[place]]
            for each in rng.choice(len(rows), settings.of_content, replace=len(rows) < settings.of_content):
                crops.append(_crop(load_image(rows[each].image), settings, rng))
                chosen.append(rows[each])
        scores_B = torch.tensor([row.mos for row in chosen], dtype=torch.float32)
        return CropBatch(torch.stack(crops), scores_B, *self.hints.of([row.id for row in chosen]))


def _crop(picture: Image.Image, settings: TrunkSettings, rng: np.random.Generator) -> Tensor:
    """A crop (3, S, S) in any of the eight ways in which a square can be turned and mirrored."""
    side = settings.side
    if rng.random() < settings.whole_share:
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    left, top = int(rng.integers(picture.width - side + 1)), int(rng.integers(picture.height - side + 1))
    pixels = np.asarray(picture.crop((left, top, left + side, top + side)))
    transposed, mirrored, flipped = rng.random(3) < 0.5
    pixels = pixels.transpose(1, 0, 2) if transposed else pixels
    pixels = pixels[:, ::-1] if mirrored else pixels
    pixels = pixels[::-1] if flipped else pixels
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def margin_loss(predicted_B: Tensor, scores_B: Tensor, beta: float) -> Tensor:
    """Smooth L1 of the scores, plus smooth L1 of the margins between every two of them."""
    margins_BB = (predicted_B[:, None] - predicted_B) - (scores_B[:, None] - scores_B)
    pairs = len(scores_B) * (len(scores_B) - 1)
    of_margins = F.smooth_l1_loss(margins_BB, torch.zeros_like(margins_BB), beta=beta, reduction="sum") / max(1, pairs)
    return F.smooth_l1_loss(predicted_B, scores_B, beta=beta) + of_margins


def train_trunk(
    rows: Sequence[RatedImage],
    hints: Hints,
    settings: TrunkSettings,
    on_step: Callable[[int, float], Any] = lambda done, loss: None,
) -> LiteBackbone:
    """A network trained on rated pictures, from the ImageNet weights on.

    `hints` must know each of the pictures. `on_step` is told how many steps are done, and the loss of the last.
    """
    torch.manual_seed(settings.seed)
    trunk = imagenet_trunk()
    model = QualityReading(trunk, len(hints.damages), hints.measures)
    readings = [*model.norm.parameters(), *model.score.parameters()]
    readings += [*model.damage.parameters(), *model.measures.parameters()]
    groups = [{"params": [*model.statistics.parameters()], "pace": 1}, {"params": readings, "pace": 10}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    batches = DataLoader(CropBatches(rows, hints, settings), batch_size=None, num_workers=settings.workers)
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step) * group["pace"]
        loss = trunk_loss(model(batch.crops_B3SS), batch, settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step(step + 1, loss.item())
    return trunk


def trunk_loss(read: Readings, batch: CropBatch, settings: TrunkSettings) -> Tensor:
    """What is minimised: the loss of the scores, and weighted beside it those of the damages and of the measures."""
    of_damages = F.cross_entropy(read.damages_BK, batch.damages_B)
    of_measures = F.smooth_l1_loss(read.measures_BM, batch.measures_BM, beta=0.5)
    of_scores = margin_loss(read.scores_B, batch.scores_B, settings.beta)
    return of_scores + settings.damage_weight * of_damages + settings.measures_weight * of_measures
