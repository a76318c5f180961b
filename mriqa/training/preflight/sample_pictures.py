"""A handful of a manifest's pictures whose sizes differ, since equal ones would never be padded.

Legend: N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from mriqa.images import load_image
from mriqa.training.runs import evenly_spread

if TYPE_CHECKING:
    from mriqa.answers import AnswerFormat
    from mriqa.manifest import RatedImage

LOOKED_AT = 32  # rows whose headers are read


def sample_prompts(rows: Sequence[RatedImage], answer_format: AnswerFormat) -> list[dict[str, Any]]:
    """Data set rows (columns prompt and image) of up to four pictures: smallest, largest, widest and tallest.

    Where all have one shape, half of the first picture goes in as well. Raises ImageError for one that can't be read.
    """
    looked_at = evenly_spread(rows, min(LOOKED_AT, len(rows)))
    sizes_N = [_size(row) for row in looked_at]
    areas_N = [float(width * height) for width, height in sizes_N]
    shapes_N = [width / height for width, height in sizes_N]
    places = [each.index(end(each)) for each in (areas_N, shapes_N) for end in (min, max)]
    pictures = [load_image(looked_at[place].image) for place in dict.fromkeys(places)]
    if len({picture.size for picture in pictures}) == 1:
        width, height = pictures[0].size
        pictures.append(pictures[0].crop((0, 0, max(1, width // 2), height)))
    return [{"prompt": answer_format.messages(), "image": picture} for picture in pictures]


def _size(row: RatedImage) -> tuple[int, int]:
    with Image.open(row.image) as picture:
        return picture.size
