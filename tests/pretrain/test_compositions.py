"""Compositions follow the paper's distributions, and their images differ along a trajectory in one strength alone."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from mriqa.distortions import DISTORTIONS, NAMES, distort
from mriqa.distortions.draws import ImageSeeds
from mriqa.distortions.levels import level_tables
from mriqa.pretrain.compositions import CompositionSettings, draw_compositions, stacked
from mriqa.pretrain.distortion_types import (
    CATEGORIES,
    CATEGORY_OF,
    DISTORTION_NAMES,
    ROUNDED,
    distort_at,
    effective_severity,
    level_parameters,
    parameter_at,
)
from mriqa.pretrain.graphs.layout import PretrainError
from mriqa.pretrain.trajectories import distorted_images


def drawn(count: int, **options) -> list:
    generator = torch.Generator().manual_seed(0)
    return [draw_compositions(CompositionSettings(**options), 2, generator) for _ in range(count)]


def names_of(compositions) -> list[list[str]]:
    return [[DISTORTION_NAMES[name] for name in row if name >= 0] for row in compositions.names_CM.tolist()]


@pytest.fixture(scope="module")
def many():
    return drawn(1500, groups=4, levels=5)


@pytest.fixture
def pictures() -> torch.Tensor:
    noise = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, (48, 56), mode="bicubic").clamp(0, 1)


def test_24_types_in_seven_categories():
    assert {name: len(types) for name, types in CATEGORIES.items()} == {
        "blur": 3, "color": 4, "compression": 2, "noise": 4, "brightness": 3, "spatial": 5, "sharpness_contrast": 3,
    }  # fmt: skip
    assert len(DISTORTION_NAMES) == len(set(DISTORTION_NAMES)) == 26  # two of them with a sign
    tables = level_tables()
    assert all(tables[name].category == CATEGORY_OF[name] for name in DISTORTION_NAMES if name in tables)


@pytest.mark.parametrize(
    "name, levels",
    [
        ("mean_shift_up", [0, 0.08, 0.115, 0.15, 0.185]),
        ("mean_shift_down", [0, 0.08, 0.115, 0.15, 0.185]),
        ("contrast_up", [0, 0.15, 0.3, 0.4, 0.6]),
        ("nonlinear_contrast", [0.4, 0.3, 0.2, 0.1, 0.05]),
    ],
)
def test_the_published_levels_of_what_kadid_has_not(name, levels):
    assert list(DISTORTIONS[name].levels) == levels
    assert name not in NAMES and not DISTORTIONS[name].has_labels


def test_severities_are_half_normal(vectors, many):
    """6,000 trajectories of 5 levels, all severities but those that rounding changed."""
    wanted = vectors["severity"]["half_normal"]["sigma_05"]
    found = []
    for compositions in many:
        for group, names in enumerate(names_of(compositions)):
            if names[int(compositions.varying_C[group])] not in ROUNDED:
                found.append(compositions.varying_severity[group])
    severity = torch.cat(found).double().numpy()
    margin = 4 / math.sqrt(len(severity))
    assert abs((severity == 1).mean() - wanted["mass_at_1"]) < 0.21 * margin
    assert abs(severity.mean() - wanted["mean"]) < 0.29 * margin
    assert abs(np.median(severity) - wanted["median"]) < 0.8 * margin


def test_released_spread(vectors):
    wanted = vectors["severity"]["half_normal"]["sigma_0625"]
    severity = torch.cat([c.varying_severity.flatten() for c in drawn(800, sigma=0.625)]).double().numpy()
    margin = 4 / math.sqrt(len(severity)) + 0.02  # a few are rounded
    assert abs((severity == 1).mean() - wanted["mass_at_1"]) < margin and abs(severity.mean() - wanted["mean"]) < margin


def test_number_category_and_place_are_uniform(many):
    counts, categories, types, places = Counter(), Counter(), Counter(), Counter()
    for compositions in many:
        for group, names in enumerate(names_of(compositions)):
            counts[len(names)] += 1
            own = [CATEGORY_OF[name] for name in names]
            assert len(set(own)) == len(own), "at most one distortion of a category"
            categories.update(own)
            types.update(names)
            places[int(compositions.varying_C[group]) / len(names)] += len(names) == 7
    total = 4 * len(many)
    assert counts.total() == total and set(counts) == set(range(1, 8))
    assert all(abs(count / total - 1 / 7) < 4 * math.sqrt(6 / 49 / total) for count in counts.values())
    assert all(abs(count / total - 4 / 7) < 4 * math.sqrt(12 / 49 / total) for count in categories.values())
    for category, kinds in CATEGORIES.items():
        for signs in kinds:
            share = sum(types[name] for name in signs) / categories[category]
            assert abs(share - 1 / len(kinds)) < 5 * math.sqrt(0.25 / categories[category])
    up, down = types["mean_shift_up"], types["mean_shift_down"]
    assert abs(up / (up + down) - 0.5) < 2.5 / math.sqrt(up + down)
    assert min(places[place / 7] for place in range(7)) > 0.6 * max(places[place / 7] for place in range(7))


def test_only_the_varying_severity_differs_between_levels(many):
    for compositions in many[:200]:
        assert ((compositions.names_CM >= 0) == (compositions.severity_CLM[:, 0] >= 0)).all()
        for group, count in enumerate(compositions.counts.tolist()):
            severity_LM = compositions.severity_CLM[group]
            same = [bool((severity_LM[:, place] == severity_LM[0, place]).all()) for place in range(count)]
            varying = int(compositions.varying_C[group])
            assert varying < count and all(same[:varying] + same[varying + 1 :])
            assert torch.equal(compositions.varying_severity[group], severity_LM[:, varying])
            parameters = compositions.parameters()[group]
            assert parameters[:, :count].isfinite().all() and parameters[:, count:].isnan().all()


def test_the_order_is_random_unless_fixed(many):
    def pairs(batch):
        places = [
            {CATEGORY_OF[name]: place for place, name in enumerate(names)} for c in batch for names in names_of(c)
        ]
        return [p["blur"] < p["noise"] for p in places if {"blur", "noise"} <= set(p)]

    assert 0.4 < np.mean(pairs(many)) < 0.6
    assert all(pairs(drawn(50, order="sorted")))
    assert {name for c in drawn(50, order="sorted") for names in names_of(c) for name in names} > {
        "jpeg",
        "motion_blur",
    }
    first = {name for c in drawn(50, order="first") for names in names_of(c) for name in names}
    assert first == {
        "gaussian_blur",
        "color_diffusion",
        "jpeg2000",
        "white_noise",
        "brighten",
        "jitter",
        "high_sharpen",
    }


def test_ablations_of_the_engine():
    assert all((c.counts == 1).all() for c in drawn(20, most=1))
    rounded = torch.cat([c.severity_CLM[c.severity_CLM >= 0] for c in drawn(50, severity="levels", groups=8)])
    exact = (rounded * 4).frac() == 0
    assert exact.float().mean() > 0.9  # all but those of jpeg and quantization, whose levels are whole numbers anyway
    uniform = torch.cat([c.varying_severity.flatten() for c in drawn(300, severity="uniform")])
    assert abs(uniform.mean() - 0.5) < 0.03 and (uniform == 1).float().mean() < 0.02


def test_a_stack_is_a_batch():
    batch = stacked(drawn(3, groups=2, levels=4))
    assert batch.varying_severity.shape == (3, 2, 4) and batch.seeds_RCM.shape == (3, 2, 2, 7)
    for own, compositions in zip(batch.varying_severity, drawn(3, groups=2, levels=4)):
        assert torch.equal(own, compositions.varying_severity)


@pytest.mark.parametrize("name", DISTORTION_NAMES)
def test_severity_runs_from_level_1_to_level_5(name, pictures):
    levels = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)
    assert parameter_at(name, levels).tolist() == pytest.approx(list(level_parameters(name)))
    steps = np.sign(np.diff(level_parameters(name)))
    assert len(set(steps)) == 1, "severity must be monotone"
    same = pictures[:1].double().expand(5, -1, -1, -1)
    found = distort_at(same, name, levels, ImageSeeds([3] * 5))
    assert found.min() >= 0 and found.max() <= 1
    knots = torch.tensor(level_parameters(name), dtype=torch.float64)
    wanted = DISTORTIONS[name].function(same, knots, ImageSeeds([3] * 5))
    assert (found - wanted).abs().mean() < 1e-6


@pytest.mark.parametrize("name", DISTORTION_NAMES)
def test_equal_severities_give_equal_images(name, pictures):
    severity = torch.linspace(0, 1, 40)
    effective = effective_severity(name, severity.double())
    if name not in ROUNDED:
        assert torch.equal(effective, severity.double())
        return
    parameter = parameter_at(name, severity.double()).round()
    assert torch.allclose(parameter_at(name, effective), parameter)  # back to the whole number itself
    assert torch.equal(parameter_at(name, effective.float()).round().double(), parameter)
    assert len(set(effective.tolist())) == len(set(parameter.tolist())) < 40
    pair = next(place for place in range(39) if parameter[place] == parameter[place + 1])
    images = distort_at(pictures[:1].expand(2, -1, -1, -1), name, severity[pair : pair + 2], ImageSeeds([1, 1]))
    assert torch.equal(images[0], images[1]) and effective[pair] == effective[pair + 1]


def test_sharing_the_prefix_changes_no_image(pictures):
    for compositions in drawn(6):
        shared = distorted_images(pictures, compositions)
        assert shared.shape == (2, 4, 5, 3, 48, 56) and shared.min() >= 0 and shared.max() <= 1
        plain = distorted_images(pictures, compositions, share_prefix=False)
        # Kernels of unequal size in one batch are padded, so sums may round otherwise; a codec may then flip a bit.
        assert (shared - plain).abs().mean() < 1e-4
        again = distorted_images(pictures, compositions)
        assert torch.equal(shared, again)


def test_a_trajectory_is_a_plain_chain(pictures):
    """One image by hand: `distort` for each distortion of its composition, one at a time, each with its seed."""
    for compositions in drawn(4, groups=2, levels=3):
        found = distorted_images(pictures, compositions)
        for reference, group, level in ((0, 0, 0), (1, 1, 2)):
            image = pictures[reference : reference + 1]
            for place, name in enumerate(names_of(compositions)[group]):
                seed = int(compositions.seeds_RCM[reference, group, place])
                severity = compositions.severity_CLM[group, level, place]
                image = distort(image, name, 0.2 + 0.8 * float(severity), torch.Generator().manual_seed(seed))
            assert (found[reference, group, level] - image[0]).abs().mean() < 1e-4


def test_levels_of_equal_severity_are_equal_images(pictures):
    for compositions in drawn(4, levels=2):
        compositions.severity_CLM[:] = compositions.severity_CLM[:, :1]
        found = distorted_images(pictures, compositions)
        assert torch.equal(found[:, :, 0], found[:, :, 1])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"most": 8}, "1 to 7"), ({"sigma": 0.0}, "above 0"), ({"order": "any"}, "random, sorted, first"),
     ({"severity": "normal"}, "half_normal, levels, uniform")],
)  # fmt: skip
def test_refusals(options, sentence):
    with pytest.raises(PretrainError, match=sentence):
        CompositionSettings(**options)
