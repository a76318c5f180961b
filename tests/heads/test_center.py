"""Centre loss and its reference points."""

import math

import pytest
import torch

from mriqa.heads import HeadError, ReferencePoints, center_loss


def test_sum_of_distances_to_the_points_of_the_ranks():
    z = torch.tensor([[3.0, 4.0], [0.0, 1.0], [1.0, 1.0]])
    points, bins = torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([[2], [7]])
    ranks = torch.tensor([1.1, 3.4, 0.9])  # of width 0.5: bins 2, 7, 2
    assert center_loss(z, ranks, points, bins, bin_width=0.5).item() == pytest.approx(5 + 0 + math.sqrt(2))
    assert center_loss(z, ranks, points, bins, 0.5, "mean").item() == pytest.approx((5 + math.sqrt(2)) / 3)


def test_gradient_also_on_the_point_itself():
    points = ReferencePoints(torch.tensor([10, 20, 30]), width=3).double()
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    ranks = torch.tensor([10, 30, 10, 20])
    assert torch.autograd.gradcheck(lambda z, p: center_loss(z, ranks, p, points.point_bins_MR), (z, points.points))
    on_it = points.points.detach()[:1].clone().requires_grad_()
    points(on_it, torch.tensor([10])).backward()
    assert (on_it.grad == 0).all() and points.points.grad.isfinite().all()


def test_initialisations():
    ranks = torch.arange(2000) / 10
    spread = {}
    for init in ("random", "zeros", "trunc_normal", "kaiming_normal"):
        generator = torch.Generator().manual_seed(0)
        made = ReferencePoints(ranks, 64, init=init, generator=generator).points
        again = ReferencePoints(ranks, 64, init=init, generator=generator.manual_seed(0)).points
        assert made.shape == (201, 64) and torch.equal(made, again)
        spread[init] = made.std().item()
    assert spread["zeros"] == 0
    assert spread["random"] == pytest.approx(1 / 8, rel=0.05)
    assert spread["trunc_normal"] == pytest.approx(0.0176, rel=0.05)  # of N(0, 0.02²) cut at two deviations
    assert spread["kaiming_normal"] == pytest.approx(math.sqrt(2 / 64), rel=0.05)


def test_means_of_features_and_vector_ranks():
    ranks = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.2, 0.9]])
    points = ReferencePoints(ranks, width=2)
    z = torch.tensor([[1.0, 0.0], [0.0, 5.0], [3.0, 2.0]])
    points.set_to_means(z, ranks)
    assert points.points.tolist() == [[2.0, 1.0], [0.0, 5.0]]
    with pytest.raises(HeadError, match="1 reference points have no item"):
        points.set_to_means(z[:1], ranks[:1])


@pytest.mark.parametrize("call, sentence", [
    (lambda points, z: points(z, torch.tensor([10.0, 31.0])), "Rank 31.0 has no reference point"),
    (lambda points, z: points(z * math.nan, torch.tensor([10, 20])), "embeddings hold NaN"),
    (lambda points, z: points(z[:, :2], torch.tensor([10, 20])), "width 2, but the reference points 3"),
    (lambda points, z: points(z, torch.tensor([10, 20]), reduction="max"), "Unknown reduction 'max'"),
    (lambda points, z: ReferencePoints(torch.tensor([]), 3), "no training ranks"),
    (lambda points, z: ReferencePoints(torch.tensor([1.0]), 3, init="ones"), "Unknown initialisation 'ones'"),
])  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(HeadError, match=sentence):
        call(ReferencePoints(torch.tensor([10, 20, 30]), width=3), torch.ones(2, 3))
