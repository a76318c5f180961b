"""The pretraining recipe: it learns, survives kill -9, takes every ablation by name, and refuses in one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from mriqa.embedded.lite_tower import imagenet_weights
from mriqa.features import extract, load_encoder
from mriqa.pretrain.shamisa_options import PretrainOptions

RECIPE = Path(__file__).parents[2] / "recipes" / "shamisa.py"
CONFIGS = RECIPE.parent / "configs" / "shamisa"
QUICK = {
    "architecture": "test_resnet", "crop": 32, "tiny_batches": 1, "groups": 2, "levels": 2, "neighbours": 4,
    "prototypes": 8, "embedding": 16, "workers": 0, "log_every": 1, "diagnose_every": 0, "checkpoint_minutes": 0,
    "learning_rate": 0.01, "cpu": True,
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("unshared_accelerator")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Eight pictures, one of them broken."""
    folder = tmp_path_factory.mktemp("pool")
    generator = np.random.default_rng(0)
    for place in range(8):
        pixels = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC).save(folder / f"{place}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:80])
    return folder


def arguments(pool, out, **changed) -> list[str]:
    options = {**QUICK, "images": pool, "output_dir": out, "steps": 6, **changed}
    return [text for name, value in options.items() for text in (f"--{name}", *_texts(value))]


def _texts(value) -> list[str]:
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)]


def snapshots(out: Path) -> list[str]:
    """Those of a run, hidden names included."""
    return sorted(path.name for path in (out / "snapshots").iterdir())


def run(*given) -> int:
    import shamisa

    return shamisa.main([str(each) for each in given])


