"""A vision encoder with a linear head, trained whole: for scores with an L1 loss, for classes with cross entropy.

Encoders, crops, learning rates and batches are those of `mriqa.conord`. So the judge of a selected training set can be
any network of recipes/conord.py, as PreSTA and Q-Diverse judge by networks, beside the quick ridge regression.

Legend: N images, B batch, n views of a batch, O outputs: 1 for scores, or as many as there are classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mriqa.conord.backbone import build_encoder
from mriqa.conord.crops import CropSettings
from mriqa.conord.fitting import OPTIMIZERS, TrainingSettings, combined_seed, epoch_batches
from mriqa.conord.ranked_sets import ViewDataset
from mriqa.progress import progress_bar


@dataclass(frozen=True)
class NetworkSettings:
    """What network is trained and how.

    Attributes:
        encoder: of `mriqa.conord.backbone`: timm:NAME, transformers:NAME or embedded.
        pretrained: with its published weights.
        epochs, learning_rate, batch_size: of AdamW; the rate falls to 0 along a cosine.
        crop: side of the crops in pixels, one drawn of three each time (None: what the encoder was made for).
        limit: shrink images to a shorter side of at most this first.
        frozen: train the head alone.
        device: of the computation; the accelerator if there is one.
        classes: how many classes there are, of classification; None for scores.
    """

    encoder: str
    pretrained: bool = True
    epochs: int = 10
    learning_rate: float = 1e-4
    batch_size: int = 16
    crop: int | None = None
    limit: int | None = 672
    frozen: bool = False
    device: str | None = None
    classes: int | None = None


class Picture(Protocol):
    """What the network looks at: anything that names an image file."""

    @property
    def image(self) -> Path: ...


class ImageNetwork(nn.Module):
    """Pixels (B, 3, H, W), 0..255, to outputs (B, O): the score, or the logits of the classes.

    Attributes:
        views: the crops of an image.
    """

    motion_settings = None  # `ViewDataset` shows videos to models that have some

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        self.encoder = build_encoder(settings.encoder, settings.pretrained)
        if settings.frozen:
            self.encoder.freeze()
        self.head = nn.Linear(self.encoder.width, settings.classes or 1)
        self.classifies = settings.classes is not None
        self.views = CropSettings(settings.crop or self.encoder.size, limit=settings.limit)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.head(self.encoder(pixels_BCHW))

    @torch.no_grad()
    def predict(self, pictures: Sequence[Picture], batch_size: int = 16) -> np.ndarray:
        """Scores or classes (N,) of images, by the mean output over their crops. ImageError for an unreadable one."""
        self.eval()
        predicted: list[float] = []
        for views_BV in DataLoader(_views(self, pictures), batch_size, collate_fn=list):
            pixels_nCHW = torch.stack([view for views_V in views_BV for view in views_V]).to(self.device)
            outputs_BO = self(pixels_nCHW).unflatten(0, (len(views_BV), -1)).mean(dim=1)
            predicted += (outputs_BO.argmax(dim=1) if self.classifies else outputs_BO[:, 0]).tolist()
        return np.array(predicted)


class DrawnViews(Dataset[tuple[Any, int]]):
    """One view of each image, drawn by seed and epoch, and the image's place."""

    def __init__(self, views: ViewDataset, seed: int, epoch: int):
        self.views, self.seed, self.epoch = views, seed, epoch

    def __getitem__(self, place: int) -> tuple[Any, int]:
        views = self.views[place]
        drawn = np.random.default_rng((self.seed, self.epoch, place)).integers(len(views))
        return views[drawn], place


def train_network(
    pictures: Sequence[Picture],
    targets_N: np.ndarray,
    settings: NetworkSettings,
    seed: int = 0,
    weights_N: np.ndarray | None = None,
    label: str = "Network",
) -> ImageNetwork:
    """The network that Σ weight · |predicted - score| / N, or cross entropy, trains; the same for the same seed.

    Arguments:
        pictures: the images to learn from.
        targets_N: the score of each, or the number of its class from 0.
        settings: the network and how it trains.
        seed: of the head's first weights, the batches and the crops.
        weights_N: of the samples; 1 each where there are none.
        label: of the progress bar.

    Raises:
        HeadError: no such encoder, or its weights can't be had.
        ImageError: an image that cannot be read.
    """
    torch.manual_seed(combined_seed(seed))
    network = ImageNetwork(settings)
    device = settings.device or torch.accelerator.current_accelerator() or "cpu"
    wanted_N = torch.tensor(np.asarray(targets_N), dtype=torch.long if network.classifies else torch.float32)
    importance_N = torch.ones(len(pictures)) if weights_N is None else torch.tensor(weights_N, dtype=torch.float32)
    if not network.classifies:
        with torch.no_grad():
            network.head.bias.fill_(float(wanted_N.mean()))  # the first epochs needn't look for the scale
    network.to(device)
    training = TrainingSettings(
        settings.learning_rate, settings.epochs, warmup_epochs=0, batch_size=settings.batch_size, seed=seed
    )
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = OPTIMIZERS[training.optimizer](trained, lr=training.learning_rate, weight_decay=training.weight_decay)
    views = _views(network, pictures)
    with progress_bar(training.epochs, description=label, unit="epochs") as bar:
        for epoch in range(training.epochs):
            network.train()
            batches = list(epoch_batches(len(pictures), training, epoch))
            loader = DataLoader(DrawnViews(views, seed, epoch), batch_sampler=batches)
            for step, (pixels_BCHW, places_B) in enumerate(loader):
                for group in optimizer.param_groups:
                    group["lr"] = training.rate(epoch + step / len(batches))
                outputs_BO, wanted_B = network(pixels_BCHW.to(device)), wanted_N[places_B].to(device)
                if network.classifies:
                    losses_B = F.cross_entropy(outputs_BO, wanted_B, reduction="none")
                else:
                    losses_B = (outputs_BO[:, 0] - wanted_B).abs()
                optimizer.zero_grad()
                (importance_N[places_B].to(device) * losses_B).mean().backward()
                optimizer.step()
            bar.advance()
    return network.eval()


def _views(network: ImageNetwork, pictures: Sequence[Picture]) -> ViewDataset:
    shown: Any = network, pictures  # of both it asks for no more than what these have
    return ViewDataset(*shown)
