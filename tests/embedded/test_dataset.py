"""The embedded data set: contents, labels, splits, and that the same settings give the same pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mriqa.distortions import DISTORTIONS
from mriqa.embedded.contents import dead_leaves, folder_photographs, procedural_scenes, wheel_photographs
from mriqa.embedded.dataset import DatasetSettings, build_dataset
from mriqa.manifest import read_manifest

SMALL = DatasetSettings(train_images=20, val_images=6, test_images=10, size=64, scenes=4)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    paths = build_dataset(folder, SMALL)
    return folder, {split: read_manifest(getattr(paths, split)) for split in ("train", "val", "test")}


def test_splits_have_their_sizes_and_share_no_content(built):
    _, rows = built
    assert [len(rows[split]) for split in ("train", "val", "test")] == [20, 6, 10]
    contents = [{row.content for row in rows[split]} for split in ("train", "val", "test")]
    assert not contents[0] & contents[1] and not contents[0] & contents[2] and not contents[1] & contents[2]


def test_labels_lie_between_the_published_scores_of_the_neighbouring_levels(built):
    _, rows = built
    for row in rows["train"]:
        name, severity = row.id.split("-")[-2], float(row.id.split("-")[-1])
        ratings = DISTORTIONS[name].ratings
        for published, label in ((ratings.mean_mos, row.mos), (ratings.rater_std, row.std)):
            below, above = published[int(severity * 5 - 1e-9) - 1], published[min(4, int(np.ceil(severity * 5)) - 1)]
            assert min(below, above) - 0.01 <= label <= max(below, above) + 0.01


def test_the_same_settings_give_the_same_pictures(built, tmp_path):
    _folder, rows = built
    again = read_manifest(build_dataset(tmp_path, SMALL).test)
    assert [row.id for row in again] == [row.id for row in rows["test"]]
    for ours, theirs in zip(again, rows["test"], strict=True):
        assert np.array_equal(np.asarray(Image.open(ours.image)), np.asarray(Image.open(theirs.image)))


def test_a_finished_data_set_is_reused_and_never_mixed_with_another(built):
    folder, _ = built
    before = (folder / "train.jsonl").stat().st_mtime_ns
    build_dataset(folder, SMALL)
    assert (folder / "train.jsonl").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="made with other settings"):
        build_dataset(folder, replace(SMALL, seed=1))


def test_photographs_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(6):
        Image.fromarray(rng.integers(0, 255, (70, 90, 3), dtype=np.uint8)).save(photos / f"{index}.png")
    (photos / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (20, 20)).save(photos / "too_small.png")
    assert [content.name for content in folder_photographs(photos, 64)] == [f"photo-{i}" for i in range(6)]
    paths = build_dataset(tmp_path / "data", replace(SMALL, photos=str(photos)))
    assert {row.content for row in read_manifest(paths.train)} <= {f"photo-{i}" for i in range(6)}


def test_too_few_photographs_is_one_clear_sentence(tmp_path):
    with pytest.raises(ValueError, match="0 of 0 pictures can be read .* at least 5 are needed"):
        folder_photographs(tmp_path, 64)
    with pytest.raises(ValueError, match="no such folder"):
        folder_photographs(tmp_path / "absent", 64)


def test_a_distortion_without_labels_is_one_clear_sentence():
    with pytest.raises(ValueError, match="'denoise' carries no human scores; those that do are .*jpeg2000"):
        DatasetSettings(distortions=("jpeg", "denoise"))
    with pytest.raises(ValueError, match="no distortion 'jpg'; did you mean .*jpeg2000"):
        DatasetSettings(distortions=("jpeg", "jpg"))


def test_wheels_carry_photographs_in_colour():
    contents = wheel_photographs()
    assert len(contents) >= 10
    assert all(np.ptp(np.asarray(c.pristine(64)).astype(int), axis=2).mean() > 4 for c in contents if c.colourful)


def test_dead_leaves_have_the_power_spectrum_of_natural_pictures():
    """Amplitude falls about as 1/f: the log-log slope of the power spectrum lies near -2 (Field 1987)."""
    slopes = []
    for seed in range(4):
        grey = dead_leaves(128, np.random.default_rng(seed)).mean(axis=2)
        power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(np.hanning(128), np.hanning(128)))) ** 2
        radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
        rings = [(lo, power[(radius >= lo) & (radius < 1.3 * lo)].mean()) for lo in np.geomspace(0.03, 0.3, 10)]
        slopes.append(np.polyfit(*np.log(np.array(rings)).T, 1)[0])
    assert -3.2 < np.mean(slopes) < -1.6


def test_scenes_differ_from_each_other_but_not_from_themselves():
    first, second = procedural_scenes(2, seed=0)
    assert np.array_equal(np.asarray(first.pristine(48)), np.asarray(first.pristine(48)))
    assert not np.array_equal(np.asarray(first.pristine(48)), np.asarray(second.pristine(48)))


def test_settings_are_written_beside_the_pictures(built):
    folder, _ = built
    assert json.loads((folder / "dataset.json").read_text())["size"] == 64
