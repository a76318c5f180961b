"""A scorer of its own: vision encoder, projection to the unit sphere, and ranks by nearest neighbours (ConOrd, §3.4).

    from mriqa.conord import ConOrdModel
    ConOrdModel.load("outputs/conord/split-00/model").predict(["a.jpg", "b.png"])     # ranks on their own scale

`recipes/conord.py` trains it. Of a picture it sees crops and averages their embeddings, in training and afterwards
(Appendix B.2). Of a video the vision encoder sees frames and a motion encoder sees clips; the means of both are laid
side by side and projected (Appendix B.3). A model trained by L1 or MSE reads ranks off by a linear layer instead.

A saved model is a folder: `conord.json` (what it is), `model.safetensors` (weights) and `index/` (`RankIndex`). It
appears whole or not at all.

Legend: B batch, V views of a picture, n = B × V, F features, D embedding width, N items, M clips, T frames, R numbers
in a rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import default_collate

from mriqa.conord.backbone import CLIP_VIT_B, VisionEncoder, build_encoder, rebuild_encoder
from mriqa.conord.crops import CropSettings, as_pixels, crops
from mriqa.conord.video_frames import VideoSettings, read_video
from mriqa.conord.video_motion import DEPTHS, STEM, MotionEncoder
from mriqa.files import new_folder, write_json
from mriqa.heads.inputs import HeadError, read_about
from mriqa.heads.linear_reading import LinearReading
from mriqa.heads.neighbours import RankIndex
from mriqa.images import load_image
from mriqa.manifest.scales import Scale

FORMAT = "mriqa-conord-1"
ABOUT_FILE, WEIGHTS_FILE, INDEX_FOLDER = "conord.json", "model.safetensors", "index"

View = Tensor | tuple[Tensor, Tensor]
"""Pixels (3, H, W) of a crop, or a video's frames (N, 3, H, W) and clips (M, 3, T, H', W'), all uint8; or the features
(F,) that a frozen encoder gave; or a batch of one of these."""
Source = str | Path | bytes | Image.Image


@dataclass(frozen=True)
class MotionSettings:
    """The motion encoder of a video model, and what it is shown. Depths and stem are SlowFast R50's."""

    video: VideoSettings = field(default_factory=VideoSettings)
    depths: tuple[int, ...] = DEPTHS
    stem: int = STEM


class Projection(nn.Module):
    """Features (B, F) to the unit sphere (B, D): standardised if `standardise` was called, a linear layer, norm 1."""

    mean_F: Tensor
    std_F: Tensor

    def __init__(self, features: int, width: int):
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(features))
        self.register_buffer("std_F", torch.ones(features))
        self.linear = nn.Linear(features, width)

    def standardise(self, features_NF: Tensor) -> None:
        """From now on shift and scale each feature so that over these items its mean is 0 and its deviation 1."""
        self.mean_F.copy_(features_NF.mean(dim=0))
        self.std_F.copy_(features_NF.std(dim=0).clamp_min(1e-6))

    def unnormalised(self, features_BF: Tensor) -> Tensor:
        """The projection (B, D) before its length becomes 1."""
        return self.linear((features_BF - self.mean_F) / self.std_F)

    def forward(self, features_BF: Tensor) -> Tensor:
        return F.normalize(self.unnormalised(features_BF), dim=1)


