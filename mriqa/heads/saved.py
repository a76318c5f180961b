"""What a saved head, index or model says about itself in JSON, read with one sentence for whatever is wrong."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mriqa.heads.inputs import HeadError


def read_about(path: Path, form: str, kind: str, required: Collection[str] = ()) -> dict[str, Any]:
    """The content of a JSON file whose "format" is `form`; `kind`, as in "rank index", names what it describes.

    Raises:
        HeadError: no file there, no JSON, another format, or a `required` key that is missing.
    """
    if not path.is_file():
        raise HeadError(f"{path.parent} holds no {kind} ({path.name} is missing).")
    again = f"save the {kind.split()[-1]} again."
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HeadError(f"{path} is not JSON ({error}); {again}") from error
    if not isinstance(about, dict) or about.get("format") != form or not set(required) <= set(about):
        raise HeadError(f"{path} is no {kind} of this version; {again}")
    return about
