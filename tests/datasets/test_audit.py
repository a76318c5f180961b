"""Leaks that are planted are found, as what they are, and nothing else."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from official_trees import picture
from PIL import Image

from mriqa.datasets.audit import audit, find_leaks
from mriqa.datasets.listings import AuditError, ListedImage, read_listing
from mriqa.datasets.near_duplicates import BITS, NEAR, near_pairs, perceptual_hash
from mriqa.images import load_image
from mriqa.manifest import RatedImage


def listed(path, dataset="", content="", name=""):
    name = name or path.name
    return ListedImage(path, dataset, content or name, name)


def kinds(leaks):
    return [leak.kind for leak in leaks]


@pytest.fixture
def photos(shared_data):
    return sorted(shared_data("photos").glob("*.webp"))


def test_mr_iqas_validation_list_lies_inside_its_test_list():
    """Its 200 validation pictures are official KonIQ test pictures. The pictures are not here: names must do."""
    generator = np.random.default_rng(42)
    numbers = generator.choice(10**9, 2010, replace=False)
    test = [f"koniq10k/1024x768/{number}.jpg" for number in numbers]
    val = [f"koniq/512x384/{number}.jpg" for number in generator.choice(numbers, 200, replace=False)]
    train = [f"koniq10k/1024x768/{number + 10**9}.jpg" for number in numbers]
    rows = {
        name: [listed(Path(path), name=path) for path in paths]
        for name, paths in (("val", val), ("test", test), ("train", train))
    }
    found = audit(rows)
    assert found.counts() == {("val", "test", "name"): 200}
    assert found.absent == {"val": 200, "test": 2010, "train": 2010}


def test_the_same_name_is_no_leak_where_it_names_different_pictures(tmp_path):
    first, second = picture(tmp_path / "a" / "1.png", 1), picture(tmp_path / "b" / "1.png", 2)
    assert find_leaks({"a": [listed(first)], "b": [listed(second)]}) == []
    absent = [listed(tmp_path / "jp2k" / "img1.bmp"), listed(tmp_path / "jpeg" / "img1.bmp")]
    assert find_leaks({"a": absent[:1] + [listed(tmp_path / "wn" / "img1.bmp")], "b": absent[1:]}) == []
    assert kinds(find_leaks({"a": absent, "b": absent[1:]})) == ["name"]


def test_the_same_file_and_the_same_bytes(tmp_path):
    original, other = picture(tmp_path / "a.png", 1), picture(tmp_path / "c.png", 2)
    shutil.copy(original, tmp_path / "b.png")
    leaks = find_leaks({"x": [listed(original), listed(other)], "y": [listed(tmp_path / "b.png"), listed(other)]})
    assert kinds(leaks) == ["file", "bytes"]
    assert leaks[1].images == (original, tmp_path / "b.png") and leaks[1].manifests == ("x", "y")


def test_the_same_prompt_or_reference(tmp_path):
    rows = [listed(picture(tmp_path / f"{place}.png", place), "agiqa3k", "A cat,  on a mat") for place in range(3)]
    other = listed(picture(tmp_path / "9.png", 9), "agiqa3k", "a cat, on a MAT")
    (leak,) = find_leaks({"train": rows, "test": [other]})
    assert (leak.kind, leak.detail, leak.rows) == ("content", "A cat,  on a mat", (3, 1))


def test_equal_contents_of_two_public_data_sets_are_different(tmp_path):
    """KADID-10k's I01 is not TID2013's; of sets that we don't know, equal names are taken to be equal."""
    first, second = picture(tmp_path / "1.png", 1), picture(tmp_path / "2.png", 2)

    def leaks(one, two):
        return kinds(find_leaks({"a": [listed(first, one, "I01")], "b": [listed(second, two, "I01")]}))

    assert leaks("kadid10k", "tid2013") == []
    assert leaks("kadid10k", "kadid10k") == leaks("", "tid2013") == leaks("mine", "yours") == ["content"]


def test_rated_images_serve_as_rows(tmp_path):
    first, second = picture(tmp_path / "1.png", 1), picture(tmp_path / "2.png", 2)
    rows = [RatedImage(path, 3.0, None, "koniq10k", "7.jpg", "7.jpg") for path in (first, second)]
    (leak,) = find_leaks({"train": rows[:1], "val": rows[1:]})
    assert leak.kind == "name"  # one data set, one id