class ConOrdModel(nn.Module):
    """Pictures or videos to embeddings, and by their neighbours to ranks.

    Arguments:
        encoder: of pictures, and of a video's frames.
        width: embedding width D.
        views: the crops of a picture, or how a video's frames are cropped.
        motion: makes it a model of videos.
        k: neighbours that a rank is the mean of (eq. 10).
        read_numbers: how many numbers a linear layer reads off as the rank; 0 for the neighbours' mean.

    Attributes:
        index: embeddings and ranks of the training set; `predict` needs it.
        reading: the linear layer, or None.
        rank_names: what the numbers of a rank are, such as ["mos"] or ["pitch", "yaw"].
        scales: the scale of each number, where they are known.
    """

    def __init__(
        self,
        encoder: VisionEncoder,
        width: int,
        views: CropSettings,
        motion: MotionSettings | None = None,
        k: int = 10,
        read_numbers: int = 0,
    ):
        super().__init__()
        self.encoder = encoder
        self.views, self.motion_settings, self.k = views, motion, k
        self.motion = MotionEncoder(motion.depths, motion.stem) if motion else None
        self.projection = Projection(encoder.width + (self.motion.width if self.motion else 0), width)
        self.reading = LinearReading(width, read_numbers) if read_numbers else None
        self.index: RankIndex | None = None
        self.rank_names: list[str] = ["rank"]
        self.scales: list[Scale] = []

    @classmethod
    def build(cls, encoder: str = CLIP_VIT_B, pretrained: bool = True, width: int = 512, **others: Any) -> ConOrdModel:
        """A model to train, with an encoder by its name (`mriqa.conord.backbone`); others are as for the constructor.

        Raises:
            HeadError: no such encoder, or its weights cannot be had.
        """
        vision_encoder = build_encoder(encoder, pretrained)
        others.setdefault("views", CropSettings(crop=vision_encoder.size))
        return cls(vision_encoder, width, **others)

    @property
    def device(self) -> torch.device:
        return self.projection.linear.weight.device

    def forward(self, views_B: View) -> Tensor:
        """Embeddings (B, D) on the unit sphere of a batch of views."""
        return self.projection(self.features(views_B))

    def mean_embedding(self, views_BV: View) -> Tensor:
        """Embeddings (B, D) of batched items: the mean over their V views, on the unit sphere again."""
        views_n, count = merged(views_BV)
        return F.normalize(self(views_n).unflatten(0, (-1, count)).mean(dim=1), dim=1)

    def features(self, views_B: View) -> Tensor:
        """What is projected (B, F): of pictures the encoder's features, of videos the frames' mean beside motion.

        Views that are features already (B, F) are returned as they are: a frozen encoder computes them only once.
        """
        if isinstance(views_B, Tensor):
            return views_B if views_B.ndim == 2 else self.encoder(views_B)
        frames_BN3HW, clips_BM3THW = views_B
        assert self.motion is not None
        spatial_BF = self.encoder(frames_BN3HW.flatten(0, 1)).unflatten(0, frames_BN3HW.shape[:2]).mean(dim=1)
        return torch.cat([spatial_BF, self.motion(clips_BM3THW)], dim=1)

    def load_views(self, source: Source) -> list[View]:
        """The views of a picture or video: three crops (or one) of a picture, one view of a video.

        Raises:
            ImageError: it cannot be used (`VideoError` where it is a video).
            HeadError: a video that is not a path.
        """
        return load_views(source, self.views, self.motion_settings.video if self.motion_settings else None)

    @torch.no_grad()
    def view_features(self, views_BV: Sequence[Sequence[View]]) -> Tensor:
        """Features (B, V, F) of each view, for evaluation."""
        self.eval()
        views_n = default_collate([view for views_V in views_BV for view in views_V])
        return self.features(to_device(views_n, self.device)).float().unflatten(0, (len(views_BV), -1))

    @torch.no_grad()
    def embed(self, views_BV: Sequence[Sequence[View]]) -> Tensor:
        """`mean_embedding` (B, D) of items with as many views each, for evaluation."""
        self.eval()
        batch_BV = default_collate([stacked(views_V) for views_V in views_BV])
        return self.mean_embedding(to_device(batch_BV, self.device)).float()

    @torch.no_grad()
    def ranks(self, z_ND: Tensor, k: int | None = None) -> Tensor:
        """Ranks (N,), or (N, R) for vector ranks, of embeddings: read off linearly, or by the neighbours' mean.

        Raises:
            HeadError: the model has no index, or k is larger than it.
        """
        if self.index is None:
            raise HeadError("The model has no rank index yet: train it, or give it one (model.index = RankIndex(…)).")
        if self.reading is None:
            return self.index.predict(z_ND, self.k if k is None else k)
        read_NR = self.reading(z_ND.to(self.device)).cpu()
        return read_NR[:, 0] if self.index.scalar else read_NR

    def predict(self, sources: Sequence[Source], k: int | None = None, batch_size: int = 16) -> Tensor:
        """Ranks (N,), or (N, R) for vector ranks, of pictures or videos, on the scale of the training ranks.

        Arguments:
            sources: paths, encoded bytes or Pillow images; paths for a model of videos.
            k: neighbours; by default as many as the model was made for.
            batch_size: pictures or videos at a time.

        Raises:
            ImageError: a picture or a video that cannot be used.
            HeadError: the model has no index, or k is larger than it.
        """
        parts = [
            self.embed([self.load_views(source) for source in batch]).cpu() for batch in _batches(sources, batch_size)
        ]
        z_ND = torch.cat(parts) if parts else torch.empty(0, self.projection.linear.out_features)
        return self.ranks(z_ND, k)

    def save(self, folder: str | Path) -> None:
        """Write the model to a new folder. HeadError if the folder exists, or if the model has no index."""
        folder = Path(folder)
        if folder.exists():
            raise HeadError(f"{folder} is there already; save the model to another folder.")
        if self.index is None:
            raise HeadError("The model has no rank index yet; train it first.")
        motion = self.motion_settings
        about = {
            "format": FORMAT,
            "encoder": self.encoder.about,
            "width": self.projection.linear.out_features,
            "views": asdict(self.views),
            "motion": asdict(motion) if motion else None,
            "k": self.k,
            "read_numbers": len(self.reading.mean_R) if self.reading else 0,
            "rank_names": self.rank_names,
            "scales": [asdict(scale) for scale in self.scales],
        }
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        with new_folder(folder) as staged:
            save_file(weights, staged / WEIGHTS_FILE)
            self.index.save(staged / INDEX_FOLDER)
            write_json(about, staged / ABOUT_FILE)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> ConOrdModel:
        """The model that `save` wrote, ready to predict.

        Raises:
            HeadError: no model there, another format, or its parts do not fit together.
        """
        folder = Path(folder)
        about = read_about(folder / ABOUT_FILE, FORMAT, "ConOrd model")
        try:
            motion = about["motion"]
            settings = (
                {**motion, "video": VideoSettings(**motion["video"]), "depths": tuple(motion["depths"])}
                if motion
                else None
            )
            model = cls(
                rebuild_encoder(about["encoder"]),
                about["width"],
                CropSettings(**about["views"]),
                MotionSettings(**settings) if settings else None,
                about["k"],
                about.get("read_numbers", 0),
            )
            model.rank_names = about["rank_names"]
            model.scales = [Scale(**scale) for scale in about.get("scales", [])]  # earlier versions kept none
            model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (KeyError, TypeError) as error:
            raise HeadError(f"{folder / ABOUT_FILE} lacks or misstates {error}; save the model again.") from error
        except (OSError, RuntimeError, SafetensorError) as error:
            first = str(error).split("\n")[0]
            raise HeadError(
                f"The weights in {folder} do not fit its {ABOUT_FILE} ({first}); save the model again."
            ) from error
        model.index = RankIndex.load(folder / INDEX_FOLDER)
        return model.to(device).eval()


