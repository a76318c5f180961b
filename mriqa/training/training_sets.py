"""Rated images as the datasets that TRL trains on: prompt messages, a lazily decoded image, and the human scores.

TRL reads every row of a rollout G times in a row and again for each of its steps, so decoded images are kept in a
small cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mriqa.answers import AnswerFormat
from mriqa.images import load_image
from mriqa.manifest import RatedImage

if TYPE_CHECKING:
    import PIL.Image
    from datasets import Dataset

CACHED_PIXELS = 64_000_000  # about 200 MB of RGB bytes in each process that loads data


class ImageCache:
    """The most recently decoded images, up to `max_pixels` in all."""

    def __init__(self, max_pixels: int = CACHED_PIXELS):
        self.max_pixels = max_pixels
        self._images: OrderedDict[str, PIL.Image.Image] = OrderedDict()
        self._pixels = 0

    def load(self, path: str) -> PIL.Image.Image:
        """The RGB image at `path`. Raises ImageError, naming the file, where it cannot be read."""
        if path in self._images:
            self._images.move_to_end(path)
            return self._images[path]
        image = load_image(path)
        self._images[path] = image
        self._pixels += image.width * image.height
        while self._pixels > self.max_pixels:
            _, oldest = self._images.popitem(last=False)
            self._pixels -= oldest.width * oldest.height
        return image


def policy_dataset(rows: Sequence[RatedImage], answer_format: AnswerFormat) -> Dataset:
    """The GRPO training set: columns prompt, image, mos, std, image_id, dataset, content; images decoded on access."""
    return _lazy_dataset(rows, lambda batch: {"prompt": [answer_format.messages() for _ in batch["image"]]})


def answer_dataset(rows: Sequence[RatedImage], answer_format: AnswerFormat, target: str = "mos") -> Dataset:
    """The supervised training set: the columns above and `completion`, the answer that states the target score.

    `target="mos"` states the MOS. `target="sampled"` draws a rater's score from N(mos, std), clipped to 1..5, anew at
    every access: the model then learns the spread of human opinion, and policy training has something to explore.
    Draws come from torch's global generator, so the Trainer's seed governs them.
    """

    def answers(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        scores = torch.tensor(batch["mos"])
        if target == "sampled":
            scores = (scores + torch.randn(len(scores)) * torch.tensor(batch["std"])).clamp(1.0, 5.0)
        return {
            "prompt": [answer_format.messages() for _ in scores],
            "completion": [
                [{"role": "assistant", "content": answer_format.format(score)}] for score in scores.tolist()
            ],
        }

    return _lazy_dataset(rows, answers)


def _lazy_dataset(
    rows: Sequence[RatedImage], add_columns: Callable[[dict[str, list[Any]]], dict[str, list[Any]]]
) -> Dataset:
    """A table of paths and scores, whose transform adds columns and turns paths into RGB images as rows are read.

    The `datasets.Image` feature is lazy as well, but decodes by rules of its own: 16-bit images come out clipped, CMYK
    and transparent ones in their own mode. The transform outlives `select`, `shuffle` and `train_test_split`; do other
    work on the columns before, not with `map` after.
    """
    from datasets import Dataset, Features, Value

    cache = ImageCache()

    def decode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**batch, **add_columns(batch), "image": [cache.load(path) for path in batch["image"]]}

    text, number = Value("string"), Value("float64")
    table = Dataset.from_dict(
        {
            "image": [str(row.image) for row in rows],
            "mos": [row.mos for row in rows],
            "std": [row.std for row in rows],
            "image_id": [row.id for row in rows],
            "dataset": [row.dataset for row in rows],
            "content": [row.content for row in rows],
        },
        Features({"image": text, "mos": number, "std": number, "image_id": text, "dataset": text, "content": text}),
    )
    return table.with_transform(decode)
