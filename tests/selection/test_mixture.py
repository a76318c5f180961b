"""Mixture files, choosing with reasons, and the files that say what was chosen."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from mriqa.manifest import RatedImage, read_manifest, write_manifest
from mriqa.selection import SELECTORS, SelectionError, kmm, ppc, ppr, presta
from mriqa.selection.mixture.choice import ALL, Choice, choose
from mriqa.selection.mixture.parts import choose_parts, read_mixture, read_parts
from mriqa.selection.mixture.selection_files import column_of, write_subset


def rated(count: int, dataset: str = "set", seed: int = 0) -> list[RatedImage]:
    mos = np.random.default_rng(seed).uniform(1, 5, count)
    return [RatedImage(f"/{dataset}/{i}.png", float(m), None, dataset, str(i), f"{i}.png") for i, m in enumerate(mos)]


def features_by_path(images, role):
    """Six numbers of each picture, which depend on its path and the role."""
    return np.stack([np.random.default_rng([*str(image).encode(), len(role)]).normal(size=6) for image in images])


@pytest.mark.parametrize("selector", [*SELECTORS, ALL])
def test_every_selector_gives_reasons(selector):
    rows, target = rated(40), rated(15, "target", seed=1)
    how = Choice(selector, 1.0 if selector == ALL else 8, target, seed=3)
    chosen = choose(rows, how, features_by_path)
    assert len(chosen.rows) == len(chosen.scores) == len(chosen.reasons) == (40 if selector == ALL else 8)
    assert all(chosen.reasons) and len(set(chosen.rows)) == len(chosen.rows)
    assert list(chosen.rows) == list(choose(rows, how, features_by_path).rows)


def test_scores_and_reasons_say_what_they_say():
    rows, target = rated(30), rated(15, "target", seed=1)
    x, t = (features_by_path([row.image for row in own], "content") for own in (rows, target))
    y = np.array([row.mos for row in rows])

    weights = kmm.kmm_weights(x, t, seed=0)
    by_kmm = choose(rows, Choice("kmm", 5, target), features_by_path)
    np.testing.assert_allclose(by_kmm.scores, np.sort(weights)[::-1][:5])

    centres = choose(rows, Choice("k_center", 6), features_by_path)
    for place in range(1, 6):
        earlier = np.linalg.norm(x[centres.rows[:place]] - x[centres.rows[place]], axis=1)
        assert centres.scores[place] == pytest.approx(earlier.min(), rel=1e-5)

    by_presta = choose(rows, Choice("presta", 0.5, target), features_by_path)
    aim = ppr(t, [row.mos for row in target])
    kept = by_presta.rows
    whole = ppc(ppr(x[kept], y[kept]), aim)
    for place, score in enumerate(by_presta.scores):
        others = np.delete(kept, place)
        assert score == pytest.approx(whole - ppc(ppr(x[others], y[others]), aim), abs=1e-9)
    assert by_presta.summary == {"ppc_before": pytest.approx(ppc(ppr(x, y), aim)), "ppc_after": pytest.approx(whole)}
    single = choose(rows, Choice("presta", 1, target), features_by_path)
    assert len(single.rows) == 1 and single.summary["ppc_after"] == 0.0  # a single row correlates with nothing
    by_rules = choose(rows, Choice("presta", 0.2, target, {"stop": 0.6}), features_by_path)
    np.testing.assert_array_equal(by_rules.rows, presta(x, y, aim, floor=0.2, stop=0.6).kept)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda: Choice("prestta"), "Unknown selector 'prestta'; did you mean 'presta'"),
        (lambda: Choice("kmm", 5), "chooses for a target"),
        (lambda: Choice("random", 41), "budget is 41, but there are 40"),
        (lambda: Choice("random", 0.0), "must be above 0"),
        (lambda: Choice(ALL, 0.5), "name a selector"),
        (lambda: Choice("random", 3, options={"gamma": 1}), "can't take options {'gamma': 1}; it has none"),
        (lambda: Choice("q_diverse", 3, options={"seed": 1}), "can't take options .* choose among gamma, batch"),
        (lambda: Choice("moderate", 3, options={"scores": 1}), "can't take options .* choose among bins"),
    ],
)
def test_choices_that_cannot_be(how, says):
    with pytest.raises(SelectionError, match=says):
        choose(rated(40), how(), features_by_path)


@pytest.fixture
def manifests(tmp_path):
    """Two manifests of twelve pictures each, one on the scale 0..100 with columns of its own."""
    for name, high in (("mos", 5.0), ("hundred", 100.0)):
        (tmp_path / name).mkdir()
        rows = []
        for number in range(12):
            Image.new("RGB", (16, 16), (20 * number, 0, 9)).save(tmp_path / name / f"{number}.png")
            rows.append(
                {"img_path": f"{number}.png", "rating": 1 + (high - 1) * number / 11, "distortion": "ab"[number % 2]}
            )
        (tmp_path / name / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


MIXTURE = """
comparison_within: dataset
reselect_every: 2
manifests:
  - {manifest: mos/rows.jsonl, selector: k_center, budget: 4, weight: 2}
  - {manifest: hundred/rows.jsonl, scale: "0:100", selector: presta, budget: 0.5, target: mos/rows.jsonl}
