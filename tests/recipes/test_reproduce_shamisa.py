"""The commands of docs/reproduce.md on SHAMISA are started on miniature data, as they stand there.

They share one folder, in which each command is run once: those that pretrain an encoder or save a probe are run before
those that read it. `MINIATURE` adds what makes a run short. And `--help` of each says which table or figure it is for.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from noisy_contents import make_set
from PIL import Image
from typer.testing import CliRunner

from mriqa.cli import app
from mriqa.manifest import read_manifest

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8").split("## SHAMISA")[1].split("\n## ")[0]
COMMANDS = list(dict.fromkeys(re.findall(r"`((?:python|accelerate|mriqa) [^`]+)`", SECTION)))
ENCODER = {
    "architecture": "test_resnet", "weights": "random", "crop": 32, "tiny_batches": 1, "groups": 2, "levels": 2,
    "neighbours": 4, "prototypes": 8, "embedding": 16, "workers": 0, "log_every": 1, "diagnose_every": 2, "steps": 4,
    "bf16": "false", "cpu": "true",
}  # fmt: skip
PROBE = ["--crop", "32", "--splits", "2", "--device", "cpu"]
MINIATURE = {
    "shamisa_probe.py": PROBE,
    "shamisa_curve.py": PROBE,
    "shamisa_maps.py": ["--crop", "32", "--device", "cpu"],
    "shamisa_ablations.py": ["--ablations", "A0", "B7", "--seeds", "0", "--images", "40", "--crop", "32", "--"],
    "gmad": ["--device", "cpu"],
}
NAMED = {
    "shamisa": ("Table IV", "Tables III and VIII", "Table IX", "Fig. 5", "Fig. 6", "Fig. 9 to 11"),
    "shamisa_ablations": ("Tables III and VIII",),
    "shamisa_curve": ("Fig. 5",),
    "shamisa_maps": ("figures 3, 7 and 8", "figure 4"),
    "shamisa_probe": ("Tables I, II, V and VI", "Table VII"),
    "gmad": ("Fig. 2", "Table VII"),
}

pytestmark = pytest.mark.usefixtures("unshared_accelerator")


class World:
    """A folder with every file that the commands name, and which of them have run in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.done: set[str] = set()
        generator = np.random.default_rng(0)
        for part, side, count in (("kadis700k/ref_imgs", 64, 6), ("my_photographs", 400, 12)):
            (folder / part).mkdir(parents=True)
            for place in range(count):
                pixels = generator.integers(0, 255, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(
                    folder / part / f"{place}.png"
                )
        rows = read_manifest(make_set(folder / "pictures", 0, each=3))
        shutil.copytree(folder / "pictures" / "references", folder / "kadid10k" / "images")
        (folder / "waterloo" / "distorted").mkdir(parents=True)
        for name in ("live", "csiq", "tid2013", "kadid10k"):
            lines = []
            for place, row in enumerate(rows):
                kind = {"distortion": ["white_noise", "jpeg", "gaussian_blur"][place % 3], "level": 1 + place % 5}
                rated = {"image": str(row.image), "mos": row.mos, "content": row.content, "id": row.id, **kind}
                lines.append(json.dumps({**rated, "dataset": name}) + "\n")
            (folder / f"{name}.jsonl").write_text("".join(lines))
        for row in rows:
            shutil.copy(row.image, folder / "waterloo" / "distorted")

    def start(self, line: str) -> None:
        """Run a command of the document in miniature, unless it has run, and before it what it reads from."""
        if line in self.done:
            return
        for earlier in needed_by(line):
            self.start(earlier)
        words = in_miniature(shlex.split(line))
        if words[0] == "mriqa":
            done = CliRunner().invoke(app, words[1:])
            assert done.exit_code == 0, done.output
        else:
            assert importlib.import_module(Path(words[1]).stem).main(words[2:]) == 0
        self.done.add(line)


def needed_by(line: str) -> list[str]:
    """The commands whose encoders, snapshots or probes a command names."""
    makers = {
        "outputs/shamisa_resnet50": next(own for own in COMMANDS if "--snapshot_every" in own),
        "outputs/before": next(own for own in COMMANDS if "--output_dir outputs/before" in own),
    }
    needed = [maker for folder, maker in makers.items() if folder in line and maker != line]
    if line.startswith("mriqa gmad"):
        needed.append(next(own for own in COMMANDS if "--save true" in own))
    return needed


def in_miniature(words: list[str]) -> list[str]:
    """A command's words with the rest that makes it short; what the document sets stays as it is, but snapshots."""
    program = Path(words[1]).name
    words = [str(ROOT / word) if word.endswith(".yaml") else word for word in words]
    if "--snapshot_every" in words:
        words[words.index("--snapshot_every") + 1] = "2"
    encoder = [
        text for name, value in ENCODER.items() if f"--{name}" not in words for text in (f"--{name}", str(value))
    ]
    if program == "shamisa.py":
        return words + encoder
    more = MINIATURE[program] + (["--pictures", "2"] if "umap" in words else [])
    return words + more + (encoder if program == "shamisa_ablations.py" else [])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: re.sub(r"\W+", "-", line)[-60:])