@pytest.mark.parametrize("copy", ["quality 90", "half the size", "512 × 384"])
def test_copies_of_photographs_are_found(photos, tmp_path, copy):
    """In each case the copy, and no other of the photographs."""
    chosen = photos[::12]
    copies = []
    for place, path in enumerate(chosen):
        image = load_image(path)
        if copy == "half the size":
            image = image.resize((image.width // 2, image.height // 2))
        if copy == "512 × 384":
            image = image.resize((512, 384))
        image.save(tmp_path / f"{place}.jpg", quality=90)
        copies.append(tmp_path / f"{place}.jpg")
    leaks = find_leaks({"train": [listed(path) for path in chosen], "test": [listed(path) for path in copies]})
    assert [(leak.kind, *leak.images) for leak in leaks] == [("look", *pair) for pair in zip(chosen, copies)]


def test_photographs_are_no_near_duplicates_of_each_other(photos):
    """The nearest two of 48 are far beyond the threshold."""
    hashes_NW = np.stack([perceptual_hash(path) for path in photos[::3]])
    pairs = near_pairs(hashes_NW, hashes_NW, near=2 * NEAR)
    assert [(first, second) for first, second, _ in pairs] == [(place, place) for place in range(len(hashes_NW))]


def test_bits_are_counted_as_by_hand():
    generator = np.random.default_rng(0)
    bits_NB = generator.integers(0, 2, (5, BITS), dtype=np.uint8)
    bits_MB = np.concatenate([bits_NB[:2] ^ (np.arange(BITS) < 9), generator.integers(0, 2, (3, BITS), dtype=np.uint8)])
    packed = [np.packbits(bits.astype(np.uint8), axis=1).view(np.uint64) for bits in (bits_NB, bits_MB)]
    expected = [
        (row, column, int((first != second).sum()))
        for row, first in enumerate(bits_NB)
        for column, second in enumerate(bits_MB)
        if (first != second).sum() <= 120
    ]
    assert near_pairs(*packed, near=120) == expected and (0, 0, 9) in expected


def test_flat_pictures_are_not_alike(tmp_path):
    rows = []
    for value in (40, 200):
        Image.new("RGB", (32, 32), (value, value, value)).save(tmp_path / f"{value}.png")
        rows.append(listed(tmp_path / f"{value}.png"))
    assert find_leaks({"a": rows[:1], "b": rows[1:]}) == []


def test_a_picture_that_cant_be_read_is_not_passed_over(tmp_path):
    whole = io.BytesIO()
    Image.new("RGB", (32, 32)).save(whole, "PNG")
    (tmp_path / "broken.png").write_bytes(whole.getvalue()[:60])
    rows = {"a": [listed(tmp_path / "broken.png")], "b": [listed(picture(tmp_path / "b.png", 1))]}
    with pytest.raises(AuditError, match="1 pictures can't be compared"):
        find_leaks(rows)
    assert find_leaks(rows, look=False) == []


def test_what_can_not_be_audited():
    with pytest.raises(AuditError, match="two manifests or more"):
        find_leaks({"a": []})
    with pytest.raises(AuditError, match="Manifest b has no rows"):
        find_leaks({"a": [], "b": []} | {"a": ["row"]})


def test_lists_of_every_kind(tmp_path):
    (tmp_path / "a.txt").write_text("x/1.jpg\n\n2.jpg\n")
    assert [row.id for row in read_listing(tmp_path / "a.txt")] == ["x/1.jpg", "2.jpg"]
    row = {"image": ["1.jpg"], "dataset_name": "spaq", "prompt": "a dog", "image_id": 7, "split": "test"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (found,) = read_listing(tmp_path / "a.jsonl", tmp_path / "root")
    assert found == ListedImage(tmp_path / "root" / "1.jpg", "spaq", "a dog", "7", "test")
    (tmp_path / "a.jsonl").write_text('{"mos": 3}')
    with pytest.raises(AuditError, match="a.jsonl:1 names no picture"):
        read_listing(tmp_path / "a.jsonl")
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(AuditError, match="is empty"):
        read_listing(tmp_path / "a.txt")
    with pytest.raises(AuditError, match="does not exist"):
        read_listing(tmp_path / "none.txt")
