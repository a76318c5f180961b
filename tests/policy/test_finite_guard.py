"""A loss, a gradient or a weight that isn't finite stops training, names the images, and leaves the last checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_policy import make_trainer
from transformers import TrainerCallback

from mriqa.errors import SettingsError
from mriqa.images import ImageError
from mriqa.policy.finite_guard import NotFiniteError


def spoil(trainer: Any, image: Path) -> None:
    """Make the loss NaN wherever this image's pixels are, from the third step on."""
    pixels = trainer.processing_class.image_processor([Image.open(image)], return_tensors="pt")["pixel_values"]
    compute = trainer._compute_loss

    def compute_loss(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        seen = any(torch.equal(part, pixels) for part in inputs["pixel_values"].split(len(pixels)))
        return compute(model, inputs) * (math.nan if seen and trainer.state.global_step >= 2 else 1.0)

    trainer._compute_loss = compute_loss


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_a_broken_loss_names_its_image(tiny_model: Path, rows: list, tmp_path: Path, shared_prefix: bool) -> None:
    """Micro-batches of one completion each, shuffled: of the three images in the rollout, the message names the one."""
    options = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6, "max_steps": 4, "save_steps": 1}
    trainer = make_trainer(tiny_model, rows, tmp_path, shared_prefix=shared_prefix, **options)
    spoil(trainer, rows[3].image)
    with pytest.raises(NotFiniteError) as stopped:
        trainer.train()
    message = str(stopped.value)
    step = trainer.state.global_step + 1
    assert message.startswith(f"The loss became NaN at step {step} on image i3: training stopped")
    assert f"{tmp_path / f'checkpoint-{step - 1}'} is the last good checkpoint" in message
    assert "--resume_from_checkpoint auto" in message and "\n" not in message
    assert not (tmp_path / f"checkpoint-{step}").exists()
    saved = load_file(tmp_path / f"checkpoint-{step - 1}" / "model.safetensors")
    for name, weight in saved.items():
        assert torch.equal(weight, trainer.model.state_dict()[name]), name


def test_a_broken_gradient_stops_before_the_update(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_model, rows, tmp_path)
    weight = trainer.model.model.language_model.norm.weight
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NotFiniteError, match="The gradient became .* at step 1 on images i., i.: .*no checkpoint yet"):
        trainer.train()
    assert torch.equal(weight, before)


def test_broken_weights_are_not_saved(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_model, rows, tmp_path, max_steps=1, save_steps=1)

    class Overflow(TrainerCallback):
        def on_step_end(self, *_: Any, model: Any, **__: Any) -> None:
            model.model.language_model.embed_tokens.weight.data[0, 0] = math.inf

    trainer.add_callback(Overflow())
    with pytest.raises(NotFiniteError, match="The weights .*embed_tokens.* became NaN or infinite by step 1"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_broken_answers_name_their_images(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_model, rows, tmp_path)
    with torch.no_grad():
        trainer.model.model.language_model.norm.weight.fill_(math.nan)
    with pytest.raises(NotFiniteError, match="answers became NaN at step 1 on images i., i."):
        trainer.train()


def test_an_infinite_reward_is_named(tiny_model: Path, rows: list, tmp_path: Path) -> None:
    def boundless(completions: list[Any], **_: Any) -> list[float]:
        return [math.inf] + [0.0] * (len(completions) - 1)

    with pytest.raises(SettingsError, match="The reward boundless is infinite for 1 of 4 answers at step 1"):
        make_trainer(tiny_model, rows, tmp_path, rewards=boundless).train()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_vanished_image_is_named(tiny_model: Path, rows: list, tmp_path: Path, workers: int) -> None:
    copies = []
    for row in rows:
        copy = tmp_path / "images" / row.image.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(row.image.read_bytes())
        copies.append(type(row)(**{**vars(row), "image": copy}))
    trainer = make_trainer(tiny_model, copies, tmp_path / "run", dataloader_num_workers=workers)
    for copy in copies:
        copy.image.unlink()
    with pytest.raises(ImageError, match=r"^[^\n]*images/\d\.png[^\n]*$"):
        trainer.train()
