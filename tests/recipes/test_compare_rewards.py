"""The comparison of rewards: real runs on a random Qwen3-VL, and that an interrupted comparison goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import compare_rewards
import pytest
import yaml

from mriqa.embedded.packaged import default_model_folder
from mriqa.manifest import read_manifest
from mriqa.scoring import Scorer


def test_runs_every_reward_from_one_start_and_resumes(tiny_model: Path, manifest: Path, tmp_path: Path) -> None:
    config = tmp_path / "quick.yaml"
    config.write_text(
        f"model: {tiny_model}\ntrain_manifest: {manifest}\nnum_generations: 2\nper_device_train_batch_size: 8\n"
        "max_completion_length: 4\nmax_steps: 1\neval_strategy: 'no'\nsave_strategy: 'no'\n"
        "load_best_model_at_end: false\ngradient_checkpointing: false\npreflight: off\n"
    )
    output = tmp_path / "out"
    options = ["--config", str(config), "--test_manifest", str(manifest), "--output", str(output), "--seeds", "0"]
    rewards = ["--rewards", "margin (unit)", "ranking", "ranking exact + conord"]
    assert compare_rewards.main([*options, *rewards, "--", "--learning_rate", "1e-4"]) == 0

    results = json.loads((output / "results.json").read_text())
    assert set(results) == {"warm start", "margin (unit) / 0", "ranking / 0", "ranking exact + conord / 0"}
    assert -1 <= results["ranking exact + conord / 0"]["head_srcc"] <= 1 and "head_srcc" not in results["ranking / 0"]
    assert all(-1 <= measures[key] <= 1 for measures in results.values() for key in ("srcc", "plcc"))
    assert all(measures["seconds"] > 0 for name, measures in results.items() if name != "warm start")
    resolved = (output / "runs" / "ranking-0" / "resolved_config.yaml").read_text()
    assert "learning_rate: 0.0001" in resolved and "- ranking" in resolved and "estimator: sampled" in resolved
    assert "aux: none" in resolved
    resolved = (output / "runs" / "ranking_exact_conord-0" / "resolved_config.yaml").read_text()
    assert "estimator: exact" in resolved and "aux: conord" in resolved
    assert (output / "comparison.png").stat().st_size > 10_000
    assert "ranking exact + conord" in (table := (output / "results.md").read_text()) and "SRCC head" in table

    log = output / "runs" / "ranking-0.log"
    before = log.stat().st_mtime_ns
    assert compare_rewards.main([*options, *rewards]) == 0  # nothing is missing, so nothing runs
    assert log.stat().st_mtime_ns == before


def test_the_test_manifest_has_the_scale_and_the_root_of_the_recipe(
    tiny_model: Path, manifest: Path, tmp_path: Path, runs_here: None
) -> None:
    rows = read_manifest(manifest)
    lines = "".join(f"{row.image},{25 * (row.mos - 1)}\n" for row in rows)
    (own := tmp_path / "own.csv").write_text("image,mos\n" + lines)
    config = tmp_path / "quick.yaml"
    config.write_text(
        f"model: {tiny_model}\ntrain_manifest: {own}\nscale: '0:100'\nnum_generations: 2\n"
        "per_device_train_batch_size: 8\nmax_completion_length: 4\nmax_steps: 1\neval_strategy: 'no'\n"
        "save_strategy: 'no'\nload_best_model_at_end: false\nuse_cpu: true\npreflight: off\n"
    )
    options = ["--config", str(config), "--test_manifest", str(own), "--output", str(tmp_path / "out"), "--seeds", "0"]
    options += ["--rewards", "ranking", "--", "--image_root", str(rows[0].image.parent)]
    assert compare_rewards.main(options) == 0
    assert "ranking / 0" in json.loads((tmp_path / "out" / "results.json").read_text())
    assert "One seed each" in (tmp_path / "out" / "results.md").read_text()


def test_the_packaged_model_is_a_warm_start_too(manifest: Path) -> None:
    (config := manifest.with_name("packaged.yaml")).write_text(f"train_manifest: {manifest}\nnum_generations: 2\n")
    options = ["--config", str(config), "--test_manifest", str(manifest), "--", "--model", "default"]
    rows, start = compare_rewards._same_start(compare_rewards.parse_arguments(options))
    assert len(rows) == 6 and start == default_model_folder()


def test_test_pictures_are_resized_where_their_size_may_tell_the_score(
    tiny_model: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--config", "my.yaml", "--test_manifest", str(manifest), "--resize", "48"]
    arguments = compare_rewards.parse_arguments(options)
    seen = []

    def score(scorer: Scorer, images: list, progress: bool) -> list:
        seen.append(scorer.views.size)
        return [SimpleNamespace(score=number) for number, _ in enumerate(images)]

    monkeypatch.setattr(Scorer, "score", score)
    assert -1 <= compare_rewards.evaluate(tiny_model, read_manifest(manifest), arguments)["srcc"] <= 1
    assert seen == [48]
    for wrong in (["--resize", "48"], ["--test_manifest", str(manifest), "--resize", "0"]):
        with pytest.raises(SystemExit):
            compare_rewards.parse_arguments(["--config", "my.yaml", *wrong])


def test_a_failed_run_names_its_log(tmp_path: Path, manifest: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(f"model: nowhere/at-all\ntrain_manifest: {manifest}\nnum_generations: 2\n")
    options = ["--config", str(config), "--test_manifest", str(manifest), "--output", str(tmp_path / "out")]
    with pytest.raises(RuntimeError, match=r"seed 0 failed; its output is in .*margin_unit-0\.log"):
        compare_rewards.main([*options, "--seeds", "0", "--rewards", "margin (unit)"])


def test_sweeps_train_each_value_with_as_many_pictures(
    tiny_model: Path, manifest: Path, tmp_path: Path, runs_here: None
) -> None:
    config = tmp_path / "quick.yaml"
    config.write_text(
        f"model: {tiny_model}\ntrain_manifest: {manifest}\nnum_generations: 2\nper_device_train_batch_size: 8\n"
        "max_completion_length: 4\nmax_steps: 1\neval_strategy: 'no'\nsave_strategy: 'no'\n"
        "load_best_model_at_end: false\ngradient_checkpointing: false\nuse_cpu: true\n"
    )
    options = ["--config", str(config), "--test_manifest", str(manifest), "--seeds", "0", "--rewards", "margin (unit)"]
    sweeps = ["--sweep", "prompt_mode=non_thinking,thinking", "--sweep", "num_generations=2,3"]
    one = tmp_path / "one"
    assert compare_rewards.main([*options, *sweeps, "--output", str(one)]) == 0
    for mode in ("non_thinking", "thinking"):
        for answers in (2, 3):
            run = f"margin_unit_prompt_mode_{mode}_num_generations_{answers}-0"
            resolved = yaml.safe_load((one / "runs" / run / "resolved_config.yaml").read_text())
            assert (resolved["prompt_mode"], resolved["num_generations"]) == (mode, answers)
            assert resolved["per_device_train_batch_size"] == 4 * answers  # four pictures as before
    table = (one / "results.md").read_text()
    assert "margin (unit), prompt_mode thinking, num_generations 3" in table


def test_comparison_sets_are_swept_over_processes_which_share_the_batch(
    tiny_model: Path, manifest: Path, tmp_path: Path
) -> None:
    config = tmp_path / "quick.yaml"
    config.write_text(
        f"model: {tiny_model}\ntrain_manifest: {manifest}\nnum_generations: 2\nper_device_train_batch_size: 8\n"
        "max_completion_length: 4\nmax_steps: 1\neval_strategy: 'no'\nsave_strategy: 'no'\n"
        "load_best_model_at_end: false\ngradient_checkpointing: false\nuse_cpu: true\n"
    )
    options = ["--config", str(config), "--test_manifest", str(manifest), "--seeds", "0", "--rewards", "margin (unit)"]
    options += ["--sweep", "comparison=local,global", "--output", str(tmp_path / "two")]
    with pytest.raises(SystemExit):
        compare_rewards.parse_arguments(options)
    options[options.index("comparison=local,global")] = "comparison=local"  # one run is enough to see that it starts
    assert compare_rewards.main([*options, "--processes", "2"]) == 0
    run = tmp_path / "two" / "runs" / "margin_unit_comparison_local-0" / "resolved_config.yaml"
    resolved = yaml.safe_load(run.read_text())
    assert (resolved["comparison"], resolved["per_device_train_batch_size"]) == ("local", 4)
