"""`make results`: finished tables are kept, interrupted ones go on, missing data is said, and the page stays whole."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import results as recipe
import yaml
from PIL import Image

from mriqa.manifest import RatedImage, write_manifest

COUNTING = """
import pathlib, sys, time
out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
while len(sys.argv) > 2 and not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.05)
runs = out / "runs.txt"
runs.write_text((runs.read_text() if runs.exists() else "") + "x")
(out / "results.md").write_text("# Heading\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |\\n")
"""


@pytest.fixture
def ground(tmp_path: Path):
    """A function that writes a list of tables and runs them; the command counts its runs in runs.txt."""
    (tmp_path / "count.py").write_text(COUNTING)
    count = f"python {tmp_path / 'count.py'} {{out}}"

    def run(tables: list[dict], *options: str) -> int:
        (tmp_path / "tables.yaml").write_text(yaml.safe_dump(tables))
        common = ["--tables", str(tmp_path / "tables.yaml"), "--output", str(tmp_path / "out")]
        common += ["--page", str(tmp_path / "page.md"), "--data", str(tmp_path / "data")]
        return recipe.main([*common, *options])

    return tmp_path, count, run


def runs(folder: Path, name: str) -> int:
    return len((folder / "out" / "full" / name / "run" / "runs.txt").read_text())


def test_finished_tables_are_kept_and_the_rest_of_the_page_stays(ground) -> None:
    folder, count, run = ground
    (folder / "page.md").write_text(
        "# By hand\n\nabove\n\n" + recipe.BEGIN + "\noutdated\n" + recipe.END + "\n\nbelow\n"
    )
    tables = [
        {"name": "one", "title": "The first", "command": count, "about": "Of what."},
        {"name": "two", "title": "The second", "command": count, "needs": ["{data}/photos"]},
    ]
    assert run(tables) == 0
    page = (folder / "page.md").read_text()
    assert page.startswith("# By hand\n\nabove\n") and page.endswith("\n\nbelow\n") and "outdated" not in page
    made = json.loads((folder / "out" / "full" / "one" / "made.json").read_text())
    assert f"Measured on {made['date']} at commit {made['commit']}" in page and count in page
    assert "### Heading" in page and "| 1 | 2 |" in page and "Of what." in page
    assert re.search(r"\*\*Not measured: \S+data/photos isn't here\.\*\*", page) and runs(folder, "one") == 1

    (folder / "data" / "photos").mkdir(parents=True)
    assert run(tables) == 0 and (runs(folder, "one"), runs(folder, "two")) == (1, 1)
    assert "isn't here" not in (folder / "page.md").read_text()
    assert run(tables, "--fresh", "two") == 0 and (runs(folder, "one"), runs(folder, "two")) == (1, 1)
    tables[0]["command"] = count.replace("python", "python -B", 1)  # another command, another table
    (folder / "out" / "full" / "one" / "run" / "left.txt").write_text("")
    assert run(tables, "--only", "one") == 0 and runs(folder, "one") == 1
    assert not (folder / "out" / "full" / "one" / "run" / "left.txt").exists()


def test_time_that_is_up_stops_a_command_which_goes_on_next_time(ground) -> None:
    folder, count, run = ground
    waiting = f"{count} {folder / 'go.txt'}"
    tables = [{"name": name, "title": name, "command": waiting} for name in ("slow", "later")]
    assert run(tables, "--hours", str(1 / 3600)) == 0
    page = (folder / "page.md").read_text()
    assert "Not finished yet: stopped" in page and "Not measured yet: the time was up" in page
    (folder / "out" / "full" / "slow" / "left.txt").touch()
    (folder / "go.txt").touch()
    assert run(tables, "--only", "slow") == 0 and runs(folder, "slow") == 1
    assert (folder / "out" / "full" / "slow" / "left.txt").is_file()  # the same folder: it went on


def test_a_command_that_fails_is_said_and_the_others_go_on(ground, capsys: pytest.CaptureFixture) -> None:
    folder, count, run = ground
    tables = [
        {"name": "bad", "title": "Bad", "command": f"python {folder / 'nowhere.py'}"},
        {"name": "absent", "title": "Absent", "command": "no-such-program"},
        {"name": "good", "title": "Good", "command": count},
    ]
    assert run(tables) == 1
    page = (folder / "page.md").read_text()
    assert page.count("**Failed: see ") == 2 and "| 1 | 2 |" in page
    assert "nowhere.py" in (folder / "out" / "full" / "bad" / "log.txt").read_text()
    assert run(tables, "--only", "nobody") == 2 and "Unknown table 'nobody'" in capsys.readouterr().err
    assert run([{"name": "x", "tittle": "y"}]) == 2 and "has to be a list of tables" in capsys.readouterr().err


def test_miniatures_go_to_a_page_of_their_own(tmp_path: Path) -> None:
    """One of the real tables by its quick command, on twenty pictures of noise in the place of its data."""
    data, generator = tmp_path / "data" / "hevc_lab_mos", np.random.default_rng(0)
    data.mkdir(parents=True)
    rows = []
    for place in range(20):
        pixels = generator.normal(128, 3 + 2 * place, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(data / f"{place}.png")
        rows.append(RatedImage(data / f"{place}.png", 5 - place / 5, None, "noise", str(place % 10), str(place)))
    write_manifest(rows, data / "manifest.jsonl")
    options = ["--quick", "--only", "coresets", "--output", str(tmp_path), "--data", str(data.parent)]
    page = recipe.ROOT / "docs" / "results.md"
    before = page.read_bytes()
    assert recipe.main(options) == 0, (tmp_path / "quick" / "coresets" / "log.txt").read_text()
    assert "| 50 % |" in (tmp_path / "quick" / "results.md").read_text() and page.read_bytes() == before


@pytest.mark.parametrize("table", recipe.read_tables(recipe.TABLES), ids=lambda table: table.name)
def test_the_commands_of_the_real_tables_are_read_by_their_programs(table: recipe.Table, monkeypatch) -> None:
    monkeypatch.chdir(recipe.ROOT)
    assert table.title and table.name.isidentifier()
    for command in filter(None, (table.command, table.quick)):
        words = shlex.split(command)
        assert words[0] == "python" and Path(words[1]).is_file() and "{out}" in command
        module = __import__(Path(words[1]).stem)
        assert module.parse_arguments(words[2:]) is not None
