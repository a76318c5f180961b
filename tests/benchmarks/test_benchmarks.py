"""Every benchmark runs by its quick way and writes the results that others read; no test looks at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KEYS = {"name", "ours", "baseline", "baseline_name", "ratio", "unit", "settings"}


def quick(repository: Path, script: str, tmp_path: Path, *more: str) -> dict[str, dict[str, Any]]:
    """The results of a quick run, by name."""
    file = tmp_path / "results.json"
    command = [sys.executable, str(repository / "benchmarks" / script), "--quick", "--json", str(file), *more]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    results = json.loads(file.read_text())
    assert all(set(result) == KEYS and result["settings"] for result in results)
    assert all(result["ratio"] == pytest.approx(result["baseline"] / result["ours"]) for result in results)
    assert all(result["name"] in run.stdout for result in results)
    return {result["name"]: result for result in results}


def test_rewards_agree_with_the_loop_in_bounded_memory(repository: Path, tmp_path: Path) -> None:
    results = quick(repository, "rewards.py", tmp_path)
    assert set(results) == {"rewards/margin, unit", "rewards/margin, sigma", "rewards/ranking"}
    for result in results.values():
        assert result["settings"]["largest_difference"] < 1e-9
        assert result["settings"]["peak_mib"] < result["settings"]["all_pairs_at_once_mib"]


def test_a_whole_step_is_measured_on_equal_terms(repository: Path, tmp_path: Path) -> None:
    results = quick(repository, "grpo_step.py", tmp_path)
    prompt = next(iter(results.values()))["settings"]["P"]
    assert prompt >= 300
    for group in (6, 16):
        point = f"G={group}, P={prompt}"
        step, memory = results[f"grpo_step/{point}"], results[f"activation_memory/{point}"]
        assert (step["settings"]["G"], step["settings"]["C"]) == (group, 10)
        assert step["baseline_name"] == memory["baseline_name"] == "TRL GRPOTrainer"
        assert memory["ratio"] > 2
        agreement = results[f"gradient_difference/{point}"]
        assert agreement["ours"] < 1e-4
        assert agreement["settings"]["loss"] == pytest.approx(agreement["settings"]["baseline_loss"], rel=1e-4)


def test_scoring_in_batches_stays_within_the_memory_of_a_few_rows(repository: Path, tmp_path: Path) -> None:
    results = quick(repository, "scoring.py", tmp_path)
    assert {"scoring/expected", "scoring/greedy", "memory/batch runner"} <= set(results)
    assert results["memory/batch runner"]["ratio"] > 0.9


def test_every_start_is_measured_beside_the_imports(repository: Path, tmp_path: Path) -> None:
    results = quick(repository, "cold_start.py", tmp_path)
    assert set(results) == {f"cold_start/{name}" for name in ("score", "serve", "demo")}
    assert all(result["settings"]["clock_s"] > 0 for result in results.values())


def test_a_model_too_large_for_the_machine_is_refused(repository: Path, tmp_path: Path) -> None:
    script = repository / "benchmarks" / "grpo_step.py"
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": ""}
    run = subprocess.run(
        [sys.executable, str(script), "--size", "2b"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert run.returncode == 2 and "needs an accelerator" in run.stderr


def test_selection_agrees_with_the_plain_loop_and_holds_no_distance_matrix(repository: Path, tmp_path: Path) -> None:
    results = quick(repository, "selection.py", tmp_path)
    for size in ("300 x 128", "4000 x 512"):
        assert results[f"presta/{size}"]["settings"]["same_removals"]
    for name in ("k_center", "herding"):
        assert results[f"memory of {name}/3000 x 64"]["ratio"] > 5
    assert {"q_diverse/1000 x 64", "q_diverse/2000 x 64"} < set(results)


def test_graphs_as_edges_agree_with_matrices_in_less_memory(repository: Path, tmp_path: Path) -> None:
    results = quick(repository, "shamisa_step.py", tmp_path)
    assert results["shamisa/memory of graphs and losses, N=1008"]["ratio"] > 5
    parts = results["shamisa/graphs and losses"]["settings"]["milliseconds"]
    assert set(parts) == {"distorting", "encoder", "graphs", "losses"} and all(span > 0 for span in parts.values())
    assert "shamisa/distorting" in results


def test_distortions_agree_with_those_one_by_one_and_elsewhere(repository: Path, tmp_path: Path) -> None:
    chosen = ["lens_blur", "jpeg", "white_noise", "compositions"]
    results = quick(repository, "distortions.py", tmp_path, "--only", *chosen)
    for name in chosen:
        for threads in (1, 2):
            assert results[f"distortions/{name}/{threads} threads"]["settings"]["mean_difference"] < 1e-4
    for name in ("lens_blur/SciPy", "jpeg/Pillow"):
        assert results[f"distortions/{name}"]["settings"]["mean_difference"] < 1e-4
    settings = results["distortions/white_noise/scikit-image"]["settings"]
    assert settings["images_per_second"] > 0 and "mean_difference" not in settings  # noise is drawn anew
