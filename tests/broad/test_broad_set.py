"""The broad data set: labels, splits, what is kept, and what its map is made of."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mriqa.broad import BroadSettings, build_broad_set, read_details
from mriqa.broad.anchors import INVISIBLE, score_at
from mriqa.broad.broad_set import split_contents
from mriqa.broad.changes import NAMES, changes
from mriqa.broad.damage_table import DAMAGES
from mriqa.broad.full_reference import HIGHEST_PSNR, RISING, measure
from mriqa.broad.labels import deviation_curve
from mriqa.broad.pictures import SHARES, damage_deck
from mriqa.distortions import mean_mos
from mriqa.embedded.packaged import held_out_contents
from mriqa.manifest import read_manifest

pytest.importorskip("piq", reason="labels need the extra `recipes`")

SMALL = BroadSettings(train_images=60, val_images=30, test_images=20, codec_images=8, size=192, scenes=0)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broad")
    paths = build_broad_set(folder, SMALL)
    return folder, paths, {split: read_manifest(getattr(paths, split)) for split in ("train", "val", "test")}


@pytest.fixture(scope="module")
def noise_pair():
    rng = np.random.default_rng(0)
    original = np.asarray(Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).resize((192, 192)))
    return original, np.clip(original + rng.normal(0, 20, original.shape), 0, 255).astype(np.uint8)


def test_splits_have_their_sizes_and_share_no_content(built):
    _, _, rows = built
    assert [len(rows[split]) for split in rows] == [68, 30, 20]
    contents = [{row.content for row in rows[split]} for split in rows]
    assert sum(map(len, contents)) == len(set.union(*contents))


def test_validation_and_test_get_what_is_held_out_first():
    """None of the photographs and scenes here is one that the packaged model was trained on."""
    held_out = held_out_contents()
    splits = split_contents(BroadSettings(held_out=held_out))
    kept = {content.name for split in ("val", "test") for content in splits[split]}
    assert kept <= set(held_out) and {content.kind for content in splits["test"]} == {"photograph", "dead_leaves"}
    assert not kept & {content.name for content in splits["train"]}
    assert list(map(len, splits.values())) == list(map(len, split_contents(BroadSettings()).values()))


def test_labelled_distortions_have_half_of_their_published_score(built):
    _, paths, _ = built
    rows = [json.loads(line) for line in paths.train.read_text().splitlines()]
    labelled = [row for row in rows if row["damage"] in DAMAGES and DAMAGES[row["damage"]].rated]
    assert len(labelled) == pytest.approx(60 * SHARES["labelled"], abs=3)
    for row in labelled:
        severity = 0.2 + (0.6 if row["damage"] == "jpeg2000" else 0.8) * row["severity"]
        published = mean_mos(row["damage"], severity)
        assert row["mos"] == pytest.approx((published + row["mapped_mos"]) / 2, abs=1e-3)
        assert abs(row["mapped_mos"] - published) > 1e-6  # not the score that it was fitted on
    assert {row["mos"] for row in rows if row["damage"] == "pristine"} == {INVISIBLE}
    assert all(1 <= row["mos"] <= INVISIBLE + 1e-9 and 0.3 < row["std"] < 1.2 for row in rows)


def test_details_say_what_was_done(built):
    _, paths, rows = built
    details = read_details(paths.train)
    assert set(details) == {row.id for row in rows["train"]}
    for row in rows["train"]:
        assert f"-{details[row.id].damage}-" in row.id
        assert (details[row.id].severity == 0) == (details[row.id].kind == "pristine")
        assert len(details[row.id].measures) == len(RISING) + len(NAMES)


def test_an_interrupted_set_goes_on_and_comes_out_the_same(built, tmp_path):
    folder, paths, _ = built
    report, train = (folder / "labels.json").read_text(), paths.train.read_text()
    pictures = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    part = sorted((folder / "parts").iterdir())[0]
    lost = [folder / row["image"] for row in json.loads(part.read_text())["pictures"]]
    for path in (part, folder / "labels.json", *lost):
        path.unlink()
    build_broad_set(folder, SMALL)
    assert (folder / "labels.json").read_text() == report and paths.train.read_text() == train
    assert pictures == {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    with pytest.raises(ValueError, match="made with other settings"):
        build_broad_set(folder, replace(SMALL, seed=1))


def test_the_report_measures_the_map_on_unseen_contents(built):
    folder, _, _ = built
    report = json.loads((folder / "labels.json").read_text())
    assert set(report["accuracy_on_unseen_contents"]) == {"val", "test"}
    assert sum(damage["n"] for damage in report["labels"].values()) == 118


def test_too_small_pictures_are_refused():
    with pytest.raises(ValueError, match="at least 192"):
        replace(SMALL, size=160)


def test_a_deck_holds_each_damage_in_its_share():
    deck = damage_deck(1000, np.random.default_rng(0))
    assert len(deck) == 1000 and deck.count(None) == 70
    counts = [deck.count(damage) for damage in DAMAGES.values() if damage.rated]
    assert max(counts) - min(counts) <= 1


def test_pictures_through_codecs_come_beside_the_others_of_training(built):
    _, paths, _ = built
    index_of = {identifier: int(identifier.split("-")[-3]) for identifier in read_details(paths.train)}
    more = [details for name, details in read_details(paths.train).items() if index_of[name] >= 60]
    assert sorted(index_of.values()) == list(range(68))
    assert len(more) == 8 and {each.kind for each in more} <= {"compression", "small file"}
    without = damage_deck(60, np.random.default_rng([SMALL.seed, 0]))  # the others are what they are without
    others = [(index_of[name], details.damage) for name, details in read_details(paths.train).items()]
    assert [name for index, name in sorted(others) if index < 60] == [d.name if d else "pristine" for d in without]


def test_measures_are_best_for_equal_pictures_and_psnr_is_its_formula(noise_pair):
    original, spoiled = noise_pair
    best, worse = measure(original, original), measure(original, spoiled)
    assert best[-1] == HIGHEST_PSNR
    assert all(sign * (a - b) > 0 for sign, a, b in zip(RISING, best, worse))
    error = ((original.astype(float) - spoiled.astype(float)) ** 2).mean()
    assert worse[-1] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


def test_gmsd_is_its_formula_on_pictures_of_its_own_side(noise_pair):
    """Xue et al. (2014): Prewitt gradients of the luma averaged over 2 x 2, c = 170 for 8 bits, in float64."""
    from scipy.ndimage import convolve

    def gradient(pixels):
        luma = pixels.astype(float) @ (0.299, 0.587, 0.114)
        halved = luma.reshape(96, 2, 96, 2).mean(axis=(1, 3))
        prewitt = np.outer(np.ones(3), (1, 0, -1)) / 3
        return np.hypot(*(convolve(halved, kernel, mode="constant") for kernel in (prewitt, prewitt.T)))

    first, second = map(gradient, noise_pair)
    similarity = (2 * first * second + 170) / (first**2 + second**2 + 170)
    assert measure(*noise_pair)[0] == pytest.approx(similarity.std(), abs=2e-3)


def test_changes_of_a_picture_half_as_bright(noise_pair):
    original, _ = noise_pair
    found = dict(zip(NAMES, changes(original, original // 2)))
    assert found["brightness"] == pytest.approx(-original.mean() / 2 / 255, abs=0.003)
    assert found["contrast"] == pytest.approx(np.log(0.5), abs=0.03)
    assert found["detail"] == pytest.approx(np.log(0.5), abs=0.08)  # halves are rounded down, which adds a little


def test_scores_of_changes_that_go_both_ways_are_the_published_ones():
    assert score_at("mean_shift", -0.15) == pytest.approx(3.903)
    assert score_at("contrast_change", 0.15) == pytest.approx(3.858)
    assert score_at("contrast_change", -0.2) == INVISIBLE  # the identity


def test_deviations_are_smallest_where_all_agree():
    curve = deviation_curve()
    assert curve(3.0) > 0.7 > curve(4.6) and curve(1.3) < 0.6
