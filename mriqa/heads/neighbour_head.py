"""The ordinal head beside a policy: features of a vision-language model on the unit sphere in the order of their MOS.

A projection takes a feature vector of the model to the sphere, where ConOrd (eq. 3) with reference points (eq. 8)
orders the images of a batch, and a new image's score is the mean MOS of its nearest training images (eq. 10). Chosen:
each feature vector is brought to mean 0 and deviation 1 (a LayerNorm without weights), because hidden states of
different models differ a hundredfold in size; ranks are MOS on a scale of 0..100; the centre loss is the mean over the
batch, so that the weight of the sum does not depend on the batch's size.

On disk it is a folder: `head.json`, `head.safetensors`, and the index of the training images beside them.
Legend: N images, F features, D embedding width.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mriqa.files import replacing, write_json
from mriqa.gather import gather_batch
from mriqa.heads.center import ReferencePoints
from mriqa.heads.inputs import HeadError, read_about
from mriqa.heads.neighbours import RankIndex
from mriqa.heads.ordinal_contrast import conord_loss

ABOUT_FILE, STATE_FILE = "head.json", "head.safetensors"
FORMAT = "mriqa-auxiliary-head-1"
WIDTH, NEIGHBOURS = 64, 10


class AuxiliaryHead(nn.Module):
    """Projection and reference points; calling it on features (N, F) and MOS (N,) gives ConOrd + centre loss.

    A batch of one image has the centre loss only, because there is no other image to compare it with.

    Arguments:
        features: F.
        mos: MOS (n,) in 1..5 of all training images; each point of 0..100 that one falls into gets a reference point.
        width: D.
        gather: compare the images of all processes (see `mriqa.gather`).
        seed: of the first weights; torch's own generator is left as it was.

    Raises:
        HeadError: no MOS, or NaN among them.
    """

    def __init__(self, features: int, mos: Tensor, width: int = WIDTH, *, gather: bool = False, seed: int = 0):
        super().__init__()
        self.gather = gather
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = nn.Linear(features, width)
            self.points = ReferencePoints(to_ranks(mos), width)

    def embed(self, features_NF: Tensor) -> Tensor:
        """Embeddings (N, D) on the unit sphere, in float32 whatever the features' type."""
        with torch.autocast(features_NF.device.type, enabled=False):
            standardised_NF = F.layer_norm(features_NF.float(), features_NF.shape[-1:])
            return F.normalize(self.projection(standardised_NF), dim=-1)

    def forward(self, features_NF: Tensor, mos_N: Tensor) -> Tensor:
        """ConOrd + centre loss, a scalar. HeadError for NaN, or a MOS far from all those of the training set."""
        z_ND, ranks_N = self.embed(features_NF), to_ranks(mos_N)
        if self.gather:
            z_ND, ranks_N = gather_batch(z_ND), gather_batch(ranks_N)
        centre = self.points(z_ND, ranks_N, "mean")
        return centre + conord_loss(z_ND, ranks_N) if len(z_ND) > 1 else centre


class HeadScorer:
    """Scores of new images by a trained head and its index of training images.

    Arguments:
        head: the trained head.
        index: embeddings and MOS of the training images.
        pooling: which feature of the model the head reads, one of `mriqa.shared_prefix.POOLINGS`.
        neighbours: K of eq. 10.

    Example:
        >>> head = AuxiliaryHead(8, torch.tensor([1.0, 3.0, 5.0]))
        >>> features = torch.eye(8)[:3]
        >>> known = HeadScorer.build(head, "last_hidden", features, torch.tensor([1.0, 3.0, 5.0]), neighbours=1)
        >>> known.scores(features)
        tensor([1., 3., 5.])
    """

    def __init__(self, head: AuxiliaryHead, index: RankIndex, pooling: str, neighbours: int):
        self.head, self.index, self.pooling, self.neighbours = head.eval(), index, pooling, neighbours

    @classmethod
    def build(
        cls, head: AuxiliaryHead, pooling: str, features_NF: Tensor, mos_N: Tensor, neighbours: int | None = None
    ) -> HeadScorer:
        """With an index of training images, from their features and MOS; ten neighbours, or a tenth of few images.

        Raises:
            HeadError: NaN, or shapes that don't fit.
        """
        with torch.no_grad():
            embeddings_ND = head.embed(features_NF.to(head.projection.weight.device))
        chosen = neighbours or min(NEIGHBOURS, max(1, len(mos_N) // NEIGHBOURS))
        return cls(head, RankIndex(embeddings_ND, mos_N), pooling, chosen)

    @torch.no_grad()
    def scores(self, features_NF: Tensor) -> Tensor:
        """Scores (N,) in 1..5, on CPU.

        Raises:
            HeadError: features of another width, NaN, or more neighbours than the index holds.
        """
        expected = self.head.projection.in_features
        if features_NF.shape[-1] != expected:
            raise HeadError(
                f"The head reads {expected} features, but this model gives {features_NF.shape[-1]}: use the head that "
                "was trained with it."
            )
        self.head.to(features_NF.device)
        return self.index.predict(self.head.embed(features_NF), self.neighbours)

    def save(self, folder: str | Path) -> None:
        """Write head and index into a folder that holds no other head; `head.json` last."""
        folder = Path(folder)
        self.index.save(folder)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.head.state_dict().items()}
        with replacing(folder / STATE_FILE) as temporary:
            save_file(state, temporary)
        about = {"format": FORMAT, "pooling": self.pooling, "neighbours": self.neighbours}
        write_json(about, folder / ABOUT_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> HeadScorer:
        """The head that `save` wrote.

        Raises:
            HeadError: no head there, another format, or its parts do not fit together.
        """
        folder = Path(folder)
        about = read_about(folder / ABOUT_FILE, FORMAT, "auxiliary head", ("pooling", "neighbours"))
        state_file = folder / STATE_FILE
        if not state_file.is_file():
            raise HeadError(f"{folder} lacks {STATE_FILE}; save the head again.")
        state = load_file(state_file)
        bins = state.get("points.point_bins_MR")
        weight = state.get("projection.weight")
        if bins is None or weight is None:
            raise HeadError(f"{state_file} does not hold an auxiliary head; save it again.")
        head = AuxiliaryHead(weight.shape[1], to_mos(bins[:, 0]), weight.shape[0])
        try:
            head.load_state_dict(state)
        except RuntimeError as error:
            raise HeadError(f"{state_file} does not fit an auxiliary head; save it again.") from error
        index = RankIndex.load(folder)
        if index.width != weight.shape[0]:
            raise HeadError(f"The index in {folder} is of width {index.width}, its head of {weight.shape[0]}.")
        return cls(head, index, about["pooling"], about["neighbours"])


def to_ranks(mos_N: Tensor) -> Tensor:
    """MOS in 1..5 as ranks in 0..100, in float32."""
    return 25 * (mos_N.float() - 1)


def to_mos(ranks_N: Tensor) -> Tensor:
    """The opposite of `to_ranks`."""
    return ranks_N.float() / 25 + 1
