import csv
from pathlib import Path

import pytest
import torch

from mriqa.distortions import DISTORTIONS, LABELLED, NAMES, mean_mos, parameter, rater_std
from mriqa.distortions.levels import level_tables

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "kadid_levels.csv"


def test_parameters_pass_through_the_published_levels_and_run_straight_between():
    severities = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9, 1.0], dtype=torch.float64)
    expected = torch.tensor([0, 0.05, 0.1, 0.3, 0.5, 1, 2, 3.5, 5], dtype=torch.float64)
    torch.testing.assert_close(parameter("gaussian_blur", severities), expected)
    expected = torch.tensor([100, 71.5, 43, 39.5, 36, 24, 7, 5.5, 4], dtype=torch.float64)
    torch.testing.assert_close(parameter("jpeg", severities), expected)
    expected = torch.tensor([1.0, 0.7, 0.4, 0.3, 0.2, 0.1, 0, -0.2, -0.4], dtype=torch.float64)
    torch.testing.assert_close(parameter("color_saturation_hsv", severities), expected)


def test_scores_are_the_published_ones_at_levels_and_their_mean_halfway():
    assert mean_mos("gaussian_blur", 0.2) == 4.612
    assert mean_mos("gaussian_blur", 1.0) == pytest.approx(1.303)
    assert mean_mos("jpeg", 0.7) == pytest.approx((3.866 + 1.945) / 2)
    assert rater_std("white_noise", 0.5) == pytest.approx((0.828 + 0.84) / 2)


def test_labelled_are_those_with_published_parameters():
    assert len(NAMES) == 25
    assert set(NAMES) - set(LABELLED) == {"color_quantization", "denoise", "mean_shift", "contrast_change"}
    assert all(1 <= mean_mos(name, 0.2 + 0.8 * step / 20) <= 5 for name in LABELLED for step in range(21))


@pytest.mark.skipif(not FACTS.exists(), reason="no ../shared/facts beside this checkout")
def test_table_is_the_one_computed_from_the_ratings():
    with FACTS.open(newline="") as file:
        for row in csv.DictReader(file):
            table = level_tables()[row["name"]]
            index = int(row["level"]) - 1
            assert table.category == row["category"]
            assert (table.ratings.mean_mos[index], table.ratings.rater_std[index]) == (
                float(row["mean_mos"]),
                float(row["mean_rater_std"]),
            )
            if row["name"] in LABELLED:
                assert DISTORTIONS[row["name"]].levels[index] == table.parameters[index] == float(row["parameter"])


def test_wrong_questions_get_one_clear_sentence():
    with pytest.raises(ValueError, match="did you mean .*gaussian_blur"):
        mean_mos("gausian_blur", 0.5)
    with pytest.raises(ValueError, match=r"in \[0.2, 1\].*not 0.1"):
        mean_mos("jpeg", 0.1)
    with pytest.raises(ValueError, match="not nan"):
        rater_std("jpeg", float("nan"))
    with pytest.raises(ValueError, match="carries no human scores"):
        mean_mos("mean_shift", 0.5)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        parameter("jpeg", torch.tensor([0.5, 1.1]))
