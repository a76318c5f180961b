"""What a long comparison has measured so far, so that the same command goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mriqa.errors import SettingsError
from mriqa.files import write_json


class Ledger:
    """Results by name in a JSON file, written whole after each; it belongs to the settings that they depend on.

    Arguments:
        path: the file; another run's is read and gone on with.
        settings: what the results depend on; they are kept, and compared, as texts.

    Attributes:
        results: name -> what was recorded, as JSON gives it back (NaN as None).

    Raises:
        SettingsError: the file holds results under other settings, or no results at all.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        self.settings = {name: str(value) for name, value in settings.items()}
        self.results: dict[str, Any] = {}
        if not path.is_file():
            return
        try:
            former = json.loads(path.read_text(encoding="utf-8"))
            settings_then, self.results = former["settings"], former["results"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(
                f"{path} holds no results that can be gone on with: delete it to begin anew."
            ) from error
        for name in sorted({*settings_then, *self.settings}):
            was, now = settings_then.get(name), self.settings.get(name)
            if was != now:
                raise SettingsError(
                    f"{path.parent} holds results with another {name} ({was}, not {now}): name another --output, or "
                    f"delete {path.name} there to begin anew."
                )

    def record(self, name: str, result: Any) -> None:
        """Keep a result."""
        self.results[name] = result
        write_json({"settings": self.settings, "results": self.results}, self.path)
