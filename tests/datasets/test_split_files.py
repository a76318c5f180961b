"""Published splits from a user's file: by name, by reference, by number of row, without padding."""

from __future__ import annotations

import json

import numpy as np
import pytest
from official_trees import kadid10k, live

from mriqa.datasets.data_set import DataSetError
from mriqa.datasets.splits import random_split
from mriqa.datasets.to_manifest import prepare


@pytest.fixture
def kadid(tmp_path):
    """KADID-10k in small: 3 references × 6 pictures, in this order."""
    root = tmp_path / "kadid10k"
    kadid10k(root)

    def run(**options):
        return prepare("kadid10k", root, allow_partial=True, check_images=False, **options)

    return run


def names(prepared):
    return [entry.name for entry in prepared.entries]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.txt", "I01_01_01.png\n\nkadid/images/i03_25_05.PNG\n"),
        ("a.csv", "I01_01_01\nI03_25_05\n"),
        ("a.csv", "image_name,mos\nI01_01_01.png,3\nI03_25_05.png,2\n"),
        ("a.json", '["I01_01_01.png", "images/I03_25_05.png"]'),
        ("a.jsonl", '{"image": ["x/I01_01_01.png"]}\n{"image": "x/I03_25_05.png"}\n'),
        ("a.json", "[0, 17, -1, -1]"),
    ],
)
def test_lists_of_names_of_every_kind(kadid, tmp_path, file, text):
    (tmp_path / file).write_text(text)
    assert names(kadid(split_file=tmp_path / file)) == ["I01_01_01.png", "I03_25_05.png"]


def test_numbers_of_rows_without_their_padding(kadid, tmp_path):
    """-1 as an index is the last picture; ARNIQA's stored splits are padded with it."""
    np.save(tmp_path / "test.npy", np.array([[0, 1, -1], [2, -1, -1]]))
    assert names(kadid(split_file=tmp_path / "test.npy")) == ["I01_01_01.png", "I01_01_05.png"]
    assert names(kadid(split_file=tmp_path / "test.npy", split_index=1)) == ["I01_10_01.png"]
    with pytest.raises(DataSetError, match="holds 2 splits, 0 to 1, and no split 2"):
        kadid(split_file=tmp_path / "test.npy", split_index=2)
    np.save(tmp_path / "far.npy", np.array([18]))
    with pytest.raises(DataSetError, match=r"lists 1 entries, 1 of which .* \(first: 18\)"):
        kadid(split_file=tmp_path / "far.npy")
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataSetError, match="cannot be read"):
        kadid(split_file=tmp_path / "evil.npy")


def test_parts_and_references(kadid, tmp_path):
    """A split by references takes all their pictures; numbers count missing pictures, too."""
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["I01.png", "I02"], "val": [], "test": ["i03.png"]}))
    assert kadid(split_file=path).parts() == {"training": 12, "test": 6}
    assert names(kadid(split_file=path, part="test"))[0] == "I03_01_01.png"
    path.write_text(json.dumps({"train": ["I01"], "test": ["I01_01_01.png"]}))
    with pytest.raises(DataSetError, match="puts I01_01_01.png into training and test"):
        kadid(split_file=path)
    (tmp_path / "set.csv").write_text("name,set\nI01_01_01.png,valid\n")
    assert kadid(split_file=tmp_path / "set.csv").parts() == {"validation": 1}
    (tmp_path / "kadid10k" / "images" / "I01_01_01.png").unlink()
    np.save(tmp_path / "rows.npy", np.array([1]))
    assert names(kadid(split_file=tmp_path / "rows.npy")) == ["I01_01_05.png"]


def test_a_name_that_may_be_two_pictures(tmp_path):
    live(tmp_path / "live")
    (tmp_path / "names.txt").write_text("img1.bmp\n")
    options = {"split_file": tmp_path / "names.txt", "check_images": False}
    with pytest.raises(DataSetError, match="may be jp2k/img1.bmp or jpeg/img1.bmp; write the path"):
        prepare("live", tmp_path / "live", **options)
    (tmp_path / "names.txt").write_text("LIVE/databaserelease2/jpeg/img1.bmp\n")
    assert names(prepare("live", tmp_path / "live", **options)) == ["jpeg/img1.bmp"]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("a.txt", "", "lists nothing"),
        ("a.txt", "I99_01_01.png", r"lists 1 entries, 1 of which the data set does not have \(first: I99_01_01.png\)"),
        ("a.json", '{"holdout": ["I01"]}', "knows the parts training, validation, test, not 'holdout'"),
        ("a.json", "3", "must hold lists"),
        ("a.json", "[true]", "neither a name nor the number"),
        ("a.json", "[", "cannot be read"),
        ("a.pkl", "x", "ends in one of .txt"),
        ("none.txt", None, "does not exist"),
    ],
)
def test_files_that_are_no_split_of_it(kadid, tmp_path, file, text, says):
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(DataSetError, match=says):
        kadid(split_file=tmp_path / file)
    with pytest.raises(DataSetError, match="either --split or --split-file"):
        kadid(split_file=tmp_path / file, split="random")


def test_ten_random_splits_of_references(kadid):
    """57, 8 and 16 of 81 references, as published; ten different ones, whatever the order."""
    references = [f"I{place:02d}" for place in range(1, 82)]
    splits = [random_split(references, (57, 8, 16), index) for index in range(10)]
    for split in splits:
        sizes = [list(split.values()).count(part) for part in ("training", "validation", "test")]
        assert sizes == [57, 8, 16] and set(split) == set(references)
    assert len({tuple(sorted(split.items())) for split in splits}) == 10
    assert random_split(references[::-1] * 2, (57, 8, 16), 3) == splits[3]
    assert set(random_split(references, (4, 1)).values()) == {"training", "test"}
    with pytest.raises(DataSetError, match="There are 10 random splits"):
        random_split(references, (4, 1), 10)

    prepared = kadid(split="random", split_index=2)
    part_of = {}
    for entry in prepared.entries:
        assert part_of.setdefault(entry.content, entry.split) == entry.split
    assert set(part_of.values()) == {"training", "validation", "test"}