def test_a_run_leaves_an_encoder_a_log_and_a_picture(pool, tmp_path, capsys):
    assert run(*arguments(pool, tmp_path / "out", diagnose_every=3, snapshot_every=2)) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert line["images_per_second"] > 0 and sum(line["omega"].values()) == pytest.approx(1, rel=1e-5)
        assert {"loss", "variance", "covariance", "invariance", "graph", "ot"} < set(line)
    assert [line["step"] for line in lines if {"corr", "inv", "rank"} < set(line)] == [1, 3, 6]
    assert lines[-1]["learning_rate"] < lines[0]["learning_rate"] == 0.01
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "model", "snapshots", "progress.jsonl", "progress.png", "resolved_config.yaml", "skipped_images.txt",
    }  # fmt: skip
    assert snapshots(tmp_path / "out") == ["step-000002", "step-000004"]
    assert "3.png" in (tmp_path / "out" / "skipped_images.txt").read_text()
    with Image.open(tmp_path / "out" / "progress.png") as picture:
        assert min(picture.size) > 300

    features = extract(sorted(pool.glob("[0-2].png")), load_encoder(f"shamisa:{tmp_path / 'out' / 'model'}"))
    assert features.shape == (3, 2 * 96) and np.isfinite(features).all()
    assert run(*arguments(pool, tmp_path / "out", diagnose_every=3, snapshot_every=2)) == 0
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_that_was_killed_ends_with_the_same_weights(optimizer, pool, tmp_path):
    """Killed with SIGKILL at whatever it is doing once a checkpoint is there, twice, then left alone."""
    changed = {"steps": 30, "workers": 1, "optimizer": optimizer, "snapshot_every": 10}
    whole = [sys.executable, str(RECIPE), *arguments(pool, tmp_path / "whole", **changed)]
    cut = [sys.executable, str(RECIPE), *arguments(pool, tmp_path / "cut", **changed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    checkpoint = tmp_path / "cut" / "checkpoint.safetensors"
    for _ in range(2):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(cut, env=environment, start_new_session=True, **quiet)
        for _ in range(6000):
            if (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before) or process.poll() is not None:
                break
            time.sleep(0.02)
        assert process.poll() is None, "it was too quick to be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (tmp_path / "cut" / f".checkpoint.{'0' * 32}.safetensors").write_bytes(b"half a checkpoint")
    for command in (whole, cut):
        subprocess.run(command, env=environment, check=True, capture_output=True)
    for folder in ("snapshots/step-000010", "snapshots/step-000020", "model"):
        tensors = [load_file(tmp_path / name / folder / "model.safetensors") for name in ("whole", "cut")]
        assert set(tensors[0]) == set(tensors[1])
        assert all((tensors[0][name] == tensors[1][name]).all() for name in tensors[0])
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "progress.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 31))
    assert not checkpoint.exists() and not list((tmp_path / "cut").glob(".*"))


KILLED_IN_A_SNAPSHOT = """
import os, signal, sys
import shamisa
from mriqa.pretrain import quality_encoder

kept = quality_encoder.save_file

def save_file(tensors, path, *about):
    kept(tensors, path, *about)
    if "step-000004" in str(path):
        os.kill(os.getpid(), signal.SIGKILL)

quality_encoder.save_file = save_file
shamisa.main(sys.argv[1:])
"""


def test_a_run_killed_in_the_middle_of_a_snapshot_misses_none(pool, tmp_path):
    """Its weights are written by then, its settings are not; there are checkpoints of every step."""
    changed = {"steps": 9, "snapshot_every": 2}
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": f"{RECIPE.parent}:{RECIPE.parents[1]}"}
    command = [sys.executable, "-c", KILLED_IN_A_SNAPSHOT, *arguments(pool, tmp_path / "cut", **changed)]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL
    left, torn = snapshots(tmp_path / "cut")[::-1]
    assert left == "step-000002" and torn.startswith(".step-000004.")
    assert (tmp_path / "cut" / "checkpoint.safetensors").is_file()

    assert run(*arguments(pool, tmp_path / "cut", **changed)) == 0
    assert snapshots(tmp_path / "cut") == [f"step-00000{step}" for step in (2, 4, 6, 8)]
    for step in (2, 4, 6, 8):
        encoder = load_encoder(f"shamisa:{tmp_path / 'cut' / 'snapshots' / f'step-00000{step}'}")
        assert extract([pool / "0.png"], encoder).shape == (1, 2 * 96)


def test_snapshots_of_other_settings_are_refused(pool, tmp_path, capsys):
    """A run that was killed before its first checkpoint leaves snapshots only."""
    assert run(*arguments(pool, tmp_path / "out", steps=3, snapshot_every=2)) == 0
    (tmp_path / "out" / "model").rename(tmp_path / "gone")
    assert run(*arguments(pool, tmp_path / "out", steps=3, snapshot_every=2, seed=5)) == 2
    assert "another seed (27, not 5)" in capsys.readouterr().err


def test_a_run_from_before_an_option_goes_on(pool, tmp_path, capsys):
    assert run(*arguments(pool, tmp_path / "out", steps=1)) == 0
    file = tmp_path / "out" / "resolved_config.yaml"
    file.write_text("".join(line for line in file.open() if not line.startswith("snapshot_every")))
    assert run(*arguments(pool, tmp_path / "out", steps=1)) == 0
    assert "finished already" in capsys.readouterr().out


def test_two_processes_share_a_step(pool, tmp_path):
    options = arguments(pool, tmp_path / "out", gather=True, steps=3)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*launch, str(RECIPE), *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (tmp_path / "out" / "progress.jsonl").read_text().splitlines()
    assert len(lines) == 3 and (tmp_path / "out" / "model" / "model.safetensors").is_file()


def known_ablations() -> dict:
    return yaml.safe_load((CONFIGS / "ablations.yaml").read_text())


def test_every_row_of_the_paper_is_an_ablation_by_name():
    rows = {"A": range(5), "B": range(1, 9), "C": [1], "D": range(1, 5), "E": [1], "F": [1]}
    assert {f"{letter}{row}" for letter, numbers in rows.items() for row in numbers} <= set(known_ablations())


@pytest.mark.parametrize("name", known_ablations())
def test_an_ablation_takes_a_step(name, pool, tmp_path):
    import shamisa

    own = {**QUICK, "images": [str(pool)], "output_dir": str(tmp_path / "out"), "steps": 1, "ablation": name}
    folder = shamisa.pretrain(PretrainOptions(**own))
    saved = json.loads((folder / "shamisa.json").read_text())["settings"]
    assert {option: saved[option] for option in known_ablations()[name]} == known_ablations()[name]
    line = json.loads((tmp_path / "out" / "progress.jsonl").read_text())
    assert all(np.isfinite(line[term]) for term in ("loss", "variance", "covariance", "invariance", "graph", "ot"))
    if name.startswith("B"):
        assert list(line["omega"]) == [graph for graph in ("rd", "dd", "rr", "knn", "ot") if graph in saved["graphs"]]


@pytest.mark.parametrize(
    "path", sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "ablations.yaml"}), ids=lambda p: p.stem
)
def test_configurations_say_what_can_be(path):
    import shamisa

    (options,) = shamisa.parse((PretrainOptions,), None, ["--config", str(path), "--steps", "5"])
    assert options.steps == 5 and options.plan.steps == 5
    assert set(yaml.safe_load(path.read_text())) <= set(asdict(options))
    nodes = {"cpu": 63, "released": 252}.get(path.stem, 126)
    assert options.layout.nodes == nodes and options.objective_settings.graph_names


