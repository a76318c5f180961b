"""A folder of quality maps, for pictures out of any source: two files for each, under a name of their own.

    photo-1f0c9a3e.png    the picture beside the picture under its map, with a legend
    photo-1f0c9a3e.npy    the map's values (H, W) in 1..5, float32: numpy.load
    maps.json             what the maps were made with

The name is the picture's own and the first digits of a hash of all that the table calls it, so pictures of one name in
several folders or tar files don't collide, and every worker gives a picture the same name. A picture's files appear
whole, the values first.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mriqa.files import replacing, write_json
from mriqa.images import ImageError, load_image
from mriqa.scoring.jobs.opening import Opener
from mriqa.scoring.jobs.sources import Item
from mriqa.scoring.jobs.tables import OutputError
from mriqa.scoring.quality_map import MapSettings, quality_map

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Score, Scorer

MARK = "maps.json"
LONGEST_STEM = 48  # characters, each of up to four bytes


class MapFolder:
    """Maps made with `settings` in a folder that is new, empty or holds maps made with the same settings.

    Raises OutputError where the folder is a file or holds something else, unless `overwrite` says that maps may take
    the place of others.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
        self.folder = Path(folder)
        # As the file would give them back.
        self.settings: dict[str, Any] = json.loads(json.dumps({**settings, **asdict(MapSettings())}))
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"The maps need a folder, and {self.folder} is a file; name another one.")
        if self.folder.is_dir() and any(self.folder.iterdir()) and not overwrite and self._mark() != self.settings:
            held = "maps made with other options" if (self.folder / MARK).is_file() else "files that are no maps"
            raise OutputError(f"{self.folder} holds {held}; name another folder, or add to it with --overwrite.")

    def rows(
        self, scorer: Scorer, items: Iterable[Item], scores: Iterable[Score]
    ) -> Iterator[tuple[Score, str | None]]:
        """Each item's score as it comes, with the name of the map's picture; None where there is no map."""
        with Opener() as opener:
            for item, score in zip(items, scores, strict=True):
                yield score, None if score.error else self.write(scorer, opener, item, score)

    def write(self, scorer: Scorer, opener: Opener, item: Item, score: Score) -> str | None:
        """Make an item's map, and return the name of its picture; None where no window has a score.

        Raises BackendError, WriteError.
        """
        from mriqa.scoring.map_drawing import draw_map

        try:
            picture = load_image(opener.open(item))
        except ImageError:  # it was there when it was scored
            return None
        found = quality_map(scorer, picture)
        if not found.scored:
            return None
        if self._mark() != self.settings:
            write_json(self.settings, self.folder / MARK)
        name = map_name(item.name)
        with replacing(self.folder / f"{name}.npy") as new:
            np.save(new, found.values_HW, allow_pickle=False)
        with replacing(self.folder / f"{name}.png") as new:
            draw_map(picture, found, score.score).save(new)
        return f"{name}.png"

    def _mark(self) -> Any:
        try:
            return json.loads((self.folder / MARK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def map_name(image: str) -> str:
    """The name of a picture's files, without suffix: letters, digits, "-" and "_" of its own name, and a hash."""
    stem = PurePosixPath(image.replace("\\", "/")).stem
    readable = re.sub(r"[^\w-]+", "_", stem).strip("_")[:LONGEST_STEM] or "picture"
    return f"{readable}-{hashlib.sha256(image.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
