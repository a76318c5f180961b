"""Find the files of a data set in the folder that a user has, whatever their case and whatever lies around them.

Archives unpack into folders of their own and names differ in case between versions, so a path is looked up by its end:
"1024x768/1.jpg" is found in the root and in any folder below it, as is "1024X768/1.JPG".
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mriqa.datasets.data_set import DataSetError

DEEPEST = 6  # folders below the root; a link that leads back to its parent must end somewhere
PICTURES = {".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class Folder:
    """The files below `root`, indexed once by name.

    Arguments:
        root: the data set's folder.
        partial: whether what is missing is left out (`--allow-partial`) or refused.

    Raises:
        DataSetError: `root` is not a folder, or is empty.
    """

    def __init__(self, root: Path, partial: bool = False):
        if not root.is_dir():
            raise DataSetError(f"The data set's folder {root} does not exist; name the folder with --root.")
        self.root, self.partial = root, partial
        self._files: dict[str, list[tuple[str, Path]]] = {}
        self._folders: dict[str, Path] = {}
        for parent, folders, files in os.walk(root, followlinks=True):
            relative = Path(parent).relative_to(root)
            folders[:] = sorted(folders) if len(relative.parts) < DEEPEST else []
            self._folders[relative.as_posix().casefold()] = Path(parent)
            for name in sorted(files):
                self._add(relative / name, Path(parent) / name)
        if not self._files:
            raise DataSetError(f"The data set's folder {root} has no files; unpack the archives there.")

    def _add(self, relative: Path, path: Path) -> None:
        self._files.setdefault(relative.name.casefold(), []).append((relative.as_posix(), path))

    def file(self, name: str) -> Path | None:
        """The file whose path ends in `name`, the nearest to the root and the one in the same case first; or None."""
        folded = name.casefold()
        fitting = [
            (relative, path)
            for relative, path in self._files.get(folded.rpartition("/")[2], ())
            if f"/{relative}".casefold().endswith(f"/{folded}")
        ]
        if not fitting:
            return None
        return min(fitting, key=lambda found: (found[0].count("/"), not found[0].endswith(name), found[0]))[1]

    def directory(self, *names: str) -> Folder:
        """The files of the first of these folders that there is, wherever it lies; "" is the folder itself.

        Raises:
            DataSetError: there is none of them.
        """
        for name in names:
            if not name:
                return self
            fitting = [key for key in self._folders if f"/{key}".endswith(f"/{name.casefold()}")]
            if fitting:
                return self._below(min(fitting, key=lambda key: (key.count("/"), key)))
        raise DataSetError(self._sentence("folder", names, "folders", self._folder_names()))

    def _below(self, key: str) -> Folder:
        """The part of the index that lies in one of its folders."""
        part = object.__new__(Folder)
        part.root, part.partial = self._folders[key], self.partial
        part._files, part._folders = {}, {}
        for entries in self._files.values():
            for relative, path in entries:
                if relative.casefold().startswith(f"{key}/"):
                    part._add(Path(relative).relative_to(*Path(relative).parts[: key.count("/") + 1]), path)
        for folder, path in self._folders.items():
            if folder.startswith(f"{key}/"):
                part._folders[folder[len(key) + 1 :]] = path
        return part

    def label_file(self, *names: str) -> Path:
        """The first of these label files that there is. Raises DataSetError where there is none."""
        found = next((path for path in map(self.file, names) if path), None)
        if found is None:
            raise DataSetError(self._sentence("label file", names, "files", self._other_names()))
        return found

    def optional_label_file(self, *names: str) -> Path | None:
        """The same for a file that a partial data set may lack; None there."""
        if self.partial and not any(map(self.file, names)):
            return None
        return self.label_file(*names)

    def matching(self, beginning: str, end: str) -> Path | None:
        """The first file whose name begins and ends like that, or None."""
        names = sorted(name for name in self._files if name.startswith(beginning) and name.endswith(end))
        return self._files[names[0]][0][1] if names else None

    def texts(self) -> list[Path]:
        """Every .txt file, in the order of names."""
        return sorted(path for entries in self._files.values() for _, path in entries if path.suffix.lower() == ".txt")

    def _sentence(self, kind: str, names: Iterable[str], kinds: str, found: list[str]) -> str:
        looked = " or ".join(repr(name) for name in names)
        listed = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        return (
            f"{self.root} has no {kind} {looked}, only the {kinds} {listed or '(none)'}; check --root and the download."
        )

    def _folder_names(self) -> list[str]:
        return sorted(path.name for key, path in self._folders.items() if key != ".")

    def _other_names(self) -> list[str]:
        """Files that are no pictures; pictures where there is nothing else."""
        names = sorted(relative for entries in self._files.values() for relative, _ in entries)
        return [name for name in names if Path(name).suffix.lower() not in PICTURES] or names