"""


def test_a_mixture_is_read_and_chosen_from(manifests):
    (manifests / "mix.yaml").write_text(MIXTURE)
    settings = read_mixture(manifests / "mix.yaml")
    assert (settings.comparison_within, settings.reselect_every, settings.encoder) == ("dataset", 2, "lite0")
    parts = read_parts(settings)
    assert [part.weight for part in parts] == [2, 1.0]
    assert max(row.mos for row in parts[1].rows) == 5.0 and min(row.mos for row in parts[1].rows) == pytest.approx(1.04)
    assert len({row.id for part in parts for row in part.rows}) == 24  # though the files have the same names
    assert [len(own.rows) for own in choose_parts(parts, features_by_path)] == [4, 6]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("manifests: []", "must be a list of at least one manifest"),
        ("manifest: [{manifest: a.jsonl}]", "Unknown key in the mixture 'manifest'; did you mean 'manifests'"),
        ("manifests: [{manifest: a.jsonl, budgett: 3}]", "Unknown key in manifest 1 of the mixture 'budgett'"),
        ("manifests: [{selector: random}]", "manifest 1 of the mixture names no manifest"),
        ("manifests: [{manifest: a.jsonl, selector: kmm}]", "chooses for a target"),
        (
            "manifests: [{manifest: a.jsonl, selector: pgcs, options: {bins: 3}}]",
            "choose among partitions, partitioning, dimensions",
        ),
        ("manifests: [{manifest: a.jsonl, weight: 0}]", "weight must be a number from"),
        ("manifests: [{manifest: a.jsonl}]\nreselect_every: often", "reselect_every is a number of epochs"),
        ("manifests: [{manifest: a.jsonl}]\ncomparison_within: content", "Unknown comparison_within 'content'"),
        ("a: [", "is not YAML"),
        ("just words", "must be a mapping of settings"),
    ],
)
def test_mixtures_that_cannot_be(tmp_path, text, says):
    (tmp_path / "mix.yaml").write_text(text)
    with pytest.raises(SelectionError, match=says) as caught:
        read_mixture(tmp_path / "mix.yaml")
    assert "mix.yaml" in str(caught.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".json", ".parquet"])
def test_a_subset_reads_back_as_the_rows_that_were_chosen(manifests, suffix):
    manifest, out = manifests / "hundred" / "rows.jsonl", manifests / "hundred" / f"subset{suffix}"
    rows = read_manifest(manifest, scale="0:100")
    chosen = choose(rows, Choice("random", 5, seed=2), features_by_path)
    write_subset(manifest, None, "0:100", rows, chosen, "random", out)
    assert read_manifest(out, scale="0:100") == [rows[place] for place in chosen.rows]
    if suffix == ".csv":
        with out.open(newline="") as file:
            first = next(csv.DictReader(file))
        assert first["selected_by"] == "random" and first["selection_order"] == "0" and first["selection_reason"]
        assert first["distortion"] in "ab" and float(first["rating"]) in [1 + 99 * n / 11 for n in range(12)]
    assert set(column_of(manifest, None, "0:100", "distortion").values()) == {"a", "b"}


def test_a_subset_elsewhere_names_its_images_absolutely(manifests):
    rows = read_manifest(manifests / "mos" / "rows.jsonl")
    write_manifest(rows, manifests / "mos" / "plain.csv")
    rows = read_manifest(manifests / "mos" / "plain.csv")
    chosen = choose(rows, Choice("random", 2), features_by_path)
    out = manifests / "elsewhere" / "subset.jsonl"
    write_subset(manifests / "mos" / "plain.csv", None, None, rows, chosen, "random", out)
    read = read_manifest(out, image_root=manifests)
    assert [row.image for row in read] == [rows[place].image for place in chosen.rows]
