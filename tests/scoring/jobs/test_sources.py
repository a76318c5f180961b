"""Files, folders, patterns and files that hold many to lists of images."""

from __future__ import annotations

import functools
import io
import json
import os
import tarfile
import tempfile
import threading
from contextlib import closing
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mriqa.images import ImageError
from mriqa.scoring.jobs.image_list import ImageList
from mriqa.scoring.jobs.opening import Opener
from mriqa.scoring.jobs.sources import SourceError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "sub/deep/c.webp", "notes.txt", ".hidden.png", ".cache/d.png", "odd[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(folder, *sources):
    with tempfile.TemporaryDirectory() as elsewhere:
        images = ImageList.build(f"{elsewhere}/list", [folder / source for source in sources])
        assert len(images) == len(list(images))
        return [os.path.relpath(item.path, folder) for item in images]


def test_a_folder_is_every_image_below_it_sorted(folder):
    assert names(folder, "") == ["a.JPG", "b.png", "odd[1].png", "sub/deep/c.webp"]


def test_each_file_once_however_it_is_named(folder):
    assert names(folder, "b.png", "sub/../b.png", "*.png", "") == ["a.JPG", "b.png", "odd[1].png", "sub/deep/c.webp"]


def test_patterns_files_of_any_suffix_and_names_with_brackets(folder):
    assert names(folder, "**/*.webp") == ["sub/deep/c.webp"]
    assert names(folder, "notes.txt", "odd[1].png") == ["notes.txt", "odd[1].png"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [("no.png", "no file or folder"), ("*.gif", "matches nothing"), ("empty", "holds no image files")],
)
def test_a_source_that_names_nothing_is_an_error(folder, source, sentence):
    with pytest.raises(SourceError, match=sentence):
        names(folder, "b.png", source)


@pytest.fixture
def many(tmp_path):
    """Five pictures in a tar shard, in two kinds of Parquet file, and in manifests of every kind."""
    import pyarrow
    import pyarrow.parquet
    from numbered_pictures import encoded

    pictures = [encoded(number) for number in range(5)]
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for number, data in enumerate(pictures):
            for suffix, content in (("cls", b"3"), ("png", data)):
                member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    write = pyarrow.parquet.write_table
    write(pyarrow.table({"png": pictures, "label": range(5)}), tmp_path / "plain.parquet", row_group_size=2)
    structs = [{"bytes": data, "path": None} for data in pictures]
    write(pyarrow.table({"image": structs}), tmp_path / "hub.parquet", row_group_size=3)

    (tmp_path / "p").mkdir()
    paths = [f"p/{number}.png" for number in range(5)]
    for path, data in zip(paths, pictures):
        (tmp_path / path).write_bytes(data)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"image": path}) + "\n" for path in paths))
    (tmp_path / "m.json").write_text(json.dumps([{"img_path": [path]} for path in paths]))
    (tmp_path / "m.csv").write_text("image_path,mos\n" + "".join(f"{path},3\n" for path in paths))
    write(pyarrow.table({"image": paths}), tmp_path / "m.parquet")
    return tmp_path


HOLDERS = ["shard.tar", "plain.parquet", "hub.parquet", "m.jsonl", "m.json", "m.csv", "m.parquet"]


def opened(items) -> list:
    def read(opener, item):
        try:
            source = opener.open(item)
        except ImageError as error:
            return str(error)
        return source if isinstance(source, bytes) else source.read_bytes()

    with Opener() as opener:
        return [read(opener, item) for item in items]


@pytest.mark.parametrize("holder", HOLDERS)
def test_files_that_hold_many_give_every_image(many, tmp_path, monkeypatch, holder):
    from numbered_pictures import encoded

    monkeypatch.chdir(many)
    with closing(ImageList.build("list", [holder])) as images:
        monkeypatch.chdir("/")  # another worker starts from another folder
        assert opened(images) == [encoded(number) for number in range(5)]
        items = list(images)
        assert opened(items[::-1]) == opened(items)[::-1]
        assert opened([items[0], items[4], items[1]])[1:] == [encoded(4), encoded(1)]
        first = {"shard.tar": "shard.tar/000.png", "plain.parquet": "plain.parquet#0", "hub.parquet": "hub.parquet#0"}
        assert items[0].name == first.get(holder, "p/0.png")


def test_bad_rows_and_broken_holders_are_errors_of_their_own(many):
    (many / "bad.jsonl").write_text('{"image": "gone.png"}\nnot JSON\n{"mos": 3}\n{"image": "http://h/a.png"}\n')
    (many / "broken.tar").write_bytes((many / "shard.tar").read_bytes()[:2600])
    (many / "cut.tar").write_bytes((many / "shard.tar").read_bytes()[:1600])
    with closing(ImageList.build(many / "list", [many / "bad.jsonl", many / "broken.tar", many / "cut.tar"])) as images:
        results = opened(item for item in images if item.kind != "file")
        assert [item.kind for item in images][:4] == ["file", "error", "error", "error"]
    assert "not JSON" in results[0] and "names no image" in results[1] and "--allow-urls" in results[2]
    assert any("cut off" in str(result) or "broken" in str(result) for result in results[3:])


def test_holders_are_opened_where_they_are_meant(many):
    """A pattern for everything also finds a manifest, which is then no manifest but a file that is no image."""
    with closing(ImageList.build(many / "list", [many / "p" / "*", many / "m.cs*"])) as images:
        assert [item.kind for item in images] == ["file"] * 6


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.tar.gz", b"", "unpack it"),
        ("a.tar", b"no tar" * 200, "not a readable tar"),
        ("a.parquet", b"no parquet", "not a readable Parquet"),
        ("a.jsonl", b"", "is empty"),
        ("a.csv", b"image\n\xff\n", "not UTF-8"),
    ],
)
def test_a_holder_that_cannot_be_used_is_one_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=sentence):
        ImageList.build(tmp_path / "list", [tmp_path / name])


def test_several_columns_of_bytes_are_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"left": [b"a"], "right": [b"b"]}), tmp_path / "two.parquet")
    with pytest.raises(SourceError, match="left, right"):
        ImageList.build(tmp_path / "list", [tmp_path / "two.parquet"])


def test_urls_are_fetched_where_allowed_only(tmp_path):
    from numbered_pictures import encoded

    (tmp_path / "a.png").write_bytes(encoded(7))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls = [f"http://127.0.0.1:{server.server_port}/{name}" for name in ("a.png", "b.png")]
        with pytest.raises(SourceError, match="--allow-urls"):
            ImageList.build(tmp_path / "refused", urls)
        with closing(ImageList.build(tmp_path / "list", urls, allow_urls=True)) as images:
            found, missing = opened(images)
        server.shutdown()
    assert found == encoded(7) and "404" in missing
