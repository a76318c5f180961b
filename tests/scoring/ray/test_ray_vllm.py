"""Ray Data's vLLM processor beside transformers, where both Ray and vLLM are installed: same answers, same table."""

from __future__ import annotations

import os
import secrets

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import mriqa
from mriqa.scoring.jobs.runner import Job
from mriqa.scoring.ray.cluster import OWN, RayCluster

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
ENGINE = {"enforce_eager": True, "max_model_len": 1024, "start": False}
VIEWS = {"crop": 96, "count": 5}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Random weights that answer differently to different pictures."""
    from mriqa.embedded import build_tiny_qwen3_vl
    from mriqa.models import load_vlm

    folder = build_tiny_qwen3_vl(tmp_path_factory.mktemp("lively") / "model")
    lively, _ = load_vlm(folder, device="cpu")
    with torch.no_grad():
        for name, weights in lively.named_parameters():
            if "visual" in name and weights.ndim > 1:
                weights *= 4
    lively.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise of different shapes, one of it cut off."""
    folder = tmp_path_factory.mktemp("noise") / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(20):
        pixels = generator.integers(0, 256, (*generator.integers(40, 200, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    broken = folder / "07.png"
    broken.write_bytes(broken.read_bytes()[:60])
    return folder


def test_the_processor_gives_the_scores_of_transformers(model, photos, tmp_path, monkeypatch):
    pytest.importorskip("vllm")
    for name, value in {**OWN, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("ray.data.llm")
    from mriqa.scoring.ray.vllm_engine import RayVLLM

    asked = mriqa.Scorer.from_pretrained(
        model, "greedy", backend="vllm", dtype="float32", views=VIEWS, backend_options=ENGINE, batch_size=8
    )
    here = mriqa.Scorer.from_pretrained(model, "greedy", device="cpu", structured=True, views=VIEWS, batch_size=10)
    tables = []
    for name in ("ray", "here"):
        job = Job.open(tmp_path / f"{name}.parquet", [photos], {"text": True}, shard_size=8)
        if name == "ray":
            job.run_on(RayVLLM(asked, RayCluster(workers=1, object_store=200 * 2**20)))
        else:
            job.run(here)
        tables.append(pyarrow.parquet.read_table(tmp_path / f"{name}.parquet").to_pylist())
    assert tables[0] == tables[1]
    assert len({row["score"] for row in tables[0]}) > 3
    assert [row["image"][-6:] for row in tables[0] if row["error"]] == ["07.png"]


def test_it_is_for_one_greedy_answer(model):
    from mriqa.scoring.ray.vllm_engine import RayVLLM

    for backend, readout, options in (("vllm", "sample", ENGINE), ("transformers", "greedy", {})):
        scorer = mriqa.Scorer.from_pretrained(model, readout, backend=backend, backend_options=options)
        with pytest.raises(ValueError, match="one greedy answer"):
            RayVLLM(scorer, RayCluster())
