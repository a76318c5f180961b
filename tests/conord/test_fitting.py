"""The objective and the optimiser of `recipes/conord.py` against their formulas, item by item."""

import math

import pytest
import torch
from torch import nn

from mriqa.conord.fitting import ConOrdObjective, TrainingSettings, build_optimizer, set_rate
from mriqa.heads import ReferencePoints, conord_loss

RANKS = torch.tensor([10.0, 20.0, 20.0, 35.0])


class Encoder(nn.Module):
    """A linear projection to the unit sphere in place of a ConOrdModel."""

    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(6, 3)

    def forward(self, x_BF):
        return nn.functional.normalize(self.projection(x_BF), dim=1)


def objective(**options):
    torch.manual_seed(0)
    return ConOrdObjective(Encoder(), ReferencePoints(RANKS, 3), **options).double(), torch.randn(4, 6).double()


@pytest.mark.parametrize(("options", "share"), [
    ({}, 1 / 4), ({"center_reduction": "mean"}, 1 / 4), ({"center_reduction": "sum"}, 1.0),
    ({"center_reduction": "sum", "center_weight": 0.3}, 0.3), ({"center_weight": 0.0}, 0.0),
])  # fmt: skip
def test_the_centre_loss_is_a_mean_over_the_batch_or_the_sum_of_eq_8(options, share):
    made, x = objective(**options)
    z = made.model(x)
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
