"""What a first score doesn't need isn't imported: by the command with the model in the package, and by the service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEAVY = (
    *("accelerate", "datasets", "gradio", "matplotlib", "numba", "pandas", "peft", "pyarrow", "scipy", "skimage"),
    *("sklearn", "sympy", "timm", "torchvision", "transformers", "trl", "umap", "vllm"),
    *("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.distributed.fsdp"),
)
SCORE = """
import runpy, sys
sys.argv = ["mriqa", "score", sys.argv[1]]
try:
    runpy.run_module("mriqa", run_name="__main__")
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""
SERVE = """
import sys
from mriqa import Scorer
from mriqa.serving.app import make_app
scorer = Scorer.from_pretrained(device="cpu")
make_app(scorer)
print(scorer.score([sys.argv[1]]))
print(*sorted(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("program", [SCORE, SERVE], ids=["score", "serve"])
def test_the_model_in_the_package_scores_without_heavy_packages(program: str, tmp_path: Path) -> None:
    """It fails where `mriqa.plain_vlm` no longer knows the packaged model; its debug log says why."""
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(photo)
    run = subprocess.run([sys.executable, "-c", program, str(photo)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "score" in run.stdout and "torch" in run.stderr.split()
    assert not set(HEAVY) & set(run.stderr.split())