@pytest.mark.parametrize("changed", [
    {"objective": "released", "graph_gradient": True, "half_scale": True},
    {"objective": "literal", "mixture": "learned", "learning_rate": 1e-6},
    {"distort_on": "device", "bf16": True},
    {"checkpointing": True},
], ids=str)  # fmt: skip
def test_other_ways_to_train(changed, pool, tmp_path):
    assert run(*arguments(pool, tmp_path / "out", steps=2, **changed)) == 0
    line = json.loads((tmp_path / "out" / "progress.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(line["loss"])


def test_no_steps_keep_the_encoder_as_it_is(pool, tmp_path):
    weights = {"architecture": "lite0", "weights": "imagenet"}
    assert run(*arguments(pool, tmp_path / "out", steps=0, **weights)) == 0
    kept, own = load_file(tmp_path / "out" / "model" / "model.safetensors"), imagenet_weights()
    assert all((tensor == own[name]).all() for name, tensor in kept.items())


def test_one_distinct_picture_gives_no_nan(tmp_path):
    """All references of a tiny-batch are the same crop of one colour."""
    Image.new("RGB", (32, 32), (80, 120, 160)).save(tmp_path / "only.png")
    assert run(*arguments(tmp_path / "only.png", tmp_path / "out", steps=3)) == 0
    for line in (tmp_path / "out" / "progress.jsonl").read_text().splitlines():
        assert np.isfinite(json.loads(line)["loss"])


def test_a_collapsing_mixture_is_told_once(pool, tmp_path, capsys):
    """Descent on the weights of the graphs ends at one of them; a frozen mixture doesn't move."""
    for mixture, collapses in (("learned", True), ("frozen", False)):
        out = tmp_path / mixture
        assert run(*arguments(pool, out, mixture=mixture, learning_rate=0.05, steps=12)) == 0
        found = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
        assert any(max(line["omega"].values()) > 0.95 for line in found) == collapses
        assert capsys.readouterr().err.count("down to one graph") == collapses


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"ablation": "Z9"}, "no ablation 'Z9'"),
        ({"images": "absent"}, "no folder, manifest or picture absent"),
        ({"architecture": "resnet5O"}, "timm knows no model"),
        ({"severity": "strong"}, "half_normal, levels, uniform"),
        ({"graphs": ["rd", "xx"]}, "no graph 'xx'"),
        ({"distort_on": "cloud"}, "workers, device"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"snapshot_every": -1}, "snapshot_every must be at least 0"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"learning_rate": 1e30, "steps": 4}, "not finite"),
    ],
)
def test_refusals_are_one_sentence(changed, sentence, pool, tmp_path, capsys):
    assert run(*arguments(pool, tmp_path / "out", **changed)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and sentence in error


def test_a_folder_of_another_run_is_refused(pool, tmp_path, capsys):
    assert run(*arguments(pool, tmp_path / "out", steps=1)) == 0
    assert run(*arguments(pool, tmp_path / "out", steps=1, kappa=2)) == 2
    assert "another kappa (3.0, not 2.0)" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert run(*arguments(pool, tmp_path / "other")) == 2
    assert "something else than a run" in capsys.readouterr().err


def test_a_broken_checkpoint_is_refused(pool, tmp_path, capsys):
    assert run(*arguments(pool, tmp_path / "out", steps=1)) == 0
    (tmp_path / "out" / "model").rename(tmp_path / "gone")
    (tmp_path / "out" / "checkpoint.safetensors").write_bytes(b"half of it")
    assert run(*arguments(pool, tmp_path / "out", steps=1)) == 2
    assert "delete it to begin again" in capsys.readouterr().err
