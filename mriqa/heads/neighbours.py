"""The rank of a new item as the mean rank of its nearest neighbours in the embedding space (eq. 10 of ConOrd).

The index holds the embeddings of all training items. It searches exactly: with faiss where that is installed, and
otherwise block by block, so that neither the index nor the number of queries is limited by a distance matrix.

On disk an index is a folder: `index.json`, and the safetensors file that it names. The JSON file is replaced last, in
one step, so an interrupted save leaves the index that was there.

Legend: N items in the index, Q queries, D embedding width, R numbers in a rank, K neighbours.
"""

from __future__ import annotations

import importlib.util
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mriqa.choices import check_choice
from mriqa.files import write_json
from mriqa.heads.inputs import HeadError, as_embeddings, as_ranks, read_about

INDEX_FILE = "index.json"
FORMAT = "mriqa-rank-index-1"
QUERY_BLOCK, ITEM_BLOCK = 1024, 65_536  # a block of distances takes 256 MiB
BACKENDS = ["auto", "faiss", "torch"]


class RankIndex:
    """Embeddings (N, D) of items with known ranks, and the ranks of others by their nearest neighbours.

    Arguments:
        embeddings, ranks: the first items, as for `add`; none by default.
        backend: "faiss", "torch", or "auto" for faiss where it is installed. Both are exact, in float32.

    Raises:
        HeadError: unknown backend, or faiss asked for and absent.

    Example:
        >>> index = RankIndex(torch.eye(3), torch.tensor([10.0, 20.0, 60.0]))
        >>> index.predict(torch.tensor([[0.7, 0.7, 0.0]]), k=2)
        tensor([15.])
    """

    def __init__(self, embeddings: Tensor | None = None, ranks: Tensor | None = None, backend: str = "auto"):
        check_choice("backend", backend, BACKENDS, HeadError)
        installed = importlib.util.find_spec("faiss") is not None
        if backend == "faiss" and not installed:
            raise HeadError('faiss is not installed: pip install "mriqa[faiss]", or use backend="torch".')
        self.backend = "faiss" if backend != "torch" and installed else "torch"
        self._embeddings: list[Tensor] = []
        self._ranks: list[Tensor] = []
        self._scalar = True
        self._faiss: Any = None
        if embeddings is not None:
            if ranks is None:
                raise HeadError("The index was given embeddings without ranks; give one rank to each.")
            self.add(embeddings, ranks)

    def __len__(self) -> int:
        return sum(map(len, self._ranks))

    def add(self, embeddings: Tensor, ranks: Tensor) -> None:
        """Append items: embeddings (n, D), ranks (n,) or (n, R).

        Raises:
            HeadError: NaN, shapes that do not fit each other or what the index holds already.
        """
        z_nD = as_embeddings(embeddings.detach()).float().cpu().contiguous()
        ranks_nR = as_ranks(ranks, len(z_nD)).detach().double().cpu().contiguous()
        if self._ranks and (z_nD.shape[1], ranks_nR.shape[1]) != (self.width, self._ranks[0].shape[1]):
            raise HeadError(
                f"The index holds embeddings of width {self.width} with ranks of {self._ranks[0].shape[1]} numbers, "
                f"but these have {z_nD.shape[1]} and {ranks_nR.shape[1]}; one index is for one encoder and scale."
            )
        if not self._ranks:
            self._scalar = torch.as_tensor(ranks).ndim == 1
        self._embeddings.append(z_nD)
        self._ranks.append(ranks_nR)
        if self.backend == "faiss":
            self._add_to_faiss(z_nD)

    @property
    def scalar(self) -> bool:
        """Whether ranks are single numbers, (N,) and not (N, R)."""
        return self._scalar

    @property
    def width(self) -> int:
        """Embedding width D. HeadError where the index is empty."""
        return self._held(self._embeddings).shape[1]

    def neighbours(self, queries: Tensor, k: int = 10) -> tuple[Tensor, Tensor]:
        """Euclidean distances (Q, K) to the k nearest items, nearest first, and the items' places (Q, K).

        Raises:
            HeadError: empty index, k below 1 or above its length, NaN, another embedding width.
        """
        items_ND = self._held(self._embeddings)
        z_QD = as_embeddings(queries.detach()).float().cpu().contiguous()
        if not 1 <= k <= len(items_ND):
            raise HeadError(f"k is {k}, but the index holds {len(items_ND)} items; choose k from 1 to that.")
        if z_QD.shape[1] != items_ND.shape[1]:
            raise HeadError(f"Queries have width {z_QD.shape[1]}, but the index {items_ND.shape[1]}.")
        if self.backend == "faiss":
            squared_QK, places_QK = map(torch.from_numpy, self._faiss.search(z_QD.numpy(), k))
            return squared_QK.clamp_min(0).sqrt(), places_QK
        blocks = [_nearest(block_QD, items_ND, k) for block_QD in z_QD.split(QUERY_BLOCK)]
        empty = (torch.empty(0, k), torch.empty(0, k, dtype=torch.long))
        distances, places = zip(*(blocks or [empty]), strict=True)
        return torch.cat(distances), torch.cat(places)

    def predict(self, queries: Tensor, k: int = 10) -> Tensor:
        """Mean rank of the k nearest items (Q,), or (Q, R) for vector ranks, in float32 (eq. 10).

        Raises:
            HeadError: empty index, k below 1 or above its length, NaN, another embedding width.
        """
        _, places_QK = self.neighbours(queries, k)
        predicted_QR = self._held(self._ranks)[places_QK].mean(dim=1).float()
        return predicted_QR[:, 0] if self._scalar else predicted_QR

    def save(self, folder: str | Path) -> None:
        """Write the index to a folder, replacing the one there only once everything is written. HeadError if empty."""
        folder = Path(folder)
        tensors = {"embeddings": self._held(self._embeddings), "ranks": self._held(self._ranks)}
        folder.mkdir(parents=True, exist_ok=True)
        former = set(folder.glob("items-*.safetensors"))
        name = f"items-{uuid.uuid4().hex[:12]}.safetensors"
        about = {"format": FORMAT, "items": name, "count": len(self), "width": self.width, "scalar": self._scalar}
        try:
            save_file(tensors, folder / name)
            write_json(about, folder / INDEX_FILE)
        except BaseException:
            (folder / name).unlink(missing_ok=True)
            raise
        for path in former:
            path.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | Path, backend: str = "auto") -> RankIndex:
        """The index that `save` wrote.

        Raises:
            HeadError: no index there, another format, or its parts do not fit together.
        """
        path = Path(folder) / INDEX_FILE
        about = read_about(path, FORMAT, "rank index")
        items = path.parent / Path(str(about.get("items"))).name  # never outside the folder
        if not items.is_file():
            raise HeadError(f"{path} names {items.name}, which is missing; save the index again.")
        tensors = load_file(items)
        if set(tensors) != {"embeddings", "ranks"} or tensors["embeddings"].shape != (about["count"], about["width"]):
            raise HeadError(f"{items} does not hold what {path} says; save the index again.")
        index = cls(tensors["embeddings"], tensors["ranks"], backend)
        index._scalar = about["scalar"]
        return index

    def _held(self, parts: list[Tensor]) -> Tensor:
        """The parts as one tensor, which then stands in their place. HeadError where there is none, or no row."""
        if len(self) == 0:
            raise HeadError("The rank index is empty; add the training items first.")
        if len(parts) > 1:
            parts[:] = [torch.cat(parts)]
        return parts[0]

    def _add_to_faiss(self, z_nD: Tensor) -> None:
        import faiss

        if self._faiss is None:
            self._faiss = faiss.IndexFlatL2(z_nD.shape[1])
        self._faiss.add(z_nD.numpy())


def _nearest(z_QD: Tensor, items_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances (Q, K) and places (Q, K) of the k nearest items, keeping the best k from block to block."""
    best_QK, places_QK = torch.empty(len(z_QD), 0), torch.empty(len(z_QD), 0, dtype=torch.long)
    start = 0
    for block_nD in items_ND.split(ITEM_BLOCK):
        distances_Qn = torch.cdist(z_QD, block_nD)
        nearest_Qk, where_Qk = distances_Qn.topk(min(k, len(block_nD)), largest=False)
        best_QK, places_QK = torch.cat([best_QK, nearest_Qk], dim=1), torch.cat([places_QK, where_Qk + start], dim=1)
        best_QK, kept_QK = best_QK.topk(min(k, best_QK.shape[1]), largest=False)
        places_QK = places_QK.gather(1, kept_QK)
        start += len(block_nD)
    return best_QK, places_QK
