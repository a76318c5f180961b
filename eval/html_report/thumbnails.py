"""Small copies of the pictures that a model judges worst and best, inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from mriqa.images import ImageError, load_image

SIDE = 160
SHOWN = 4


def extremes(errors: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """The ids of the largest and of the smallest errors, worst first and best first; none twice."""
    ordered = sorted(errors, key=lambda name: (-abs(errors[name]), name))
    worst = ordered[: min(SHOWN, len(ordered) // 2)]
    return worst, ordered[::-1][: len(worst)]


def gallery(title: str, rows: Sequence[Mapping[str, Any]], pictures: Mapping[str, Path]) -> str:
    """A list of pictures with both scores; a picture that cannot be read leaves its scores."""
    items = []
    for row in rows:
        text = f"model {row['score']:.2f}, people {row['mos']:.2f}"
        if abs(row["mapped"] - row["score"]) > 0.005:
            text = f"model {row['score']:.2f} (mapped {row['mapped']:.2f}), people {row['mos']:.2f}"
        source = data_uri(pictures[row["id"]]) if row["id"] in pictures else None
        alt = escape(f"{row['id']}: {text}", quote=True)
        picture = f'<img src="{source}" alt="{alt}">' if source else ""
        items.append(f"<li>{picture}<span>{escape(row['id'])}</span><b>{text}</b></li>")
    return f'<h4>{escape(title)}</h4><ul class="gallery">{"".join(items)}</ul>' if items else ""


def data_uri(path: Path, side: int = SIDE) -> str | None:
    """A JPEG of at most `side` pixels a side as a data URI; None where the picture cannot be read."""
    try:
        picture = load_image(path)
    except ImageError:
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
