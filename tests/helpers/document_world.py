"""A folder in which the documents' examples find what they name: pictures, manifests, and runs with a tiny model.

    python document_world.py WORLD < blocks.json > results.json

runs examples in it, one after the other in one process: importing torch and transformers takes longer than any of them.
`blocks.json` holds {"python": [[place, page, code], ...], "commands": [[place, [word, ...]], ...]}; the results say for
each place None, or what went wrong.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import sys
import traceback
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = ("photo.jpg", "a.jpg", "b.jpg", "b.png", "holiday/1.jpg", "holiday/2.png", "scans/1.png", "scans/deep/2.tif",
            "site/pictures/1.png", "photos/1.jpg", "photos/2.jpg")  # fmt: skip
MANIFESTS = ("test.jsonl", "koniq.jsonl", "koniq_test.jsonl", "my.jsonl")
RUNS = ("outputs/demo", "outputs/run", "RUN")

PREPARED = {
    "docs/evaluation.md": """
import numpy as np
mos, std, contents = np.linspace(1.2, 4.8, 40), np.full(40, 0.4), [str(k % 20) for k in range(40)]
pred = a = mos + np.random.default_rng(0).normal(0, 0.2, 40)
b = mos + np.random.default_rng(1).normal(0, 0.4, 40)
""",
    "docs/datasets.md": """
from mriqa.manifest import read_manifest
train_rows, test_rows = read_manifest("koniq.jsonl")[:3], read_manifest("koniq.jsonl")[3:]
""",
    "docs/serving.md": """
import torch
images, prompts, metadata = torch.rand(2, 3, 64, 64), ["", ""], [{}, {}]
def render(text, row): return None
""",
}
"""What a page's Python takes for granted."""


def make_world(folder: Path, tiny_model: Path) -> Path:
    """The folder, filled."""
    from finished_run import make_run

    noise = np.random.default_rng(0)
    for name in PICTURES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(path)
    for name in MANIFESTS:
        rows = []
        for k in range(10):
            pixels = np.clip(128 + noise.normal(0, 5 * k + 4, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{Path(name).stem}_{k}.png")
            rows.append({"image": f"{Path(name).stem}_{k}.png", "mos": 4.8 - 0.4 * k, "content": str(k)})
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in RUNS:
        make_run(folder / name, tiny_model)
        for made in ("results.json", "scatter.png"):
            (folder / name / made).unlink()
    return folder


def run_python(code: str, place: str, names: dict) -> str | None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, place, "exec"), names)
    except Exception:
        return traceback.format_exc(limit=-2)
    return None


def run_command(words: list[str]) -> str | None:
    from typer.testing import CliRunner

    from mriqa.cli import app

    for before, word in itertools.pairwise(words):
        if before in ("-o", "--out", "--report", "--plot"):
            Path(word).unlink(missing_ok=True)
    for card in Path().glob("*/*/MODEL_CARD.md"):
        card.unlink()
    done = CliRunner().invoke(app, words[1:])
    fine = (0, 1) if "--fail-under" in words else (0,)
    if done.exit_code in fine:
        return None
    unexpected = "" if isinstance(done.exception, SystemExit) else "".join(traceback.format_exception(done.exception))
    return f"exit code {done.exit_code}: {done.output}{unexpected}"


def main() -> None:
    asked = json.load(sys.stdin)
    os.chdir(sys.argv[1])
    results: dict[str, str | None] = {}
    spaces: dict[str, dict] = {}
    for place, page, code in asked["python"]:
        if page not in spaces:
            spaces[page] = {"__name__": "example"}
            exec(PREPARED.get(page, ""), spaces[page])
        results[place] = run_python(code, place, spaces[page])
    for place, words in asked["commands"]:
        results[place] = run_command(words)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
