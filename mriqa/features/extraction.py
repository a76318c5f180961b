"""Features of many pictures: in batches, each picture once, kept on disk by picture content and encoder.

A job that was killed goes on where it stopped, as every picture's features are written, whole or not at all, as soon
as its batch is through. Memory holds one batch of pictures and the result.

Legend: N pictures, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mriqa.features.encoder import Encoder, FeatureError, FloatArray, as_rows
from mriqa.images import load_image
from mriqa.progress import with_progress
from mriqa.views import ViewSettings, views

if TYPE_CHECKING:
    from mriqa.frozen.store import FeatureStore

Source = str | Path | Image.Image
NAME = "features"  # of the tensor in a cache file


def extract(
    images: Sequence[Source],
    encoder: Encoder,
    *,
    cache: str | Path | None = None,
    look: ViewSettings | None = None,
    batch_size: int = 16,
    workers: int = 2,
) -> FloatArray:
    """Features (N, D) float32 of pictures, in their order, with a progress bar on a terminal.

    Args:
        images: picture files, or Pillow images. Files are read by the rules of `mriqa.images`.
        encoder: see `load_encoder`.
        cache: folder to keep features in and to take them from; None keeps nothing.
        look: views of a picture, whose features are averaged; by default the encoder's own.
        batch_size: pictures that go through the encoder together.
        workers: threads that read and prepare pictures.

    Raises:
        ImageError: a picture can't be read; the message names it.
        FeatureError: no pictures, or the encoder gives another shape than (B, D) or a value that isn't finite.

    Example:
        >>> extract([Image.new("RGB", (64, 48))], load_encoder("lite0")).shape
        (1, 496)
    """
    if not images:
        raise FeatureError("There are no pictures to take features of.")
    look = look or encoder.views
    settings = f"{encoder.key} {asdict(look)}".encode()
    store = _open(cache)
    result_ND: FloatArray | None = None
    done = 0
    shown = with_progress(images, len(images), f"Features ({encoder.name})")
    with ThreadPoolExecutor(workers) as pool:
        for batch in _batches(shown, max(1, batch_size)):
            rows = _of_batch(batch, encoder, look, settings, store, pool)
            if result_ND is None:
                result_ND = np.empty((len(images), len(rows[0])), dtype=np.float32)
            for row_D in rows:
                if row_D.shape != result_ND[done].shape:
                    raise FeatureError(f"Encoder {encoder.name} gives {len(row_D)} features for {_name(images[done])} "
                                       f"and {result_ND.shape[1]} for others.")  # fmt: skip
                result_ND[done] = row_D
                done += 1
    assert result_ND is not None  # there was a picture
    return result_ND


def _of_batch(
    batch: list[Source], encoder: Encoder, look: ViewSettings, settings: bytes, store: FeatureStore | None,
    pool: ThreadPoolExecutor,
) -> list[FloatArray]:  # fmt: skip
    if store is None:
        return _compute(batch, encoder, look, pool)
    import torch

    keys = list(pool.map(lambda image: _key(image, settings), batch))
    found = {key: store.get(key) for key in keys}
    missing = {key: image for key, image in zip(keys, batch) if found[key] is None}
    if missing:
        for key, row_D in zip(missing, _compute(list(missing.values()), encoder, look, pool)):
            found[key] = {NAME: torch.from_numpy(row_D)}
            store.put(key, found[key])  # type: ignore[arg-type]  # filled above
    return [found[key][NAME].numpy() for key in keys]  # type: ignore[index]  # filled above


def _compute(images: list[Source], encoder: Encoder, look: ViewSettings, pool: ThreadPoolExecutor) -> list[FloatArray]:
    """Features (D,) of each picture, averaged over its views."""
    prepared = list(pool.map(lambda image: [encoder.prepare(view) for view in views(load_image(image), look)], images))
    counts = [len(own) for own in prepared]
    rows_VD = as_rows(encoder.encode([view for own in prepared for view in own]), sum(counts), encoder.name)
    features = [own_VD.mean(axis=0) for own_VD in np.split(rows_VD, np.cumsum(counts)[:-1])]
    for image, row_D in zip(images, features):
        if not np.isfinite(row_D).all():
            raise FeatureError(f"Encoder {encoder.name} gives NaN or infinity for {_name(image)}: leave it out.")
    return features


def _key(image: Source, settings: bytes) -> str:
    """A digest of a picture's bytes and of all that its features depend on."""
    whole = hashlib.blake2b(settings, digest_size=20)
    if isinstance(image, Image.Image):
        whole.update(f"pixels {image.size}".encode() + load_image(image).tobytes())
        return whole.hexdigest()
    try:
        with open(image, "rb") as file:
            while part := file.read(1 << 20):
                whole.update(part)
    except (OSError, ValueError):
        load_image(image)  # which says what is wrong with it
        raise
    return whole.hexdigest()


def _open(cache: str | Path | None) -> FeatureStore | None:
    if cache is None:
        return None
    from mriqa.frozen.store import FeatureStore

    try:
        return FeatureStore(cache, memory_bytes=0)
    except OSError as error:
        raise FeatureError(
            f"The feature cache {cache} can't be used ({error.strerror}): name a folder that can be written."
        ) from error


def _batches(items: Iterator[Source], size: int) -> Iterator[list[Source]]:
    batch: list[Source] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _name(image: Any) -> str:
    return "a picture" if isinstance(image, Image.Image) else str(image)
