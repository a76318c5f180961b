"""Output tables: three forms, whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path

import pyarrow.parquet
import pytest

from mriqa.scoring.jobs.tables import OutputError, TableFile

COLUMNS = {"image": str, "score": float, "error": str}
ROWS = [{"image": 'a, "ü".png', "score": 3.25}, {"image": "b.png", "score": math.nan, "error": "is broken."}]


def read(path: Path) -> list[dict]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{key: value or None for key, value in row.items()} for row in csv.DictReader(file)]
    return [{**row, "score": None if row["score"] is None else float(row["score"])} for row in rows]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_rows_come_back(tmp_path, suffix):
    path = tmp_path / "new" / f"scores{suffix}"
    with TableFile(path, COLUMNS) as table:
        for row in ROWS:
            table.write(row)
        assert not path.exists()
    assert read(path) == [
        {"image": 'a, "ü".png', "score": 3.25, "error": None},
        {"image": "b.png", "score": None, "error": "is broken."},
    ]
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_failure_keeps_the_old_file(tmp_path, suffix):
    path = tmp_path / f"scores{suffix}"
    path.write_text("old")
    with pytest.raises(OutputError, match="--overwrite"):
        TableFile(path, COLUMNS)
    with pytest.raises(KeyError), TableFile(path, COLUMNS, overwrite=True) as table:
        table.write(ROWS[0])
        raise KeyError("a bug")
    assert path.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path, suffix):
    path = tmp_path / f"scores{suffix}"
    path.write_text("old")
    path.with_name(path.name + ".partial").symlink_to("/dev/full")
    with (
        pytest.raises(OutputError, match="cannot be written: .*No space left"),
        TableFile(path, COLUMNS, overwrite=True) as table,
    ):
        for _ in range(5000):
            table.write(ROWS[0])
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["scores.txt", "scores", "folder.csv"])
def test_impossible_outputs_are_refused(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError):
        TableFile(tmp_path / name, COLUMNS, overwrite=True)
