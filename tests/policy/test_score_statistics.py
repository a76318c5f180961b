"""Score statistics against numbers worked out by hand."""

import math

import pytest
import torch

from mriqa.policy.score_statistics import score_statistics

NAN = float("nan")


def test_statistics_by_hand() -> None:
    scores_NG = torch.tensor([[3.0, 3.0, 4.0], [2.0, NAN, NAN], [NAN, NAN, NAN]])
    rewards_NG = torch.tensor([[0.5, 0.5, 0.9], [0.2, 0.0, 0.0], [0.0, 0.0, 0.0]])
    summary = score_statistics(scores_NG, torch.tensor([4.0, 2.0, 3.0]), rewards_NG)
    assert summary["parse_rate"] == pytest.approx(4 / 9)
    assert summary["unique_ratio"] == pytest.approx((2 / 3 + 1) / 2)
    assert summary["zero_advantage_share"] == pytest.approx(1 / 3)
    assert summary["predicted_mean"] == pytest.approx((10 / 3 + 2) / 2)
    assert summary["predicted_std"] == pytest.approx((10 / 3 - 2) / 2)
    assert summary["human_mean"] == pytest.approx(3.0)
    assert summary["human_std"] == pytest.approx(math.sqrt(2 / 3))
    assert summary["within_image_std"] == pytest.approx(math.sqrt(1 / 3))  # only the first image has two scores


def test_nothing_parsed_is_nan_and_no_error() -> None:
    summary = score_statistics(torch.full((2, 2), NAN), torch.tensor([1.0, 5.0]), torch.zeros(2, 2))
    assert summary["parse_rate"] == 0 and summary["zero_advantage_share"] == 1
    assert math.isnan(summary["unique_ratio"]) and math.isnan(summary["predicted_mean"])
