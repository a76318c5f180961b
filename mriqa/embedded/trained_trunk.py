"""Train a copy of the embedded tower's network to see quality, on labelled pictures.

Frozen ImageNet features see many kinds of damage dimly. Here all weights of EfficientNet-Lite0 up to stride 16 learn
from crops, some of them of the whole picture at a smaller size: a linear reading of the crop's statistics is fitted to
the scores and to the margins between all crops of a batch, some of which are of one content, so that what is damage and
what is content comes apart. Batch statistics stay those of ImageNet, folded into the convolutions. What is kept is the
moving average of the weights, which sees unseen contents and kinds of damage better than the last ones.

Legend: B crops of a batch, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from mriqa.embedded.lite_network import LiteBackbone, QualityReading, normalised
from mriqa.embedded.lite_tower import imagenet_trunk
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
        learning_rate: of AdamW at the start, for the network; the linear reading learns ten times as fast.
        weight_decay: of AdamW.
        average: how much of the moving average of the weights, which is the result, each step keeps.
        beta: score points up to which an error counts by its square.
        seed: of the crops, their order and the reading.
        workers: processes that load ahead.
    """

    steps: int = 3000
    contents: int = 4
    of_content: int = 4
    side: int = 192
    whole_share: float = 0.25
    learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    average: float = 0.998
    beta: float = 0.3
    seed: int = 0
    workers: int = 1

    def rate(self, step: int) -> float:
        """The learning rate at a step: up over a thirtieth of all, and down along a cosine."""
        rising = min(1.0, 30 * (step + 1) / self.steps)
        return self.learning_rate * rising * (1 + math.cos(math.pi * step / self.steps)) / 2


class CropBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batches by number: crops (B, 3, S, S) of 8 bits and their scores (B,); chance follows the seed and the number."""

    def __init__(self, rows: Sequence[RatedImage], settings: TrunkSettings):
        self.settings = settings
        self.of_content: dict[str, list[RatedImage]] = {}
        for row in rows:
            self.of_content.setdefault(str(row.content), []).append(row)

    def __len__(self) -> int:
        return self.settings.steps

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, number])
        names = list(self.of_content)
        crops, scores = [], []
        for place in rng.choice(len(names), settings.contents, replace=len(names) < settings.contents):
            rows = self.of_content[names[place]]
            for each in rng.choice(len(rows), settings.of_content, replace=len(rows) < settings.of_content):
                crops.append(_crop(load_image(rows[each].image), settings, rng))
                scores.append(rows[each].mos)
        return torch.stack(crops), torch.tensor(scores, dtype=torch.float32)


def _crop(picture: Image.Image, settings: TrunkSettings, rng: np.random.Generator) -> Tensor:
    side = settings.side
    if rng.random() < settings.whole_share:
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    left, top = int(rng.integers(picture.width - side + 1)), int(rng.integers(picture.height - side + 1))
    pixels = np.asarray(picture.crop((left, top, left + side, top + side)))
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def margin_loss(predicted_B: Tensor, scores_B: Tensor, beta: float) -> Tensor:
    """Smooth L1 of the scores, plus smooth L1 of the margins between every two of them."""
    margins_BB = (predicted_B[:, None] - predicted_B) - (scores_B[:, None] - scores_B)
    pairs = len(scores_B) * (len(scores_B) - 1)
    of_margins = F.smooth_l1_loss(margins_BB, torch.zeros_like(margins_BB), beta=beta, reduction="sum") / max(1, pairs)
    return F.smooth_l1_loss(predicted_B, scores_B, beta=beta) + of_margins


def train_trunk(
    rows: Sequence[RatedImage], settings: TrunkSettings, on_step: Callable[[int, float], Any] = lambda done, loss: None
) -> LiteBackbone:
    """A network trained on rated pictures, from the ImageNet weights on, and its reading.

    `on_step` is told how many steps are done, and the loss of the last.
    """
    torch.manual_seed(settings.seed)
    trunk = imagenet_trunk()
    trunk.reading = QualityReading()
    reading = [*trunk.reading.parameters()]
    network = [weight for name, weight in trunk.named_parameters() if not name.startswith("reading.")]
    groups = [{"params": network, "pace": 1}, {"params": reading, "pace": 10}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    average = AveragedModel(trunk, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
    batches = DataLoader(CropBatches(rows, settings), batch_size=None, num_workers=settings.workers)
    for step, (crops_BCHW, scores_B) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step) * group["pace"]
        loss = margin_loss(read(trunk, crops_BCHW), scores_B, settings.beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(trunk)
        on_step(step + 1, loss.item())
    trunk.load_state_dict(average.module.state_dict())
    return trunk


def read(trunk: LiteBackbone, crops_BCHW: Tensor) -> Tensor:
    """The scores (B,) that a network's reading gives crops (B, 3, H, W) of pixels 0..255, with gradients."""
    assert trunk.reading is not None, "it was trained with one"
    return trunk.reading(trunk(normalised(crops_BCHW).contiguous(memory_format=torch.channels_last)))


def blended(trunk: LiteBackbone, share: float) -> LiteBackbone:
    """The ImageNet network with `share` of the way to another's weights (Wortsman et al., WiSE-FT, CVPR 2022).

    It has no reading: the other's was fitted to other features.
    """
    mixed, end = imagenet_trunk(), trunk.state_dict()
    mixed.load_state_dict({name: torch.lerp(start, end[name], share) for name, start in mixed.state_dict().items()})
    return mixed
