"""The transfer experiment: a whole small run, and that no label of the test images is used."""

from __future__ import annotations

import json
from pathlib import Path

import compare_selectors as recipe
import numpy as np
import pytest
from PIL import Image

from mriqa.eval.metrics import srcc
from mriqa.manifest import RatedImage
from mriqa.selection import ppr, presta, presta_joint
from mriqa.training.selected_networks.ridge import fit_ridge


def features(count: int, slope: np.ndarray, seed: int) -> recipe.Features:
    """Features that are noise, and scores that go with them by `slope`."""
    x_ND = np.random.default_rng(seed).normal(size=(count, len(slope))).astype(np.float32)
    scores_N = 3 + 0.3 * x_ND @ slope
    return recipe.Features(x_ND, x_ND, x_ND, scores_N, np.array([str(row % 10) for row in range(count)]))


@pytest.fixture
def arguments(tmp_path):
    options = ["--photos", "x", "--target", "x", "--share", "0.3", "--selectors", "herding", "--output", str(tmp_path)]
    return recipe.parse_arguments(options)


def test_presta_finds_the_part_of_the_source_that_prefers_as_the_target_does(arguments):
    """A quarter of the source goes by the target's slope, the rest by the opposite in half of the features."""
    good, bad = np.ones(6), np.array([1.0, 1, 1, -1, -1, -1])
    own, other = features(60, good, 1), features(180, bad, 2)
    names = ("content_ND", "quality_ND", "x_ND", "scores_N", "groups_N")
    source = recipe.Features(*(np.concatenate([getattr(own, name), getattr(other, name)]) for name in names))
    found = recipe.one_draw(source, features(80, good, 3), arguments, draw=0)
    assert found[recipe.PRESTA]["images"] == found[recipe.RANDOM]["images"] == 48
    assert found[recipe.PRESTA]["srcc"] > found[recipe.FULL]["srcc"] + 0.1
    assert found[recipe.PRESTA]["ppc"] > found[recipe.FULL]["ppc"] + 0.1


def test_only_the_drawn_labels_of_the_target_are_used(arguments):
    """With all other labels reversed, every prediction stays what it was and so every SRCC turns its sign."""
    source, target = features(100, np.ones(5), 1), features(60, np.ones(5), 2)
    labelled = np.random.default_rng([arguments.seed, 4]).choice(60, 18, replace=False)
    scores_N = target.scores_N.copy()
    others = np.setdiff1d(np.arange(60), labelled)
    scores_N[others] = 6 - scores_N[others]
    turned = recipe.Features(**{**vars(target), "scores_N": scores_N})
    before, after = (recipe.one_draw(source, own, arguments, draw=4) for own in (target, turned))
    for name in before:
        assert after[name]["srcc"] == pytest.approx(-before[name]["srcc"], abs=1e-12), name


def test_the_stopping_point_is_where_presta_stops():
    data, target = features(60, np.array([1.0, -1, 1, 0]), 1), features(30, np.array([1.0, 1, 1, 0]), 2)
    aim = ppr(target.x_ND, target.scores_N)
    whole = presta(data.x_ND, data.scores_N, aim, floor=0.2, stop=np.inf, min_gain=-np.inf)
    for stop, min_gain in ((0.5, 1e-6), (0.9, 1e-6), (2.0, 1e-3), (2.0, -np.inf)):
        ruled = presta(data.x_ND, data.scores_N, aim, floor=0.2, stop=stop, min_gain=min_gain)
        place = recipe.stopping_point(whole.ppc, stop, min_gain)
        np.testing.assert_array_equal(ruled.removed, whole.removed[:place])


def test_with_all_labels_the_ppr_is_the_targets_own_and_all_images_are_tested():
    source, target = features(100, np.array([1.0, -1, 1, 0]), 1), features(60, np.array([1.0, 1, 1, 0]), 2)
    options = recipe.parse_arguments(["--photos", "x", "--target", "x", "--share", "1.0"])
    found = recipe.one_draw(source, target, options, draw=0)
    expected = presta(source.x_ND, source.scores_N, ppr(target.x_ND, target.scores_N), 0.2, np.inf, -np.inf).kept
    model = fit_ridge(source.x_ND[expected], source.scores_N[expected], source.groups_N[expected])
    assert found[recipe.PRESTA]["srcc"] == srcc(model.predict(target.x_ND), target.scores_N)
    assert recipe.LABELS not in found and recipe.LABELS not in recipe.table(
        {name: {key: [value] for key, value in measured.items()} for name, measured in found.items()}
    )


@pytest.mark.parametrize(("share", "count"), [(0.99, 60), (0.5, 5)])
def test_a_share_that_leaves_too_few_to_test_on_is_refused(share, count):
    with pytest.raises(recipe.SettingsError, match="to test on: lower it, or give 1.0"):
        recipe.labelled_and_test(count, share, np.random.default_rng(0))


def test_source_and_target_are_seen_through_the_same_views(manifest, tmp_path, monkeypatch):
    looks = []
    encode = recipe.extract

    def noted(images, encoder, *, look, **options):
        looks.append(look)
        return encode(images, encoder, look=look, **options)

    monkeypatch.setattr(recipe, "extract", noted)
    options = ["--source", str(manifest), "--target", str(manifest), "--draws", "1", "--budget", "0.5"]
    options += ["--share", "1.0", "--limit", "64", "--crop", "48", "--output", str(tmp_path), "--cache", str(tmp_path)]
    assert recipe.main(options) == 0
    assert len(looks) == 4 and {(look.size, look.limit, look.crop, look.count) for look in looks} == {(None, 64, 48, 5)}