def test_a_command_runs_on_miniature_data(line: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    world.start(line)
    words = shlex.split(line)
    check = {"shamisa.py": check_run, "shamisa_probe.py": check_probe, "shamisa_curve.py": check_curve,
             "shamisa_maps.py": check_maps, "shamisa_ablations.py": check_ablations, "gmad": check_duel}  # fmt: skip
    check[Path(words[1]).name](words)


def check_run(words: list[str]) -> None:
    config = Path(words[words.index("--config") + 1]).stem
    default = {"paper": "outputs/shamisa_resnet50", "cpu": "outputs/shamisa_lite0"}[config]
    folder = Path(words[words.index("--output_dir") + 1] if "--output_dir" in words else default)
    assert (folder / "model" / "model.safetensors").is_file()
    kept = json.loads((folder / "model" / "shamisa.json").read_text())["settings"]
    for name in ("ablation", "prototypes"):
        assert f"--{name}" not in words or str(kept[name]) == words[words.index(f"--{name}") + 1]
    assert [path.name for path in folder.glob("snapshots/*")] == ["step-000002"] * ("--snapshot_every" in words)
    if "--steps" not in words:
        lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
        assert len(lines) == 4 and {"corr", "rank", "inv"} < set(lines[-1]) and (folder / "progress.png").is_file()


def named_sets(words: list[str]) -> list[str]:
    return [Path(word).stem for word in words if word.endswith(".jsonl")]


def check_probe(words: list[str]) -> None:
    if "--save" in words:
        for folder in ("outputs/shamisa_resnet50", "outputs/before"):
            about = json.loads(Path(folder, "model", "probe.json").read_text())
            assert about["learned_from"] == {"data_set": "kadid10k", "pictures": 36}
    else:
        assert (
            importlib.import_module("shamisa_probe").main(in_miniature(words)[2:]) == 0
        )  # others have the same output
        (found,) = json.loads(Path("outputs/shamisa_probe/results.json").read_text())["encoders"].values()
        assert list(found["no_reference"]) == named_sets(words)
        assert bool(found["full_reference"]) == ("--references" in words)
        assert bool(found["cross_srcc"]) == (len(named_sets(words)) > 1)
        assert all(np.isfinite(own["median"]["srcc"]) for own in found["no_reference"].values())


def check_curve(words: list[str]) -> None:
    steps = json.loads(Path("outputs/shamisa_curve/results.json").read_text())["steps"]
    assert list(steps) == ["2", "4"] and all(list(own) == named_sets(words) for own in steps.values())
    assert Path("outputs/shamisa_curve/curve.png").stat().st_size > 10_000


def check_maps(words: list[str]) -> None:
    wanted = ["umap.png"] if "umap" in words else ["tsne_families.png", "tsne_levels.png", "tsne_noise.png"]
    assert all(Path("outputs/shamisa_maps", name).is_file() for name in wanted)


def check_ablations(words: list[str]) -> None:
    table = Path("outputs/shamisa_ablations/results.md").read_text().splitlines()
    assert [line.split(",")[0].split(" |")[0] for line in table[2:]] == ["| before", "| A0", "| B7"]


def check_duel(words: list[str]) -> None:
    page = Path("outputs/gmad.html").read_text()
    assert "after defends, before attacks" in page and "before defends, after attacks" in page
    assert page.count("<img") == 8 and "36 pictures in 10 bins" in page


def test_the_help_of_each_program_is_looked_at() -> None:
    assert {Path(shlex.split(line)[1]).stem for line in COMMANDS} == set(NAMED)


@pytest.mark.parametrize("program", NAMED)
def test_help_names_paper_and_table(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    if program == "gmad":
        text = CliRunner().invoke(app, ["gmad", "--help"]).output.replace("│", " ")
    else:
        with pytest.raises(SystemExit):
            importlib.import_module(program).main(["--help"])
        text = capsys.readouterr().out
    text = " ".join(text.split())
    assert "SHAMISA" in text and all(name in text for name in NAMED[program]), text
