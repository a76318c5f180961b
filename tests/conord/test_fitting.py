"""The objective and the optimiser of `recipes/conord.py` against their formulas, item by item."""

import math

import ordinal_formulas as formulas
import pytest
import torch
from torch import nn

from mriqa.conord.fitting import TrainingSettings, build_optimizer, set_rate
from mriqa.conord.objective import LOSSES, LossSettings, Objective
from mriqa.heads import HeadError, ReferencePoints, conord_loss
from mriqa.heads.linear_reading import LinearReading

RANKS = torch.tensor([10.0, 20.0, 20.0, 35.0])


class Encoder(nn.Module):
    """A linear projection to the unit sphere in place of a ConOrdModel."""

    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(6, 3)
        self.reading = LinearReading(3)
        self.reading.standardise(RANKS)

    def mean_embedding(self, x_BVF):
        return nn.functional.normalize(nn.functional.normalize(self.projection(x_BVF), dim=2).mean(dim=1), dim=1)


def objective(**options):
    """An objective, and one draw of one view of each item."""
    torch.manual_seed(0)
    made = Objective(Encoder(), ReferencePoints(RANKS, 3), LossSettings(**options)).double()
    return made, torch.randn(4, 1, 1, 6).double()


@pytest.mark.parametrize(("options", "share"), [
    ({}, 1 / 4), ({"center_reduction": "mean"}, 1 / 4), ({"center_reduction": "sum"}, 1.0),
    ({"center_reduction": "sum", "center_weight": 0.3}, 0.3), ({"center_weight": 0.0}, 0.0),
])  # fmt: skip
def test_the_centre_loss_is_a_mean_over_the_batch_or_the_sum_of_eq_8(options, share):
    made, x = objective(**options)
    z = made.model.mean_embedding(x[:, 0])
    place = {10.0: 0, 20.0: 1, 35.0: 2}
    points = [made.points.points[place[rank]] for rank in RANKS.tolist()]
    distances = sum(
        math.sqrt(sum((a - b) ** 2 for a, b in zip(*pair))) for pair in zip(z.tolist(), torch.stack(points).tolist())
    )
    assert made(x, RANKS).item() == pytest.approx(conord_loss(z, RANKS).item() + share * distances, rel=1e-6)


@pytest.mark.parametrize("own", [None, 2e-3, 0.0])
def test_reference_points_have_the_rate_of_all_else_or_their_own_on_the_same_schedule(own):
    settings = TrainingSettings(1e-4, epochs=10, warmup_epochs=2, points_learning_rate=own)
    made, x = objective(weighting="X")
    optimizer = build_optimizer(made, settings)
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    assert made.weighting is not None
    assert groups.keys() == {id(parameter) for parameter in made.parameters()}  # each once, and those of the weighting
    for epoch, factor in ((0.0, 1.0), (2.0, 5.0), (6.0, 2.5), (10.0, 0.0)):  # five times the base, then half a cosine
        set_rate(optimizer, settings.rate(epoch))
        assert groups[id(made.points.points)]["lr"] == pytest.approx((1e-4 if own is None else own) * factor, abs=1e-12)
        assert groups[id(made.model.projection.weight)]["lr"] == pytest.approx(1e-4 * factor, abs=1e-12)
    before = made.points.points.detach().clone()
    set_rate(optimizer, settings.rate(2.0))
    made(x, RANKS).backward()
    optimizer.step()
    step = (made.points.points - before).abs().max().item()  # the first step of Adam is the rate, and 0.2 % of decay
    assert step == pytest.approx(5 * (1e-4 if own is None else own), rel=0.01)


def by_the_formula(name, z, ranks, made):
    """A loss as the papers' loops have it; ranks that share a bin are one class."""
    rows = z.tolist()
    if name in ("l1", "mse"):
        mean = sum(RANKS.tolist()) / 4
        std = math.sqrt(sum((rank - mean) ** 2 for rank in RANKS.tolist()) / 4)
        weight, bias = made.model.reading.linear.weight[0].tolist(), made.model.reading.linear.bias.item()
        errors = [
            sum(w * one for w, one in zip(weight, row)) + bias - (rank - mean) / std for row, rank in zip(rows, ranks)
        ]
        return sum(abs(error) if name == "l1" else error**2 for error in errors) / len(rows)
    bins = [round(rank / 4) for rank in ranks]
    return {
        "conord": lambda: formulas.conord(rows, ranks, "VI", 0.2, 1e-3),
        "mae": lambda: formulas.mae(rows, ranks, 0.2),
        "supcon": lambda: formulas.supcon(rows, bins, 0.2),
        "rnc": lambda: formulas.rnc(rows, ranks, 1.5),
        "ocl": lambda: formulas.ocl(rows, bins, 0.3),
    }[name]()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_by_name_is_its_formula_with_its_own_temperature_and_weight(name):
    made, _ = objective(
        loss=name, loss_weight=0.7, center_weight=0.0, weighting="VI", tau=0.2, eps=1e-3, rnc_tau=1.5, ocl_tau=0.3,
        bin_width=4.0,
    )  # fmt: skip
    torch.manual_seed(1)
    x = torch.randn(4, 2, 3, 6).double()  # two draws of three views each
    z = torch.stack([made.model.mean_embedding(x[:, draw])[item] for item in range(4) for draw in range(2)])
    ranks = [rank for rank in RANKS.tolist() for _ in range(2)]
    assert made(x, RANKS).item() == pytest.approx(0.7 * by_the_formula(name, z, ranks, made), rel=1e-6)


def test_the_centre_loss_alone_is_all_that_is_left_without_the_other():
    alone, x = objective(loss_weight=0.0)
    both, _ = objective()
    assert alone(x, RANKS).item() == pytest.approx(
        both(x, RANKS).item() - conord_loss(both.model.mean_embedding(x[:, 0]), RANKS).item(), rel=1e-6
    )


def test_a_reading_gives_ranks_on_their_scale_and_refuses_others():
    reading = LinearReading(3, 2)
    ranks = torch.tensor([[1.0, 50.0], [3.0, 50.0], [8.0, 50.0]])
    reading.standardise(ranks)  # the second number never changes
    z = torch.randn(5, 3)
    expected = torch.stack([
        torch.stack([4 + math.sqrt(26 / 3) * out[0], 50 + out[1]]) for out in reading.linear(z)
    ])  # fmt: skip
    torch.testing.assert_close(reading(z), expected)
    with pytest.raises(HeadError, match="gives 2 numbers, but the ranks have 1"):
        reading.standardise(ranks[:, 0])
    with pytest.raises(HeadError, match="Unknown regression 'huber'"):
        reading.loss(z, torch.zeros(5, 2), "huber")
    with pytest.raises(HeadError, match="trains a linear reading"):
        Objective(type("Bare", (nn.Module,), {"reading": None})(), ReferencePoints(RANKS, 3), LossSettings("l1"))
