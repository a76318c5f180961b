"""Every fault that is planted in a run is named by the pre-flight, and a healthy run gets no warning."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mr_grpo
import pytest
import torch
from typer.testing import CliRunner

from mriqa.answers import load_format
from mriqa.cli import app
from mriqa.errors import SettingsError
from mriqa.models import load_vlm
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.training.config import ScoreGRPOConfig
from mriqa.training.policy_options import MRGRPOArguments, load_rewards
from mriqa.training.preflight import memory_room
from mriqa.training.preflight.check_table import BEFORE_LOADING, ON_THE_TRAINER, Check
from mriqa.training.preflight.findings import Finding, problems_of
from mriqa.training.preflight.planned_run import PlannedRun
from mriqa.training.preflight.preflight_run import Preflight, look_at
from mriqa.training.training_sets import policy_dataset

FORMAT = load_format("non_thinking")
CHECKS = {check.name: check for check in (*BEFORE_LOADING, *ON_THE_TRAINER)}


@pytest.fixture
def planned(tiny_model: Path, rows: list, tmp_path: Path) -> PlannedRun:
    """A healthy run on the tiny Qwen3-VL."""
    arguments = MRGRPOArguments(model=str(tiny_model))
    config = ScoreGRPOConfig(
        output_dir=str(tmp_path / "run"), per_device_train_batch_size=4, num_generations=2, max_completion_length=4,
        eval_strategy="no", report_to="none",
    )  # fmt: skip
    return PlannedRun(arguments, config, rows, FORMAT, "sampled", load_rewards(["margin"], {}, FORMAT))


def with_trainer(run: PlannedRun, cls: type = ScoreGRPOTrainer) -> PlannedRun:
    model, processor = load_vlm(run.arguments.model, device="cpu")
    run.trainer = cls(
        model=model,
        processing_class=processor,
        args=run.config,
        train_dataset=policy_dataset(run.rows, FORMAT),
        reward_funcs=list(run.rewards),
        answer_format=FORMAT,
    )
    return run


def find(run: PlannedRun, name: str) -> Finding:
    return look_at(run, CHECKS[name])


def assert_named(finding: Finding, *words: str) -> None:
    assert finding.state == "problem"
    assert all(word in finding.sentence for word in words), finding.sentence
    assert finding.sentence.count(". ") == 0 and finding.sentence.endswith(".")


def test_a_healthy_run_gets_no_warning_and_keeps_its_random_state(
    planned: PlannedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    with_trainer(planned)
    preflight = Preflight(planned)
    mode = planned.trainer.model.training
    state, weights = torch.get_rng_state(), [weight.clone() for weight in planned.trainer.model.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preflight.before_loading()
        preflight.before_training(planned.trainer)
    assert {finding.state for finding in preflight.findings} == {"passed"} and len(preflight.findings) == len(CHECKS)
    output = capsys.readouterr()
    assert output.out.startswith("Pre-flight: 10 checks") and "problem" not in output.err
    assert torch.equal(state, torch.get_rng_state()) and planned.trainer.model.training is mode
    assert all(map(torch.equal, weights, planned.trainer.model.parameters()))


class Spoiling:
    """A processor that spoils what it makes of prompts."""

    def __init__(self, processor: Any, spoil: Callable[[Any], None]) -> None:
        self._processor, self._spoil = processor, spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> Any:
        batch = self._processor.apply_chat_template(*args, **kwargs)
        self._spoil(batch)
        return batch


def test_images_that_padding_corrupts(planned: PlannedRun) -> None:
    """TRL #5785: the types of tokens, padded on the right where the tokens are padded on the left."""
    run = with_trainer(planned)

    def pad_on_the_other_side(batch: Any) -> None:
        for row, mask in zip(batch["mm_token_type_ids"], batch["attention_mask"], strict=True):
            row.copy_(row.roll(-int((mask == 0).sum())))

    run.trainer.processor = Spoiling(run.trainer.processor, pad_on_the_other_side)
    assert len({row["image"].size for row in run.samples}) > 1
    assert_named(find(run, "image tokens"), "mm_token_type_ids", "#5785")
    assert find(run, "padding").state == "problem"