def load_views(source: Source, views: CropSettings, video: VideoSettings | None) -> list[View]:
    """`ConOrdModel.load_views`, for workers that need no model."""
    if video is None:
        return [as_pixels(crop) for crop in crops(load_image(source), views)]
    if not isinstance(source, (str, Path)):
        raise HeadError(f"This model is of videos: give paths, not {type(source).__name__}.")
    return [read_video(source, video, views)]


def stacked(views_V: Sequence[View]) -> View:
    """The views (V, …) of an item as one."""
    first = views_V[0]
    if isinstance(first, Tensor):
        return torch.stack([view for view in views_V if isinstance(view, Tensor)])
    frames, clips = zip(*views_V, strict=True)
    return torch.stack(frames), torch.stack(clips)


def merged(views_BV: View) -> tuple[View, int]:
    """A batch of items' views (B, V, …) as a batch of views (B × V, …), and V."""
    if isinstance(views_BV, Tensor):
        return views_BV.flatten(0, 1), views_BV.shape[1]
    frames, clips = views_BV
    return (frames.flatten(0, 1), clips.flatten(0, 1)), frames.shape[1]


def to_device(views_B: View | list[Tensor], device: torch.device) -> View:
    """The same batch on a device; torch's collate makes a list of a video's pair."""
    if isinstance(views_B, Tensor):
        return views_B.to(device, non_blocking=True)
    frames_BN3HW, clips_BM3THW = views_B
    return frames_BN3HW.to(device, non_blocking=True), clips_BM3THW.to(device, non_blocking=True)


def _batches(items: Sequence[Source], size: int) -> Iterator[Sequence[Source]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
