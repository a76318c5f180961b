"""The curve over the steps: the probe's numbers for every encoder of a run, a second run goes on, refusals."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shamisa_curve
import shamisa_probe
import torch
import yaml
from noisy_contents import make_set
from PIL import Image

from mriqa.pretrain.quality_encoder import build_encoder, save_encoder

BLUE, ORANGE = (31, 119, 180), (255, 127, 14)  # matplotlib's first two


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curve")
    make_set(folder / "first", 0)
    make_set(folder / "second", 1)
    return folder


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A run of six steps with a snapshot of every second, and what a process left that was killed in the last."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "resolved_config.yaml").write_text(yaml.safe_dump({"seed": 27, "steps": 6, "images": ["a"], "workers": 4}))
    for seed, name in enumerate(("snapshots/step-000002", "snapshots/step-000004", "model")):
        torch.manual_seed(seed)
        save_encoder(build_encoder("test_resnet"), run / name, {"crop": 32}, "")
    (run / "snapshots" / f".step-000005.{'0' * 32}").mkdir()
    return run


def curve(data: Path, run: Path, *more: str) -> int:
    common = ["--run", str(run), "--crop", "32", "--splits", "3", "--device", "cpu", "--cache", str(data / "cache")]
    return shamisa_curve.main([*common, "--output", str(run.parent / "out"), *more])


@pytest.fixture
def both(data: Path) -> list[str]:
    return ["--manifests", str(data / "first" / "rated.jsonl"), str(data / "second" / "rated.jsonl")]


def results(run: Path) -> dict:
    return json.loads((run.parent / "out" / "results.json").read_text())


def test_every_encoder_of_a_run_is_probed_as_the_probe_does(data, pretrained, both):
    assert curve(data, pretrained, *both) == 0
    found = results(pretrained)["steps"]
    assert list(found) == ["2", "4", "6"]
    names = [f"shamisa:{pretrained / name}" for name in ("snapshots/step-000002", "snapshots/step-000004", "model")]
    common = ["--crop", "32", "--splits", "3", "--device", "cpu", "--cache", str(data / "cache")]
    assert shamisa_probe.main(["--encoders", *names, *both, *common, "--output", str(data / "probe")]) == 0
    probed = json.loads((data / "probe" / "results.json").read_text())["encoders"]
    for step, name in zip(found, names, strict=True):
        assert found[step] == probed[name]["no_reference"]
    table = (pretrained.parent / "out" / "results.md").read_text()
    for step in found:
        row = next(line for line in table.splitlines() if line.startswith(f"| {step} |"))
        for data_set in ("first", "second"):
            srcc = found[step][data_set]["splits"]["srcc"]
            assert len(srcc) == 3 and f"| {statistics.mean(srcc):.3f} ± {statistics.stdev(srcc):.3f} |" in row


def test_the_picture_has_a_line_for_each_data_set(data, pretrained, both):
    def colours() -> set[tuple[int, ...]]:
        with Image.open(pretrained.parent / "out" / "curve.png") as picture:
            assert min(picture.size) > 400
            return set(map(tuple, np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()))

    assert curve(data, pretrained, *both[:2]) == 0
    assert BLUE in colours() and ORANGE not in colours()
    (pretrained.parent / "out" / "results.json").unlink()
    assert curve(data, pretrained, *both) == 0
    assert {BLUE, ORANGE} <= colours()


def test_a_second_run_goes_on(data, pretrained, both, monkeypatch, capsys):
    """First while the pretraining runs, with a snapshot only; then killed behind its results; then with the rest."""
    probed = watched(monkeypatch)
    model, second = pretrained / "model", pretrained / "snapshots" / "step-000004"
    for folder in (model, second):
        folder.rename(pretrained / f"later-{folder.name}")
    assert curve(data, pretrained, *both) == 0
    assert [Path(name).name for name in probed] == ["step-000002"] and "isn't finished" in capsys.readouterr().out
    first = results(pretrained)["steps"]
    for name in ("results.md", "curve.png"):
        (pretrained.parent / "out" / name).unlink()
    assert curve(data, pretrained, *both) == 0
    assert len(probed) == 1 and (pretrained.parent / "out" / "curve.png").is_file()

    for folder in (model, second):
        (pretrained / f"later-{folder.name}").rename(folder)
    moved = pretrained.rename(pretrained.with_name("moved"))
    capsys.readouterr()
    assert curve(data, moved, *both) == 0
    assert [Path(name).name for name in probed] == ["step-000002", "step-000004", "model"]
    assert "isn't finished" not in capsys.readouterr().out
    found = results(moved)["steps"]
    assert list(found) == ["2", "4", "6"] and found["2"] == first["2"]


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The encoders that are loaded from now on."""
    loaded: list[str] = []
    load: Callable = shamisa_curve.load_crop_encoder
    monkeypatch.setattr(
        shamisa_curve, "load_crop_encoder", lambda name, *more: (loaded.append(name), load(name, *more))[1]
    )
    return loaded


def test_other_settings_are_refused(data, pretrained, both, capsys):
    assert curve(data, pretrained, *both[:2]) == 0
    config = pretrained / "resolved_config.yaml"
    for more, says in (
        (["--crop", "48"], "of other settings (crop)"),
        (both[2:], "of other settings (manifests)"),
    ):
        assert curve(data, pretrained, *both[:2], *more) == 2
        assert says in capsys.readouterr().err
    config.write_text(config.read_text().replace("seed: 27", "seed: 5"))
    assert curve(data, pretrained, *both[:2]) == 2
    assert "of other settings (pretraining)" in capsys.readouterr().err
    config.write_text(config.read_text().replace("seed: 5", "seed: 27").replace("workers: 4", "workers: 1"))
    assert curve(data, pretrained, *both[:2], "--batch_size", "2") == 0  # which change no number
    manifest = data / "first" / "rated.jsonl"
    text = manifest.read_text()
    try:
        line = json.loads(text.splitlines()[0])
        manifest.write_text("\n".join([json.dumps({**line, "mos": 1.5}), *text.splitlines()[1:]]) + "\n")
        assert curve(data, pretrained, *both[:2]) == 2
    finally:
        manifest.write_text(text)
    assert "of other settings (data_sets)" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_one_sentence(data, pretrained, both, capsys):
    (pretrained.parent / "empty").mkdir()
    (pretrained.parent / "young").mkdir()
    (pretrained.parent / "young" / "resolved_config.yaml").write_text("steps: 6\n")
    for run, more, says in (
        (pretrained.parent / "absent", both, "absent holds no run of recipes/shamisa.py"),
        (pretrained.parent / "empty", both, "empty holds no run of recipes/shamisa.py"),
        (pretrained.parent / "young", both, "holds no encoder yet: pretrain it with --snapshot_every 5000"),
        (pretrained, [], "Name data sets by --manifests"),
        (pretrained, [*both, "--splits", "11"], "--splits is a number from 1 to 10"),
    ):
        assert curve(data, run, *more) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and says in error and error.count("\n") == 1
    (pretrained.parent / "out").mkdir()
    for other in ("{", "[]", '{"encoders": {}, "settings": {}}'):
        (pretrained.parent / "out" / "results.json").write_text(other)
        assert curve(data, pretrained, *both) == 2
        assert "something else than a curve" in capsys.readouterr().err
    (pretrained.parent / "out" / "results.json").unlink()
    (pretrained / "snapshots" / "step-000002" / "model.safetensors").unlink()
    assert curve(data, pretrained, *both) == 2
    assert "holds no whole pretrained encoder" in capsys.readouterr().err