def test_ridge_takes_weights():
    data = features(80, np.array([1.0, -1.0]), 0)
    weights_N = np.zeros(80)
    weights_N[:20] = 4.0
    scores_N = np.where(np.arange(80) < 20, data.scores_N, -data.scores_N)
    model = fit_ridge(data.x_ND, scores_N, data.groups_N, weights_N)
    assert srcc(model.predict(data.x_ND[:20]), data.scores_N[:20]) > 0.99


def test_a_whole_run(manifest, tmp_path):
    options = [
        "--source",
        str(manifest),
        "--target",
        str(manifest),
        "--draws",
        "2",
        "--budget",
        "0.5",
        "--share",
        "0.5",
    ]
    options += ["--size", "64", "--crop", "48", "--output", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert recipe.main(options) == 0
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert {name: len(found["srcc"]) for name, found in results.items()} == dict.fromkeys(results, 2)
    assert results[recipe.PRESTA]["images"] == [3, 3]
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert len(lines) == 2 + len(results) == 16


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "one of --photos and --source"),
        (["--photos", "a", "--source", "b"], "one of --photos and --source"),
        (["--source", "b", "--share", "0"], "--share must be a share above 0"),
        (["--source", "b", "--budget", "20"], "--budget must be a share above 0 and at most 1, not 20.0"),
        (["--source", "b", "--draws", "0"], "--draws must be at least 1"),
        (["--source", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(tmp_path, capsys, options, says):
    assert recipe.main(["--target", "nowhere.jsonl", "--output", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert says in said and said.startswith("error: ") and len(said.splitlines()) == 1


def test_photographs_are_distorted_into_as_many_pictures_as_asked_for(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(6):
        pixels = generator.integers(0, 256, (420, 420, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    options = ["--photos", str(tmp_path / "photos"), "--target", "x", "--output", str(tmp_path / "out")]
    arguments = recipe.parse_arguments([*options, "--images", "9", "--distortions", "jpeg", "white_noise"])
    rows = recipe.source_rows(arguments)
    assert len(rows) == 9 and {row.id.split("-")[-2] for row in rows} == {"jpeg", "white_noise"}


def test_ridge_can_read_several_encoders(tmp_path):
    (tmp_path / "c.yaml").write_text("target: t.jsonl\nsource: s.jsonl\nregressor_encoder: [lite0, lite0_quality]\n")
    by_options = ["--target", "t.jsonl", "--source", "s.jsonl", "--regressor_encoder", "lite0", "lite0_quality"]
    for options in (["--config", str(tmp_path / "c.yaml")], by_options):
        assert recipe.parse_arguments(options).regressor_encoder == ["lite0", "lite0_quality"]


def test_presta_j_trains_on_the_targets_labels_and_what_is_kept_of_each_source(arguments):
    """Two sources with slopes of their own; what is kept of each is `presta_joint`'s, and ridge sees it with labels."""
    one, two = features(60, np.array([1.0, -1, 1, 0]), 1), features(50, np.array([1.0, 1, -1, 1]), 2)
    names = ("content_ND", "quality_ND", "x_ND", "scores_N", "groups_N")
    rows = [RatedImage(Path("x"), 3.0, None, name, "c", "i") for name in ["a"] * 60 + ["b"] * 50]
    source = recipe.Features(*(np.concatenate([getattr(own, name) for own in (one, two)]) for name in names), rows)
    target = features(40, np.array([1.0, 0, 1, 0]), 3)
    found = recipe.one_draw(source, target, arguments, draw=1)
    labelled = np.random.default_rng([arguments.seed, 1]).choice(40, 12, replace=False)
    test = np.setdiff1d(np.arange(40), labelled)
    aim = ppr(target.x_ND[labelled], target.scores_N[labelled])
    joint = presta_joint({name: (own.x_ND, own.scores_N) for name, own in (("a", one), ("b", two))}, aim, 0.2, 0.95)
    kept_a, kept_b = joint["a"].kept, joint["b"].kept
    x_ND = np.concatenate([one.x_ND[kept_a], two.x_ND[kept_b], target.x_ND[labelled]])
    scores_N = np.concatenate([one.scores_N[kept_a], two.scores_N[kept_b], target.scores_N[labelled]])
    groups_N = [*one.groups_N[kept_a], *two.groups_N[kept_b], *(f"target {place}" for place in labelled)]
    expected = fit_ridge(x_ND, scores_N, np.array(groups_N, dtype=object)).predict(target.x_ND[test])
    assert found[recipe.PRESTA_J]["srcc"] == srcc(expected, target.scores_N[test])
    assert found[recipe.PRESTA_J]["images"] == len(x_ND)
    assert found[recipe.JOINT_ALL]["images"] == 122


def test_a_network_trains_on_each_selection_and_missing_draws_are_made_up(manifest, tmp_path):
    options = ["--source", f"a={manifest}", f"b={manifest}", "--source_scale", "a=1:5", "--target", str(manifest)]
    options += ["--budget", "0.5", "--share", "0.5", "--size", "64", "--crop", "48", "--selectors", "herding"]
    options += ["--network", "timm:test_resnet", "--network_pretrained", "false", "--network_epochs", "1"]
    options += ["--network_crop", "32", "--output", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert recipe.main([*options, "--draws", "1"]) == 0
    first = json.loads((tmp_path / "results.json").read_text())["results"]
    assert set(first[recipe.PRESTA_J]) == {"srcc", "plcc", "ppc", "images", "network_srcc", "network_plcc"}
    assert "network SRCC" in (tmp_path / "results.md").read_text()
    assert recipe.main([*options, "--draws", "2"]) == 0
    both = json.loads((tmp_path / "results.json").read_text())["results"]
    assert both["herding"]["images"] == [6, 6] and both["herding"]["srcc"][:1] == first["herding"]["srcc"]
    assert recipe.main([*options, "--draws", "2", "--budget", "0.4"]) == 2