def test_pixels_that_padding_corrupts(planned: PlannedRun) -> None:
    """Counts are right and only the pictures are wrong: those of a batch are all the first one's shade."""
    run = with_trainer(planned)

    def blacken(batch: Any) -> None:
        if (batch["attention_mask"] == 0).any():
            batch["pixel_values"][:] = 0

    run.trainer.processor = Spoiling(run.trainer.processor, blacken)
    assert find(run, "image tokens").state == "passed"
    assert_named(find(run, "padding"), "padded batch", "#5785")


def test_image_tokens_that_are_expanded_again(planned: PlannedRun) -> None:
    """TRL #6294."""

    class ExpandsTwice(ScoreGRPOTrainer):
        def _tokenize_prompts(self, prompts: list[Any]) -> Any:
            ids, images, fields = super()._tokenize_prompts(prompts)
            token = self.processor.image_token_id
            return [[each for id in row for each in [id] * (1 + (id == token))] for row in ids], images, fields

    assert_named(find(with_trainer(planned, ExpandsTwice), "image tokens"), "rollout", "8, 12", "#6294")


class Engine(ScoreGRPOTrainer):
    """Samples as vLLM does, returning its own log-probabilities, by a model of its own."""

    noise = 0.0

    def _generate_single_turn(self, prompt_ids: Any, images: Any, fields: Any, *_: Any, **__: Any) -> Any:
        model, _ = load_vlm(self.model.config._name_or_path, device="cpu")
        generator = torch.Generator().manual_seed(0)
        for weight in model.parameters():
            weight.data += self.noise * torch.randn(weight.shape, generator=generator)
        once = self.processing_class
        rows = torch.tensor(once.prompt_of_R)
        inputs = {name: once.prompts[name][rows] for name in ("input_ids", "attention_mask")}
        inputs |= once.tokens_of_rows() | once.tensors_of_rows()
        out = model.generate(
            **inputs, do_sample=True, top_k=0, temperature=self.temperature, max_new_tokens=4, output_scores=True,
            return_dict_in_generate=True, eos_token_id=None,
        )  # fmt: skip
        completions = out.sequences[:, inputs["input_ids"].shape[1] :]
        logps = torch.stack(out.scores, 1).log_softmax(-1).gather(-1, completions[..., None])[..., 0]
        return completions.tolist(), logps.tolist()


class StaleEngine(Engine):
    noise = 0.05


@pytest.mark.parametrize(("cls", "state"), [(Engine, "passed"), (StaleEngine, "problem")])
def test_an_engine_with_other_weights(planned: PlannedRun, cls: type, state: str) -> None:
    """TRL #6401 and weights out of sync, with a stand-in for vLLM."""
    run = with_trainer(planned, cls)
    run.trainer.use_vllm = True
    finding = find(run, "rollout")
    assert finding.state == state, finding.sentence
    if state == "problem":
        assert_named(finding, "vLLM", "#6401", "other weights")


def test_a_rollout_that_reads_other_weights_than_the_update(planned: PlannedRun) -> None:
    class Other(ScoreGRPOTrainer):
        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            logps, entropies, loss = super()._get_per_token_logps_and_entropies(*args, **kwargs)
            return logps + 0.01, entropies, loss

    run = with_trainer(planned, Other)
    assert_named(find(run, "rollout"), "The rollout", "differ by 0.01")


