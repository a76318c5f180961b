"""`mriqa score --map`: names that don't collide, what is in the files, going on, and folders that aren't ours."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from brightness import Brightness
from PIL import Image
from typer.testing import CliRunner

import mriqa
from mriqa.cli import app
from mriqa.scoring.jobs.map_folder import map_name


@pytest.fixture
def photos(tmp_path):
    """Two pictures of one name in two folders, and a broken one."""
    folder = tmp_path / "photos"
    for name, level in (("a", 51), ("b", 204)):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (200, 120), (level,) * 3).save(folder / name / "holiday 1.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def run(monkeypatch):
    """A function that runs `mriqa score` with brightness as quality, and its backend."""
    backend = Brightness()
    scorer = mriqa.Scorer(None, None, backend=backend)
    monkeypatch.setattr("mriqa.scoring.scorer.Scorer.from_pretrained", lambda *_, **__: scorer)

    def score(*arguments: object):
        return CliRunner().invoke(app, ["score", *map(str, arguments)])

    score.backend = backend
    return score


def test_each_picture_gets_its_map_and_the_table_names_it(run, photos, tmp_path):
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    result = run(photos, "--map", maps, "-o", out)
    assert result.exit_code == 1, result.output  # for the broken one
    rows = list(csv.DictReader(out.open(newline="")))
    assert list(rows[0])[-1] == "map" and [bool(row["map"]) for row in rows] == [True, True, False]
    names = {row["map"] for row in rows if row["map"]}
    assert len(names) == 2 and all(name.startswith("holiday_1-") for name in names)
    files = {path.name for path in maps.iterdir()}
    assert files == {"maps.json", *names, *(name.replace(".png", ".npy") for name in names)}
    for row, value in zip(rows, (1.8, 4.2)):
        values_HW = np.load((maps / row["map"]).with_suffix(".npy"), allow_pickle=False)
        assert values_HW.shape == (120, 200) and values_HW == pytest.approx(value)
        with Image.open(maps / row["map"]) as sheet:
            assert sheet.width > 400


def test_a_pipe_gets_the_names_too_and_without_maps_nothing_changes(run, photos, tmp_path):
    picture = photos / "a" / "holiday 1.png"
    row = json.loads(run(picture, "--map", tmp_path / "maps").stdout)
    assert row["map"] == f"{map_name(str(picture))}.png" and (tmp_path / "maps" / row["map"]).is_file()
    assert list(json.loads(run(picture).stdout)) == ["image", "score", "std", "error", "n_parsed"]


def test_a_stopped_run_goes_on_without_making_maps_again(run, photos, tmp_path):
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    (photos / "broken.png").unlink()
    command = (photos, "--map", maps, "-o", out, "--shard-size", 1)
    assert run(*command, "--shard", "1/2").exit_code == 0 and not out.exists()
    before = {path.name: path.stat().st_mtime_ns for path in maps.glob("holiday*")}
    run.backend.seen.clear()
    assert len(before) == 2 and run(*command).exit_code == 0 and out.exists()
    assert {np.asarray(picture).max() for picture in run.backend.seen} == {51}  # part 1 of 2 was the second one
    assert all((maps / name).stat().st_mtime_ns == changed for name, changed in before.items())
    assert run(photos, "-o", tmp_path / "more.csv", "--map", maps).exit_code == 0  # the same options


@pytest.mark.parametrize(
    "held, options, sentence",
    [
        ("letter.txt", [], "holds files that are no maps"),
        ("maps.json", ["--resize", "64"], "holds maps made with other options"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(run, photos, tmp_path, held, options, sentence):
    maps, picture = tmp_path / "maps", photos / "a" / "holiday 1.png"
    maps.mkdir()
    (maps / held).write_text("mine")
    refused = run(picture, "--map", maps, *options)
    assert refused.exit_code == 2 and sentence in refused.stderr and refused.stderr.count("\n") == 1
    assert [path.name for path in maps.iterdir()] == [held] and (maps / held).read_text() == "mine"
    assert run(picture, "--map", maps, *options, "--overwrite").exit_code == 0
    assert len(list(maps.glob("*.png"))) == 1


def test_a_file_is_no_folder_and_a_cluster_makes_no_maps(run, photos, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file" in run(photos, "--map", tmp_path / "file").stderr
    assert run(photos, "--map", tmp_path, "-o", tmp_path / "a.csv", "--engine", "ray").exit_code == 2


@pytest.mark.parametrize(
    "image", ["a/b.png", "tar.tar/é ü.jpg", "https://x.y/?a=1#b", "..", "", "x" * 999, "\udcff.png"]
)
def test_names_are_safe_short_and_differ(image):
    name = map_name(image)
    assert not set("/\\?#:.") & set(name) and len(name) < 60 and name != map_name(image + "x")
