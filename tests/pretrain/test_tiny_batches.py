"""What is learned from follows from seed and number alone, and pictures of all kinds, or broken ones, do no harm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mriqa.manifest import ManifestError
from mriqa.pretrain.compositions import CompositionSettings
from mriqa.pretrain.graphs.layout import PretrainError
from mriqa.pretrain.tiny_batches import TinyBatches, TinyBatchSettings, collate, find_pictures
from mriqa.pretrain.trajectories import distorted_images

SMALL = TinyBatchSettings(references=3, crop=32, compositions=CompositionSettings(groups=2, levels=2), seed=5)


def grey(folder: Path, count: int, size=(48, 40)) -> list[Path]:
    """Pictures of one grey each, 10 levels apart, so that a crop tells which it is from."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for place in range(count):
        paths.append(folder / f"{place:02d}.png")
        Image.new("RGB", size, (10 * place,) * 3).save(paths[-1])
    return paths


def shown(tiny_batch) -> list[int]:
    return [round(float(reference.mean()) * 255 / 10) for reference in tiny_batch.references]


def test_every_picture_is_first_once_and_no_other_twice(tmp_path):
    own = TinyBatches(grey(tmp_path, 7), replace(SMALL, distorted=False))
    for epoch in range(2):
        drawn = [shown(own[7 * epoch + number]) for number in range(7)]
        assert sorted(first for first, *_ in drawn) == list(range(7))
        assert all(len(set(places)) == 3 for places in drawn)
    orders = [[shown(own[7 * epoch + number])[0] for number in range(7)] for epoch in range(2)]
    assert orders[0] != orders[1]


def test_a_number_is_always_the_same_tiny_batch(tmp_path):
    pool = grey(tmp_path, 5)
    one, other = TinyBatches(pool, SMALL), TinyBatches(pool, SMALL)
    late = other[8]
    for number in (3, 8):
        early = one[number]
    assert torch.equal(early.references, late.references) and torch.equal(early.distorted, late.distorted)
    assert torch.equal(early.compositions.severity_CLM, late.compositions.severity_CLM)
    assert not torch.equal(one[3].compositions.severity_CLM, late.compositions.severity_CLM)
    other_seed = TinyBatches(pool, replace(SMALL, seed=6))[8]
    assert not torch.equal(other_seed.compositions.severity_CLM, late.compositions.severity_CLM)


def test_images_are_in_the_order_of_the_layout_wherever_they_are_made(tmp_path):
    pool = grey(tmp_path, 5)
    for half_scale in (False, True):
        settings = replace(SMALL, half_scale=half_scale)
        layout = settings.layout(2)
        made = collate([TinyBatches(pool, settings)[number] for number in (0, 1)])
        late = collate([TinyBatches(pool, replace(settings, distorted=False))[number] for number in (0, 1)])
        images = made.images()
        assert late.distorted is None and torch.equal(images, late.images())
        assert images.shape == (layout.nodes, 3, 32, 32) and made.compositions.varying_severity.shape == (2, 2, 2)
        references, distorted = layout.reference_nodes(), layout.distorted_nodes()
        for i in range(2):
            own = made.compositions.of(i)
            assert torch.equal(images[references[i]], made.references[i])
            assert torch.equal(images[distorted[i]], distorted_images(made.references[i], own))


def test_workers_change_nothing(tmp_path):
    own = TinyBatches(grey(tmp_path, 5), SMALL)
    numbers = [[0, 1], [2, 3], [4, 5]]
    plain = [collate([own[number] for number in batch]).images() for batch in numbers]
    loader = DataLoader(own, batch_sampler=numbers, num_workers=2, collate_fn=collate)
    for wanted, found in zip(plain, loader, strict=True):
        assert torch.equal(wanted, found.images())


def test_crops_reach_every_place_of_a_picture(tmp_path):
    ramp = np.repeat(np.arange(40, dtype=np.uint8)[None, :, None], 32, axis=0).repeat(3, axis=2)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    own = TinyBatches([tmp_path / "ramp.png"], replace(SMALL, references=1, distorted=False))
    starts = {round(float(own[number].references[0, 0, 0, 0]) * 255) for number in range(120)}
    assert starts == set(range(9))  # 40 - 32 = 8, the last place too


def test_small_grey_and_transparent_pictures(tmp_path):
    Image.new("L", (20, 100), 90).save(tmp_path / "grey.png")
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(tmp_path / "dot.png")
    own = TinyBatches(find_pictures([tmp_path]), replace(SMALL, half_scale=True))
    tiny_batch = own[0]
    assert tiny_batch.references.shape == (6, 3, 32, 32) and tiny_batch.distorted.isfinite().all()
    assert sorted({round(float(own.mean()) * 255) for own in tiny_batch.references}) == [
        9,
        90,
        255,
    ]  # enlarged, no black


def test_broken_files_are_left_out_and_named(tmp_path):
    paths = grey(tmp_path, 6)
    for place in (1, 2):
        paths[place].write_bytes(paths[place].read_bytes()[:60])
    (tmp_path / "empty.png").touch()
    own = TinyBatches(find_pictures([tmp_path]), SMALL)
    skipped = {reason for number in range(7) for reason in own[number].skipped}
    assert len(skipped) == 3
    assert all(any(name in reason for reason in skipped) for name in ("01.png", "02.png", "empty.png"))
    assert all(set(shown(own[number])) <= {0, 3, 4, 5} for number in range(7))
    again = TinyBatches(find_pictures([tmp_path]), SMALL)
    assert torch.equal(own[4].references, again[4].references)


def test_a_pool_without_a_readable_picture_is_refused(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(PretrainError, match=r"None of the 1 pictures can be read.*broken\.png"):
        TinyBatches(find_pictures([tmp_path]), SMALL)[0]


def test_a_pool_smaller_than_a_tiny_batch_repeats(tmp_path):
    own = TinyBatches(grey(tmp_path, 2), SMALL)
    assert sorted(set(shown(own[0]))) == [0, 1] and len(shown(own[0])) == 3
    single = TinyBatches(grey(tmp_path / "single", 1), SMALL)
    assert shown(single[9]) == [0, 0, 0]


def test_sources_of_pictures(tmp_path):
    paths = grey(tmp_path / "folder" / "deep", 3)
    rows = [{"image": str(paths[0].relative_to(tmp_path))}, {"image_path": str(paths[2])}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert find_pictures([tmp_path / "folder"]) == paths
    assert [path.resolve() for path in find_pictures([tmp_path / "rows.jsonl"])] == [paths[0], paths[2]]
    assert find_pictures([str(paths[1]), tmp_path / "folder"]) == [paths[1], paths[0], paths[2]]
    assert len(find_pictures(["wheels"])) >= 10
    (tmp_path / "none.jsonl").write_text('{"score": 3}\n')
    for source, sentence in ((tmp_path / "absent", "no folder"), (tmp_path / "none.jsonl", "line 1 names no image")):
        with pytest.raises(PretrainError, match=sentence):
            find_pictures([source])
    with pytest.raises(PretrainError, match="--images"):
        find_pictures([])
    with pytest.raises(ManifestError):
        find_pictures([tmp_path / "absent.jsonl"])


def test_sizes_that_cannot_be_are_refused(tmp_path):
    for changed, sentence in (({"references": 0}, "references"), ({"crop": 8}, "32 pixels")):
        with pytest.raises(PretrainError, match=sentence):
            TinyBatches(grey(tmp_path, 1), replace(SMALL, **changed))