def test_a_shared_prefix_that_is_wrong(planned: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from mriqa.shared_prefix import families

    right = families.Family.positions
    monkeypatch.setattr(families.Family, "positions", lambda *args: right(*args) // 2)
    assert_named(find(with_trainer(planned), "shared prefix"), "--shared_prefix false")


def test_digits_that_are_not_single_tokens(planned: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    planned.processor.tokenizer.add_tokens(["3.5", "12"])
    assert_named(find(planned, "digits"), "digits", "--val_readout greedy")
    planned.arguments = dataclasses.replace(planned.arguments, val_readout="greedy")
    assert find(planned, "digits").state == "left out"


def constant(completions: list, **_: Any) -> list[float]:
    return [0.5] * len(completions)


def form_only(completions: list, answers: list, **_: Any) -> list[float]:
    return [float(answer.score == answer.score) for answer in answers]


def nothing(completions: list, **_: Any) -> list[None]:
    return [None] * len(completions)


def broken(completions: list, **_: Any) -> list[float]:
    raise KeyError("quality")


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ([constant], ("constant", "advantage is zero")),
        ([form_only], ("No reward depends on the score",)),
        ([nothing], ("nothing gives no answer a number",)),
        ([broken], ("KeyError", "quality")),
    ],
)
def test_rewards_that_do_not_move(planned: PlannedRun, rewards: list, words: tuple[str, ...]) -> None:
    planned.rewards = rewards
    assert_named(find(planned, "rewards"), *words)


def test_a_reward_that_pays_for_errors(planned: PlannedRun) -> None:
    planned.config.reward_weights = [-1.0]
    assert_named(find(planned, "rewards"), "reverse", "weights")


def test_a_manifest_on_the_wrong_scale(planned: PlannedRun) -> None:
    planned.rows = [dataclasses.replace(row, mos=1 + 4 * row.mos / 100) for row in planned.rows]  # 1..5 as 0..100
    assert_named(find(planned, "scale"), "1.05 and 1.19", "--scale")
    planned.rows = [dataclasses.replace(row, mos=1.0 + index, std=11.0) for index, row in enumerate(planned.rows[:4])]
    assert_named(find(planned, "scale"), "standard deviation", "11.00")
    planned.rows = [dataclasses.replace(row, dataset="spaq", std=None) for row in planned.rows]
    planned.arguments = dataclasses.replace(planned.arguments, scale="tid2013")
    assert_named(find(planned, "scale"), "tid2013 (0..9)", "--scale spaq")


def test_an_output_folder_that_cannot_be_written(planned: PlannedRun, tmp_path: Path) -> None:
    planned.config.output_dir = "/proc/nowhere"
    assert_named(find(planned, "saving"), "/proc/nowhere", "--output_dir")


def test_a_disk_that_is_too_small(planned: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert_named(find(planned, "saving"), "--save_total_limit")


def test_too_little_memory(planned: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_room, "room_on_cpu", lambda: 1 << 20)
    assert_named(find(planned, "memory"), "weights", "1 MiB", "gradient_checkpointing")
    with pytest.raises(SettingsError, match=r"\(memory\) The run needs about"):
        Preflight(planned).before_loading()
    planned.arguments = dataclasses.replace(planned.arguments, preflight="warn")
    Preflight(planned).before_loading()
    planned.arguments = dataclasses.replace(planned.arguments, preflight="off")
    preflight = Preflight(planned)
    preflight.before_loading()
    assert preflight.findings == []


def test_what_fails_is_a_problem_and_not_hidden(planned: PlannedRun) -> None:
    def fails(_: PlannedRun) -> Finding:
        raise RuntimeError("shape mismatch:\n[3, 413]")

    assert_named(look_at(planned, Check("planted", fails)), "RuntimeError: shape mismatch: [3, 413]")


def test_the_recipe_refuses_and_the_command_says_so(
    tiny_model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    squeezed = manifest.parent / "squeezed.jsonl"
    squeezed.write_text("".join(json.dumps({"image": f"{i}.png", "mos": 3 + i / 50}) + "\n" for i in range(6)))
    options = [
        "--model", str(tiny_model), "--train_manifest", str(squeezed),
        "--output_dir", str(tmp_path / "run"), "--per_device_train_batch_size", "4", "--num_generations", "2",
        "--max_completion_length", "4", "--max_steps", "1", "--gradient_checkpointing", "false",
    ]  # fmt: skip
    assert mr_grpo.main(options) == 2
    error = capsys.readouterr().err
    assert "(scale)" in error.splitlines()[-1] and "--preflight" in error and not (tmp_path / "run").exists()

    checked = CliRunner().invoke(app, ["check", *options])
    assert checked.exit_code == 1 and "scale" in checked.output and "1 of 10 checks" in checked.output
    good = [*options, "--train_manifest", str(manifest)]
    checked = CliRunner().invoke(app, ["check", *good])
    assert checked.exit_code == 0 and "10 checks, no problem." in checked.output
    assert CliRunner().invoke(app, ["check", *good, "--model", "/nowhere"]).exit_code == 2
    assert mr_grpo.main(good) == 0
    assert "Pre-flight: 10 checks" in capsys.readouterr().out


def test_problems_are_counted() -> None:
    findings = [Finding("passed", "a"), Finding("problem", "b"), Finding("left out", "c")]
    assert problems_of(findings) == findings[1:2]
