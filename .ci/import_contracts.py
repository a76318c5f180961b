"""Check who imports whom: the contracts that stand in pyproject.toml under [tool.importlinter].

    python .ci/import_contracts.py [CHECKOUT]

import-linter reads packages as they lie on disk, but `reward/` and `eval/` lie beside `mriqa/` although they are
imported as mriqa.reward and mriqa.eval, and `recipes/` holds scripts. So links in a temporary folder lay the files out
as they are imported, and the contracts are checked there.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from importlinter.cli import lint_imports

INSIDE = ("eval", "reward")  # folders at the top that are installed inside mriqa


def lay_out(checkout: Path, folder: Path) -> None:
    """Links to all modules of a checkout, as the packages `mriqa` and `recipes` in `folder`."""
    for package in ("mriqa", "recipes"):
        (folder / package).mkdir()
        for entry in (checkout / package).iterdir():
            if entry.is_dir() or entry.suffix == ".py":
                (folder / package / entry.name).symlink_to(entry)
    for name in INSIDE:
        (folder / "mriqa" / name).symlink_to(checkout / name)
    (folder / "recipes" / "__init__.py").touch()


def main(checkout: Path) -> int:
    """0 where all contracts are kept."""
    with tempfile.TemporaryDirectory(prefix="mriqa-imports-") as folder:
        lay_out(checkout, Path(folder))
        os.chdir(folder)  # where import-linter looks for packages first
        try:
            return lint_imports(config_filename=str(checkout / "pyproject.toml"), no_cache=True, no_logo=True)
        finally:
            os.chdir(checkout)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()))
