"""Features of single crops of a picture at two sizes, as a probe reads them: five crops, full and half size in a row.

After the probes of ARNIQA and SHAMISA (arXiv 2603.13669): crops at the centre and the four corners of the picture, and
of its half-size version (sides rounded down, bicubic). The features of one place, full size first, are a row. A picture
with a side shorter than a crop is enlarged, where the published code pads with black.

Legend: N pictures, B of a batch, V crops of a picture at one size, D features of a crop, F features of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mriqa.features.encoder import Encoder, FeatureError, FloatArray, as_rows, digest
from mriqa.features.encoders import load_encoder
from mriqa.features.extraction import Source, extract
from mriqa.views import ViewSettings, enlarged, views

CROP = 224
PLACES = 5
TWO_SIZES, ONE_SIZE, WHOLE = "two_sizes", "one_size", "whole"
LOOKS = (TWO_SIZES, ONE_SIZE, WHOLE)


@dataclass(frozen=True)
class CropEncoder:
    """An encoder whose features of a picture are V rows, one behind the other.

    Attributes:
        encoder: gives (B, V · F).
        places: V.
    """

    encoder: Encoder
    places: int

    @property
    def key(self) -> str:
        """Changes whenever the features may change."""
        return self.encoder.key

    def rows(self, images: Sequence[Image.Image], before: ViewSettings | None = None) -> FloatArray:
        """Features (B, V, F) of RGB pictures that are open already, as `crop_features` gives them."""
        looks = [views(image, before or self.encoder.views) for image in images]
        prepared = [self.encoder.prepare(view) for (view,) in looks]
        return as_rows(self.encoder.encode(prepared), len(images), self.encoder.name).reshape(
            len(images), self.places, -1
        )


def load_crop_encoder(name: str, look: str = TWO_SIZES, crop: int = CROP, device: str | None = None) -> CropEncoder:
    """How a probe sees pictures through an encoder.

    Args:
        name: of `mriqa.features.load_encoder`.
        look: "two_sizes" for V = 5 crops of full and half size, F = 2 D; "one_size" for those of full size, F = D;
            "whole" for the encoder's own look, V = 1.
        crop: side of the crops in pixels.
        device: of the computation; the accelerator if there is one.

    Raises:
        FeatureError: no such look, or no such encoder.
        PretrainError, ModelError: no such pretrained encoder or model.
    """
    if look not in LOOKS:
        raise FeatureError(f"There is no look {look!r}; choose one of {', '.join(LOOKS)}.")
    if crop < 1:
        raise FeatureError(f"Crops must have a side of at least 1 pixel, not {crop}.")
    if look == WHOLE:
        return CropEncoder(load_encoder(name, device), places=1)
    encoder = load_single_crop_encoder(name, device)
    return one_size(encoder, crop) if look == ONE_SIZE else two_sizes(encoder, crop)


def load_single_crop_encoder(name: str, device: str | None = None) -> Encoder:
    """The encoder of that name for crops that somebody else takes. Raises as `load_encoder`."""
    if name.startswith("shamisa:"):  # which by itself sees crops of two sizes already
        from mriqa.features.shamisa_encoder import load_shamisa_crops

        return load_shamisa_crops(name.removeprefix("shamisa:"), device)
    return load_encoder(name, device)


def two_sizes(encoder: Encoder, crop: int = CROP) -> CropEncoder:
    """Five crops of a picture at full and half size, each seen by the encoder as a picture of its own."""

    def prepare(image: Image.Image) -> list[Any]:
        """The crops at full size, then those at half size, prepared."""
        half = image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BICUBIC)
        return [encoder.prepare(view) for own in (image, half) for view in five_crops(own, crop)]

    def encode(pictures_B: list[list[Any]]) -> FloatArray:
        crops = [view for picture in pictures_B for view in picture]
        rows_D = as_rows(encoder.encode(crops), len(crops), encoder.name)
        sizes_BSVD = rows_D.reshape(len(pictures_B), 2, PLACES, -1)
        return sizes_BSVD.transpose(0, 2, 1, 3).reshape(len(pictures_B), -1)

    key = digest("five crops at two sizes", crop, encoder.key)
    return CropEncoder(Encoder(encoder.name, key, encode, prepare), PLACES)


def one_size(encoder: Encoder, crop: int = CROP) -> CropEncoder:
    """Five crops of a picture at full size, each seen by the encoder as a picture of its own."""

    def prepare(image: Image.Image) -> list[Any]:
        return [encoder.prepare(view) for view in five_crops(image, crop)]

    def encode(pictures_B: list[list[Any]]) -> FloatArray:
        crops = [view for picture in pictures_B for view in picture]
        return as_rows(encoder.encode(crops), len(crops), encoder.name).reshape(len(pictures_B), -1)

    return CropEncoder(Encoder(encoder.name, digest("five crops", crop, encoder.key), encode, prepare), PLACES)


def five_crops(image: Image.Image, side: int) -> list[Image.Image]:
    """Squares at the centre and the four corners, of a picture enlarged where it is smaller; always five."""
    image = enlarged(image, side)
    right, bottom = image.width - side, image.height - side
    places = [(right // 2, bottom // 2), (0, 0), (right, 0), (0, bottom), (right, bottom)]
    return [image.crop((left, top, left + side, top + side)) for left, top in places]


def crop_features(
    images: Sequence[Source],
    encoder: CropEncoder,
    *,
    before: ViewSettings | None = None,
    cache: str | Path | None = None,
    batch_size: int = 4,
) -> FloatArray:
    """Features (N, V, F) of pictures.

    Args:
        images: as of `extract`.
        encoder: see `load_crop_encoder`.
        before: its `size` or `limit` resize a picture before all else.
        cache: folder to keep features in and to take them from; None keeps nothing.
        batch_size: pictures that go through the encoder together, with all their crops.

    Raises:
        ImageError, FeatureError: as `extract`.
    """
    rows = extract(images, encoder.encoder, cache=cache, look=before, batch_size=batch_size)
    return rows.reshape(len(images), encoder.places, -1)
