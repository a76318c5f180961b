"""Training on a mixture: who is compared with whom, selecting anew, and resuming with the selection it stopped with."""

from __future__ import annotations

import json
from pathlib import Path

import mr_grpo
import numpy as np
import pytest
from PIL import Image

from mriqa.manifest import RatedImage, write_manifest


@pytest.fixture(scope="module")
def manifests(tmp_path_factory) -> Path:
    """Two datasets of eight 48×48 pictures each, and a reward that notes which images it is shown."""
    folder = tmp_path_factory.mktemp("mixture")
    generator = np.random.default_rng(0)
    for dataset in ("one", "two"):
        rows = []
        for index in range(8):
            pixels = generator.normal(100, 5 + 10 * index, (48, 48, 3)).clip(0, 255).astype(np.uint8)
            path = folder / f"{dataset}-{index}.png"
            Image.fromarray(pixels).save(path)
            rows.append(RatedImage(path, 4.8 - 0.5 * index, 0.5, dataset, f"{dataset}{index}", f"i{index}"))
        write_manifest(rows, folder / f"{dataset}.jsonl")
    (folder / "spy.py").write_text(
        "import json, pathlib\n"
        "def spy(completions, image_id, dataset, **_):\n"
        "    with (pathlib.Path(__file__).parent / 'seen.jsonl').open('a') as file:\n"
        "        file.write(json.dumps([sorted(set(image_id)), sorted(set(dataset))]) + '\\n')\n"
        "    return [float(len(c[0]['content'])) for c in completions]\n"
    )
    return folder


def mixture(folder: Path, text: str) -> list[str]:
    (folder / "mix.yaml").write_text(text)
    (folder / "seen.jsonl").unlink(missing_ok=True)
    return ["--mix", str(folder / "mix.yaml"), "--reward", f"{folder / 'spy.py'}:spy"]


def seen(folder: Path) -> list[tuple[list[str], list[str]]]:
    return [tuple(json.loads(line)) for line in (folder / "seen.jsonl").read_text().splitlines()]


@pytest.fixture
def options(tiny_model: Path, tmp_path: Path) -> list[str]:
    """Two images of two completions in a rollout, one update each."""
    return [
        "--model", str(tiny_model), "--output_dir", str(tmp_path / "run"), "--feature_cache", str(tmp_path / "cache"),
        "--per_device_train_batch_size", "4", "--num_generations", "2", "--max_completion_length", "4",
        "--gradient_checkpointing", "false", "--preflight", "off",
        "--beta", "0", "--learning_rate", "1e-2", "--save_steps", "2",
        "--eval_steps", "2",
        "--num_train_epochs", "4", "--lr_scheduler_type", "constant",
    ]  # fmt: skip


RESELECTED = """
encoder: policy
reselect_every: 2
comparison_within: dataset
manifests:
  - {manifest: one.jsonl, selector: herding, budget: 4}
  - {manifest: two.jsonl, selector: random, budget: 0.5, weight: 0.5}
"""


def test_datasets_stay_apart_and_a_killed_run_goes_on_with_its_selection(manifests, options, tmp_path):
    arguments = [*options, *mixture(manifests, RESELECTED)]
    assert mr_grpo.main(arguments) == 0
    whole = seen(manifests)
    assert len(whole) == 4 * 3  # epochs of 4 images of one and 2 of two, in pairs
    assert all(len(images) == 2 and len(datasets) == 1 for images, datasets in whole)
    for epoch in range(4):
        assert [d[0] for _, d in whole[3 * epoch : 3 * epoch + 3]].count("one") == 2
    files = sorted(path.name for path in (tmp_path / "run" / "mixture").iterdir())
    assert files == ["epoch-0000.jsonl", "epoch-0002.jsonl"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "mixture" / "epoch-0002.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and all(row["selection_reason"] for row in rows)
    of_one = {row["id"] for row in rows if row["dataset"] == "one"}
    assert {image for images, d in whole[6:] for image in images if d == ["one"]} == of_one

    # The same again, stopped within the third epoch and resumed: the same images in the same order.
    again = [*mixture(manifests, RESELECTED), "--output_dir", str(tmp_path / "again")]
    assert mr_grpo.main([*options, *again, "--max_steps", "8"]) == 0
    first = (tmp_path / "again" / "mixture" / "epoch-0002.jsonl").read_text()
    assert mr_grpo.main([*options, *again, "--max_steps", "12", "--resume_from_checkpoint", "auto"]) == 0
    assert seen(manifests) == whole
    assert (tmp_path / "again" / "mixture" / "epoch-0002.jsonl").read_text() == first


def test_one_manifest_of_several_datasets_without_a_mixture(manifests, options):
    both = manifests / "both.jsonl"
    rows = [
        json.loads(line) for name in ("one", "two") for line in (manifests / f"{name}.jsonl").read_text().splitlines()
    ]
    both.write_text("".join(json.dumps({**row, "id": row["dataset"] + row["id"]}) + "\n" for row in rows))
    arguments = [*options, *mixture(manifests, "")[2:], "--train_manifest", str(both), "--comparison_within", "dataset"]
    assert mr_grpo.main([*arguments, "--num_train_epochs", "1"]) == 0
    assert len(seen(manifests)) == 8 and all(len(datasets) == 1 for _, datasets in seen(manifests))


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("manifests: [{manifest: one.jsonl, selector: herdin}]", [], "did you mean 'herding'"),
        ("manifests: [{manifest: gone.jsonl}]", [], "does not exist"),
        ("manifests: [{manifest: one.jsonl}]", ["--comparison_within", "content"], "Unknown comparison_within"),
        (
            "comparison_within: dataset\nmanifests: [{manifest: one.jsonl}, {manifest: two.jsonl, weight: 0.125}]",
            [],
            "takes 1 different images of '2 two: two', and a comparison set needs 2",
        ),
    ],
)
def test_mixtures_that_cannot_train(manifests, options, capsys, text, more, says):
    assert mr_grpo.main([*options, *mixture(manifests, text), *more]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and says in error
