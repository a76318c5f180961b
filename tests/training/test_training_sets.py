"""Rows become TRL's columns, lazily; sampled targets have the raters' spread."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mriqa.answers import load_format
from mriqa.images import ImageError
from mriqa.training.training_sets import ImageCache, answer_dataset, policy_dataset


def test_policy_columns(rows: list) -> None:
    answer_format = load_format("non_thinking")
    example = policy_dataset(rows, answer_format)[2]
    assert set(example) == {"prompt", "image", "mos", "std", "image_id", "dataset", "content"}
    assert example["prompt"] == answer_format.messages()
    assert example["image"].size == (64, 64) and example["image"].mode == "RGB"
    assert (example["mos"], example["std"], example["image_id"]) == (rows[2].mos, 0.5, "i2")


def test_images_are_opened_on_access_only(rows: list, tmp_path: Path) -> None:
    gone = dataclasses.replace(rows[0], image=tmp_path / "gone.png")
    dataset = policy_dataset([rows[1], gone], load_format("non_thinking"))
    assert dataset[0]["image_id"] == "i1"
    with pytest.raises((ImageError, FileNotFoundError), match="gone.png"):
        dataset[1]


def test_pixels_are_decoded_by_our_rules_after_a_selection_too(rows: list, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    deep = dataclasses.replace(rows[0], image=tmp_path / "deep.png")
    dataset = policy_dataset([*rows[:2], deep], load_format("non_thinking"))
    image = dataset.select([2])[0]["image"]
    assert image.mode == "RGB" and np.asarray(image)[0, :, 0].tolist() == [0, 128, 255]
    assert [picture.size for picture in dataset[1:3]["image"]] == [(64, 64), (3, 1)]


def test_cache_stays_within_its_pixels(tmp_path: Path) -> None:
    paths = []
    for index in range(4):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.new("RGB", (10, 10), (index, 0, 0)).save(paths[-1])
    cache = ImageCache(max_pixels=250)
    first = cache.load(paths[0])
    assert cache.load(paths[0]) is first
    cache.load(paths[1])
    cache.load(paths[2])  # 300 pixels: the first one goes
    assert cache.load(paths[0]) is not first
    assert cache.load(paths[3]).getpixel((0, 0)) == (3, 0, 0)


def test_answers_state_the_mos(rows: list) -> None:
    answer_format = load_format("non_thinking")
    for row, example in zip(rows, answer_dataset(rows, answer_format), strict=True):
        assert answer_format.parse(example["completion"][0]["content"]) == pytest.approx(row.mos, abs=0.005)


def test_sampled_answers_follow_the_raters(rows: list) -> None:
    torch.manual_seed(0)
    answer_format = load_format("non_thinking")
    dataset = answer_dataset(rows, answer_format, target="sampled")
    drawn = torch.tensor([answer_format.parse(dataset[2]["completion"][0]["content"]) for _ in range(400)])
    # MOS 3.4, std 0.5: clipping to 1..5 is out of reach of all but 7 in 10,000 draws.
    assert drawn.mean().item() == pytest.approx(3.4, abs=4 * 0.5 / 20)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.08)
    assert drawn.min() >= 1 and drawn.max() <= 5
