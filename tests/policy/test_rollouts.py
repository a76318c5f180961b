"""Whole rollouts against TRL's own: the same batch from the same seed, with every picture processed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mriqa.answers import load_format
from mriqa.errors import UserError
from mriqa.models import load_vlm
from mriqa.policy.prompts_once import distinct_conversations
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.training.config import ScoreGRPOConfig
from mriqa.training.training_sets import policy_dataset

FORMAT = load_format("non_thinking")
GROUP = 3
SIZES = [(64, 64), (96, 64), (64, 96), (96, 96)]


def make_trainer(model_path: Path, rows: list, folder: Path, mode: str = "non_thinking", **options: Any) -> Any:
    settings = {
        "per_device_train_batch_size": GROUP * len(SIZES),
        "num_generations": GROUP,
        "max_completion_length": 12,
        "gradient_checkpointing": False,
        "beta": 0.0,
        "temperature": 1.3,
        "eval_strategy": "no",
        "eval_on_start": False,
        "load_best_model_at_end": False,
        "disable_tqdm": True,
        **options,
    }
    model, processor = load_vlm(model_path, device="cpu")
    answer_format = load_format(mode)
    trainer: Any = ScoreGRPOTrainer(
        model=model,
        processing_class=processor,
        args=ScoreGRPOConfig(output_dir=str(folder), **settings),
        reward_funcs=[lambda completions, **_: [float(len(completion[0]["content"])) for completion in completions]],
        train_dataset=policy_dataset(rows, answer_format),
        answer_format=answer_format,
    )
    trainer.model.train()
    return trainer


def batch(trainer: Any) -> list[dict[str, Any]]:
    """Four images of different shapes, G rows each, as TRL's data loader hands them over."""
    examples = [trainer.train_dataset[index] for index in range(len(SIZES))]
    examples = [{**row, "image": row["image"].resize(size)} for row, size in zip(examples, SIZES, strict=True)]
    return [row for row in examples for _ in range(GROUP)]


def rollout(trainer: Any, seed: int = 0) -> dict[str, Any]:
    inputs = batch(trainer)
    torch.manual_seed(seed)
    return trainer._generate_and_score_completions(inputs)


def per_row(rollout: dict[str, Any]) -> dict[str, Any]:
    """Images once per row as in TRL's batch, from a rollout that holds them once per prompt; all have one image."""
    group = rollout["prompt_group"].tolist()
    patches = rollout["pixel_values"].split(rollout["image_grid_thw"].prod(-1).tolist())
    rows = {name: value for name, value in rollout.items() if name != "prompt_group"}
    rows["pixel_values"] = torch.cat([patches[prompt] for prompt in group])
    rows["image_grid_thw"] = rollout["image_grid_thw"][group]
    rows["num_images"] = [rollout["num_images"][prompt] for prompt in group]
    return rows


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == second[name].dtype and torch.equal(value, second[name]), name
        else:
            assert value == second[name], name


