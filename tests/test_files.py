"""Whole or not at all: whatever stops a writer, readers see the former file or folder, or the new one."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mriqa import files
from mriqa.files import (
    new_folder,
    remove_folder,
    remove_half_written,
    replacing,
    write_json,
    write_jsonl,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(program: str, folder: Path) -> None:
    """Run a program that kills itself without warning."""
    full = f"import os, signal, sys\nfrom mriqa.files import *\nfolder = sys.argv[1]\n{program}"
    done = subprocess.run([sys.executable, "-c", full, str(folder)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_writer_killed_before_the_rename_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.json"
    write_text("old", path)
    killed(
        "with replacing(folder + '/r.json') as t: t.write_text('new'); os.kill(os.getpid(), signal.SIGKILL)", tmp_path
    )
    assert path.read_text() == "old"
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["r.json"]
    write_text("newer", path)
    assert path.read_text() == "newer"


def test_a_writer_killed_in_a_new_folder_leaves_the_old_one(tmp_path):
    (tmp_path / "model").mkdir()
    write_text("old", tmp_path / "model" / "a.txt")
    killed(
        "with new_folder(folder + '/model', overwrite=True) as t:\n"
        "    (t / 'b.txt').write_text('new')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path,
    )
    assert names(tmp_path / "model") == ["a.txt"]
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["model"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "r.json"
    write_text("old", path)
    with pytest.raises(OSError, match="No space"), replacing(path) as temporary:
        temporary.write_text("half")
        full()
    monkeypatch.setattr(os, "fsync", full)  # some disks report it only here
    for write in (
        lambda: write_json({"n": 1}, path, sync=True),
        lambda: write_jsonl([{"n": 1}], path, sync=True),
        lambda: write_text("new", path, sync=True),
    ):
        with pytest.raises(OSError, match="No space"):
            write()
    with pytest.raises(OSError, match="No space"), new_folder(tmp_path / "model", sync=True) as staged:
        (staged / "deep").mkdir()
        (staged / "deep" / "a").write_text("new")
    assert path.read_text() == "old" and names(tmp_path) == ["r.json"]
    write_text("new", path)  # who doesn't ask for the disk doesn't wait for it
    assert path.read_text() == "new"


def test_a_folder_that_is_there_is_replaced_only_where_asked(tmp_path):
    with new_folder(tmp_path / "deep" / "model.v1") as staged:
        (staged / "a").write_text("old")
    with pytest.raises(OSError), new_folder(tmp_path / "deep" / "model.v1") as staged:
        (staged / "b").write_text("new")
    assert names(tmp_path / "deep") == ["model.v1"] and names(tmp_path / "deep" / "model.v1") == ["a"]
    with new_folder(tmp_path / "deep" / "model.v1", overwrite=True) as staged:
        assert names(staged) == []
        (staged / "b").write_text("new")
    assert names(tmp_path / "deep") == ["model.v1"] and names(tmp_path / "deep" / "model.v1") == ["b"]


def test_a_former_folder_gets_its_name_back_when_the_new_one_cannot_have_it(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    write_text("old", tmp_path / "model" / "a")
    rename = Path.rename

    def refuse_second(self: Path, target: Path) -> Path:
        if (self / "b").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_second)
    with pytest.raises(OSError, match="error"), new_folder(tmp_path / "model", overwrite=True) as staged:
        (staged / "b").write_text("new")
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["a"]


def test_of_two_writers_one_wins_whole(tmp_path):
    path, barrier = tmp_path / "r.txt", threading.Barrier(2)
    texts = ["a" * 100_000, "b" * 50_000]

    def write(text: str) -> None:
        barrier.wait()
        for _ in range(20):
            with replacing(path) as temporary, temporary.open("w") as file:
                for place in range(0, len(text), 5000):
                    file.write(text[place : place + 5000])
                    file.flush()

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            seen.add(path.read_text())
    for writer in writers:
        writer.join()
    assert seen | {path.read_text()} <= set(texts)
    assert names(tmp_path) == ["r.txt"]


def test_of_two_new_folders_the_second_is_refused_and_cleaned_away(tmp_path):
    with pytest.raises(OSError), new_folder(tmp_path / "job") as mine:
        (mine / "list").write_text("mine")
        with new_folder(tmp_path / "job") as other:
            (other / "list").write_text("other")
    assert (tmp_path / "job" / "list").read_text() == "other" and names(tmp_path) == ["job"]


def test_a_missing_folder_is_made_or_refused(tmp_path):
    write_text("x", tmp_path / "new" / "a.txt")
    with pytest.raises(FileNotFoundError):
        write_text("x", tmp_path / "gone" / "a.txt", parents=False)
    assert names(tmp_path) == ["new"]


def test_the_temporary_name_is_hidden_and_keeps_the_suffix(tmp_path):
    with replacing(tmp_path / "plot.png") as temporary:
        assert temporary.parent == tmp_path and temporary.name.startswith(".") and temporary.suffix == ".png"
        temporary.touch()


def test_json_is_standard_and_has_null_for_nan(tmp_path):
    write_json({"srcc": math.nan, "ci": (0.1, np.float64(0.2)), "n": np.int64(3), 4: "ü"}, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"srcc": None, "ci": [0.1, 0.2], "n": 3, "4": "ü"}
    assert text.isascii() and text.endswith("}\n")
    write_json(["ü"], tmp_path / "r.json", indent=1, ensure_ascii=False)
    assert (tmp_path / "r.json").read_text(encoding="utf-8") == '[\n "ü"\n]\n'


def test_json_lines_come_one_by_one(tmp_path):
    write_jsonl(({"n": n, "score": math.nan} for n in range(3)), tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"n": n, "score": None} for n in range(3)]


def test_a_removed_folder_loses_its_name_first(tmp_path, monkeypatch):
    (tmp_path / "job").mkdir()
    write_text("x", tmp_path / "job" / "list")
    seen = []
    monkeypatch.setattr(files.shutil, "rmtree", lambda path, **_: seen.append((path, names(path))))
    remove_folder(tmp_path / "job")
    ((gone, content),) = seen
    assert not (tmp_path / "job").exists() and gone.name.startswith(".") and content == ["list"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    for opened in (
        "new_folder(folder + '/model') as t: t = t / 'half'",
        "replacing(folder + '/log-2.jsonl') as t: pass",
    ):
        killed(f"with {opened}; t.write_text('new'); os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    for name in (".gitignore", "whole.txt"):
        (tmp_path / name).write_text("whole")
    assert len(names(tmp_path)) == 4
    remove_half_written(tmp_path)
    assert names(tmp_path) == [".gitignore", "whole.txt"]
