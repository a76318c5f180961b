"""A saved ConOrd model is a scorer like any other, and needs no language model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mriqa import Scorer
from mriqa.cli import app
from mriqa.conord import ConOrdModel
from mriqa.conord.crops import CropSettings
from mriqa.errors import UserError
from mriqa.eval import metrics
from mriqa.heads import RankIndex
from mriqa.manifest.scales import Scale


def picture(seed: int, width: int = 60, height: int = 44) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def built(scales: list[Scale], numbers: int = 0) -> ConOrdModel:
    torch.manual_seed(0)
    views = CropSettings(crop=32)
    model = ConOrdModel.build("timm:test_resnet", pretrained=False, width=8, views=views, k=2, read_numbers=numbers)
    model.scales = scales
    known = model.embed([model.load_views(picture(seed)) for seed in range(10, 16)])
    model.index = RankIndex(known, torch.tensor([0.0, 20.0, 40.0, 50.0, 80.0, 100.0], dtype=torch.float64))
    return model


@pytest.fixture(params=[Scale(0, 100), Scale(0, 100, "lower")], ids=["higher", "lower"])
def saved(request, tmp_path):
    model = built([request.param])
    model.save(tmp_path / "model")
    return model, tmp_path / "model", request.param


def test_scores_are_the_ranks_on_1_to_5(saved):
    model, folder, scale = saved
    images = [picture(1), picture(2, 100, 90).convert("L"), picture(3, 20, 20)]
    scorer = Scorer.from_pretrained(folder, device="cpu", batch_size=2)
    ranks = model.predict(images).tolist()
    wanted = [1 + 4 * (rank if scale.direction == "higher" else 100 - rank) / 100 for rank in ranks]
    scores = scorer.score(images)
    assert [one.score for one in scores] == pytest.approx(wanted, abs=1e-5)
    assert all(np.isnan(one.std) and one.error is None and one.n_parsed == 1 for one in scores)
    assert scorer.readout_name == "neighbours"


def test_a_reading_beyond_the_scale_is_held_to_it(tmp_path):
    model = built([Scale(0, 100)], numbers=1)
    model.reading.mean_R.fill_(400.0)
    model.save(tmp_path / "model")
    scorer = Scorer.from_pretrained(tmp_path / "model", device="cpu")
    assert [one.score for one in scorer.score([picture(1)])] == [5.0] and scorer.readout_name == "linear"


def test_the_commands_score_and_evaluate(saved, tmp_path):
    model, folder, scale = saved
    rows = []
    for seed in range(6):
        picture(seed).save(tmp_path / f"{seed}.png")
        rows.append({"image": f"{seed}.png", "mos": 1 + seed / 2})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code = (
        "import sys; from mriqa.cli import main\n"
        "try: main()\n"
        "finally: assert not [name for name in sys.modules if name.split('.')[0] == 'transformers']\n"
    )
    command = ["score", str(tmp_path / "rows.jsonl"), "-m", str(folder), "-o", str(tmp_path / "s.jsonl")]
    run = subprocess.run(
        [sys.executable, "-c", code, *command, "--device", "cpu"], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    scores = [json.loads(line)["score"] for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    wanted = Scorer.from_pretrained(folder, device="cpu").score([tmp_path / row["image"] for row in rows])
    assert scores == pytest.approx([one.score for one in wanted], abs=1e-6)

    options = [
        "eval",
        "--manifest",
        tmp_path / "rows.jsonl",
        "-m",
        folder,
        "--device",
        "cpu",
        "-o",
        tmp_path / "e.json",
    ]
    done = CliRunner().invoke(app, list(map(str, options)))
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["srcc"] == pytest.approx(metrics.srcc(scores, [row["mos"] for row in rows]))


def test_what_cannot_score_says_why(saved, tmp_path):
    _, folder, _ = saved
    for options, says in (
        ({"readout": "expected"}, "no answers: leave out the readout expected"),
        ({"head": "conord"}, "no head 'conord'"),
        ({"backend": "vllm"}, "is a ConOrd model, which vllm does not run"),
        ({"backend": "probe"}, "is a ConOrd model, which probe does not run"),
        ({"device": "cuda:99"}, "not available here"),
    ):
        with pytest.raises(UserError, match=says):
            Scorer.from_pretrained(folder, **options)
    with pytest.raises(UserError, match="no conord.json, which the conord backend reads"):
        Scorer.from_pretrained("default", backend="conord")
    built([Scale(-40, 10), Scale(-45, 45)]).save(tmp_path / "gaze")
    with pytest.raises(UserError, match="which is no score"):
        Scorer.from_pretrained(tmp_path / "gaze")
    built([]).save(tmp_path / "earlier")
    with pytest.raises(UserError, match="does not say what scale"):
        Scorer.from_pretrained(tmp_path / "earlier")
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="do not fit its conord.json"):
        Scorer.from_pretrained(folder)