def test_a_rollout_is_trls_with_each_picture_processed_once(
    tiny_model: Path, rows: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = make_trainer(tiny_model, rows, tmp_path / "shared")
    stock = make_trainer(tiny_model, rows, tmp_path / "stock", shared_prefix=False)
    seen: dict[str, int] = {"shared": 0, "stock": 0}
    for name, trainer in (("shared", shared), ("stock", stock)):
        image_processor = trainer.processing_class.image_processor
        process = type(image_processor)._preprocess

        def counting(self: Any, images: Any, *args: Any, _name: str = name, _process: Any = process, **kw: Any) -> Any:
            seen[_name] += len(images)
            return _process(self, images, *args, **kw)

        monkeypatch.setattr(image_processor, "_preprocess", counting.__get__(image_processor))
    processor = shared.processing_class
    own, expected = rollout(shared), rollout(stock)
    assert own["image_grid_thw"].shape == (len(SIZES), 3)
    assert_same(per_row(own), expected)
    assert shared.processing_class is processor
    assert seen == {"shared": len(SIZES), "stock": 2 * GROUP * len(SIZES)}
    assert len(torch.unique(own["completion_ids"], dim=0)) > len(SIZES)
    assert_same(rollout(shared), own)
    assert not torch.equal(rollout(shared, seed=1)["completion_ids"], own["completion_ids"])


def test_images_come_per_row_where_completions_are_logged_with_them(
    tiny_model: Path, rows: list, tmp_path: Path
) -> None:
    logged: dict[str, Any] = {"log_completions": True, "log_multimodal": True}
    own = rollout(make_trainer(tiny_model, rows, tmp_path / "shared", **logged))
    assert_same(own, rollout(make_trainer(tiny_model, rows, tmp_path / "stock", shared_prefix=False, **logged)))


def test_settings_it_does_not_know_take_trls_way(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    unusual: dict[str, Any] = {"generation_kwargs": {"no_repeat_ngram_size": 1}}
    shared = make_trainer(tiny_model, rows, tmp_path / "shared", **unusual)
    with pytest.warns(UserWarning, match="no_repeat_ngram_size is not among the sampling settings"):
        own = rollout(shared)
    stock = make_trainer(tiny_model, rows, tmp_path / "stock", shared_prefix=False, **unusual)
    assert_same(per_row(own), rollout(stock))


def test_equal_conversations_are_found_by_content() -> None:
    def conversation(shade: int, text: str = "rate") -> list[dict[str, Any]]:
        image = Image.new("RGB", (4, 4), (shade, 0, 0))
        return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]

    first, other_image, other_text = conversation(1), conversation(2), conversation(1, "judge")
    distinct, prompt_of = distinct_conversations([first, conversation(1), other_image, other_text, first])
    assert [id(each) for each in distinct] == [id(first), id(other_image), id(other_text)]
    assert prompt_of == [0, 0, 1, 2, 0]


def test_constrained_answers_are_well_formed(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    """A random model, which by itself never writes an answer."""
    trainer = make_trainer(tiny_model, rows, tmp_path, constrain_answers=True, max_completion_length=20)
    tokenizer = trainer.processing_class.tokenizer
    result = rollout(trainer)
    scores = [FORMAT.parse(text) for text in tokenizer.batch_decode(result["completion_ids"], skip_special_tokens=True)]
    assert all(1 <= score <= 5 for score in scores) and len(set(scores)) > len(SIZES)
    last = result["completion_mask"].sum(1) - 1
    assert set(result["completion_ids"][torch.arange(len(last)), last].tolist()) == {tokenizer.eos_token_id}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "thinking"}, "think first"),
        ({"shared_prefix": False}, "shared_prefix is off"),
        ({"max_completion_length": 5}, "raise --max_completion_length from 5"),
        ({"generation_kwargs": {"num_beams": 2}}, "num_beams"),
    ],
)
def test_constraints_that_could_not_be_kept_are_refused(
    tiny_model: Path, rows: list, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        make_trainer(tiny_model, rows, tmp_path, constrain_answers=True, **options)


class FakeEngine:
    """In the place of TRL's vLLM backend: keeps what it is asked, and answers every prompt with one token."""

    def generate(self, prompts: Any, images: Any, num_generations: int, profiler: Any) -> tuple:
        self.prompts, self.images = prompts, images
        return prompts, [[5]] * len(prompts), [[[-1.0]]] * len(prompts), None

    def sync_weights(self) -> None:
        self.synced = True


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_vllm_gets_one_token_per_image_in_colocate_mode(
    tiny_model: Path, rows: list, tmp_path: Path, mode: str
) -> None:
    trainer = make_trainer(tiny_model, rows, tmp_path)
    expanded = rollout(trainer)
    engine = trainer.vllm_generation = FakeEngine()
    trainer.use_vllm, trainer.vllm_mode, trainer._last_loaded_step = True, mode, -1
    own = rollout(trainer)

    image = trainer.processing_class.image_token_id
    counts = [prompt.count(image) for prompt in engine.prompts]
    expected = (expanded["prompt_ids"] == image).sum(1).tolist()
    assert min(expected) > 1 and counts == ([1] * len(counts) if mode == "colocate" else expected)
    assert [len(pictures) for pictures in engine.images] == [1] * len(counts) and engine.synced
    for name in ("prompt_ids", "pixel_values", "image_grid_thw"):  # the update sees what it always sees
        assert torch.equal(own[name], expanded[name])
