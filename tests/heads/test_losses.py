"""The ordinal losses against plain loops over the papers' formulas, their gradients, and their hard cases."""

import math

import numpy as np
import ordinal_formulas as formulas
import pytest
import torch
import torch.nn.functional as F

from mriqa.heads import (
    WEIGHTING_NAMES,
    HeadError,
    LearnableWeighting,
    angular_gaps,
    conord_loss,
    l2_gaps,
    mae_loss,
    ocl_loss,
    rnc_loss,
    supcon_loss,
)
from mriqa.heads.weightings import WEIGHTINGS

LOSSES = [conord_loss, mae_loss, supcon_loss, rnc_loss, ocl_loss]
EVERY = [*LOSSES, *(lambda z, r, n=name, **kw: conord_loss(z, r, n, **kw) for name in WEIGHTINGS)]


def batch(seed=0, count=9, width=5, dtype=torch.float64):
    """Unit embeddings and ranks 0..100, some of them tied and some nearly."""
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(count, width, generator=generator, dtype=torch.float64), dim=1)
    ranks = (torch.rand(count, generator=generator, dtype=torch.float64) * 100).round(decimals=1)
    ranks[1] = ranks[0]
    if count > 4:
        ranks[3], ranks[4] = ranks[2] + 0.3, ranks[2] + 10.0
    return z.to(dtype), ranks


@pytest.mark.parametrize("tau", [0.07, 0.5])
@pytest.mark.parametrize("name", formulas.TABLE_14)
def test_every_weighting_equals_the_papers_formula(name, tau):
    for seed in range(3):
        z, ranks = batch(seed)
        expected = formulas.conord(z.tolist(), ranks.tolist(), name, tau)
        assert conord_loss(z, ranks, name, tau).item() == pytest.approx(expected, rel=1e-9)
        assert conord_loss(z.float(), ranks, name, tau).item() == pytest.approx(expected, rel=1e-5)


def test_all_thirteen_are_there():
    assert [*list(formulas.TABLE_14)[:9], "X", *list(formulas.TABLE_14)[9:]] == WEIGHTING_NAMES


@pytest.mark.parametrize("loss, formula, tau", [
    (mae_loss, formulas.mae, 0.07), (supcon_loss, formulas.supcon, 0.07), (rnc_loss, formulas.rnc, 2.0),
])  # fmt: skip
def test_the_other_losses_equal_their_formulas(loss, formula, tau):
    for seed in range(3):
        z, ranks = batch(seed)
        ranks = ranks.div(20, rounding_mode="floor") if seed == 2 else ranks  # many ties
        assert loss(z, ranks).item() == pytest.approx(formula(z.tolist(), ranks.tolist(), tau), rel=1e-9)


def test_ocl_equals_what_its_authors_code_computes():
    z, ranks = batch(3, count=12)
    levels = ranks.div(20, rounding_mode="floor")
    levels[11] = 40  # no other is of this rank
    assert ocl_loss(z, levels).item() == pytest.approx(formulas.ocl(z.tolist(), levels.tolist(), 0.1), rel=1e-9)
    assert ocl_loss(z, 2.5 * levels, bin_width=2.5).item() == pytest.approx(ocl_loss(z, levels).item(), rel=1e-9)


def test_rnc_takes_embeddings_that_lie_on_no_sphere():
    z, ranks = batch()
    z = 7 * z * torch.arange(1, 10, dtype=z.dtype)[:, None]
    assert rnc_loss(z, ranks).item() == pytest.approx(formulas.rnc(z.tolist(), ranks.tolist()), rel=1e-9)


def test_gradient_of_an_anchors_own_term_is_eq_6():
    """Eq. 6 leaves out what z_i does as a partner, so each anchor is moved while the others' copies stand still."""
    z, ranks = batch()
    own = torch.zeros_like(z)
    for i in range(len(z)):
        moving = z[i].clone().requires_grad_()
        loss = conord_loss(torch.where(torch.arange(len(z))[:, None] == i, moving, z), ranks)
        (both,) = torch.autograd.grad(loss, moving)
        own[i] = both - as_partner(z, ranks, i)
    expected = torch.tensor(formulas.conord_gradient(z.tolist(), ranks.tolist()), dtype=z.dtype)
    torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-12)


def as_partner(z, ranks, i, tau=0.07, eps=1e-7):
    """What z_i does in the terms of the other anchors, by differentiating their formula."""
    moving, total = z[i].clone().requires_grad_(), 0.0
    for anchor in range(len(z)):
        if anchor == i:
            continue
        gap2 = torch.stack([(ranks[anchor] - ranks[j]) ** 2 for j in range(len(z)) if j != anchor])
        partners = torch.stack([moving if j == i else z[j] for j in range(len(z)) if j != anchor])
        e = torch.exp(-((z[anchor] - partners) ** 2).sum(1) / tau)
        total = total - torch.log((e / (gap2 + eps)).sum() / (e * gap2).sum()) / (len(z) - 1) / len(z)
    return torch.autograd.grad(total, moving)[0]


@pytest.mark.parametrize("loss", EVERY)
def test_gradients_are_those_of_the_values(loss):
    z, ranks = batch()
    assert torch.autograd.gradcheck(lambda z: loss(z, ranks, tau=0.5), z.requires_grad_())


@pytest.mark.parametrize("loss", EVERY)
def test_hard_cases_give_finite_values_and_gradients(loss):
    cases = {
        "a pair": torch.tensor([3.0, 40.0]),
        "a tied pair": torch.tensor([3.0, 3.0]),
        "all tied": torch.full((6,), 50.0),
        "huge gaps": torch.tensor([0.0, 1.0, 1e6, 1e12, 1e30, -1e30]),
        "tiny gaps": torch.tensor([0.0, 1e-30, 1e-20, 1e-10, 1e-6, 1.0]),
    }
    for ranks in cases.values():
        for tau in (0.01, 2.0):
            for dtype in (torch.float16, torch.bfloat16, torch.float32):
                z = batch(count=6, dtype=dtype)[0][: len(ranks)]
                z[1] = z[0]  # a distance of nothing has a gradient too
                z.requires_grad_()
                value = loss(z, ranks, tau=tau)
                value.backward()
                assert value.dtype == torch.float32 and value.isfinite() and z.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_does_not_make_it_coarse(loss):
    z, ranks = batch(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(z, ranks).item() == pytest.approx(loss(z.double(), ranks).item(), rel=1e-5)


def test_tied_anchors_contribute_nothing():
    """One stranger among tied items: it repels them and they it, and no anchor is without a partner that repels."""
    z, _ = batch(count=4)
    assert conord_loss(z, torch.ones(4)).item() == 0
    ranks = [1.0, 1.0, 1.0, 9.0]
    assert conord_loss(z, torch.tensor(ranks)).item() == pytest.approx(formulas.conord(z.tolist(), ranks, "VIII"))


def test_learnable_weighting_starts_at_viii_and_learns():
    z, ranks = batch()
    ranks = ranks.clamp_max(100).round().unique()  # X's disparity of tied ranks is ε, not 0
    z = z[: len(ranks)]
    weights = LearnableWeighting()
    loss = conord_loss(z.requires_grad_(), ranks, weights)
    assert loss.item() == pytest.approx(conord_loss(z, ranks).item(), rel=1e-5)
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in weights.parameters()) and z.grad.abs().sum() > 0
    with pytest.warns(UserWarning, match="'X' by name alone stays"):
        assert conord_loss(z, ranks, "X").item() == pytest.approx(loss.item(), rel=1e-5)


def test_vector_ranks_by_a_distance_of_their_own():
    z, _ = batch()
    gaze = torch.stack([torch.linspace(-40, 10, 9), torch.linspace(45, -45, 9) ** 2 / 45], dim=1).double()
    unit = [(math.cos(p) * math.sin(y), math.sin(p), math.cos(p) * math.cos(y)) for p, y in np.deg2rad(gaze.tolist())]
    expected = [[math.degrees(math.acos(min(1.0, formulas.dot(u, v)))) for u in unit] for v in unit]
    torch.testing.assert_close(angular_gaps(gaze), torch.tensor(expected).double(), rtol=1e-7, atol=1e-5)
    line = torch.tensor([0.0, 3.0, 4.0, 9.0, 11.0, 30.0, 42.0, 57.0, 90.0]).double()
    as_vectors = torch.stack([0.6 * line, 0.8 * line], dim=1)
    for loss in (conord_loss, mae_loss, rnc_loss):
        assert loss(z, as_vectors, distance=l2_gaps).item() == pytest.approx(loss(z, line).item(), rel=1e-9)
        assert loss(z, gaze, distance=angular_gaps).isfinite()


def test_supcon_with_bins_and_views():
    z, ranks = batch(count=6)
    views, twice = torch.cat([z, z.flip(1)]), torch.cat([ranks, ranks])
    expected = formulas.supcon(views.tolist(), (twice / 5).round().tolist(), 0.1)
    assert supcon_loss(views, twice, 0.1, bin_width=5.0).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("call, sentence", [
    (lambda z, r: conord_loss(z * math.nan, r), "9 of 9 embeddings hold NaN"),
    (lambda z, r: rnc_loss(z, r * math.nan), "ranks are NaN or infinite"),
    (lambda z, r: conord_loss(z[:1], r[:1]), "batches of at least two"),
    (lambda z, r: conord_loss(z, r[:3]), "9 embeddings but ranks of shape .3,."),
    (lambda z, r: conord_loss(z[0], r), "must have the shape .B, D."),
    (lambda z, r: conord_loss(z, r, "XIV"), "Unknown weighting 'XIV'"),
    (lambda z, r: conord_loss(z, r, tau=0.0), "tau must be a finite number above 0"),
    (lambda z, r: mae_loss(z, r, similarity_kind="cos"), "Unknown similarity 'cos'"),
    (lambda z, r: conord_loss(z, r, distance=lambda ranks: ranks), "give .B, B."),
])  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(HeadError, match=sentence):
        call(*batch())


def test_nothing_larger_than_the_matrix_of_pairs_is_held():
    """Every tensor that any loss makes, forward or backward, for 48 items of width 4 has at most 48 × 48 numbers."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            made = function(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, (list, tuple)) else [made]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return made

    for loss in EVERY:
        z, ranks = batch(count=48, width=4)
        z.requires_grad_()
        with Watch():
            loss(z, ranks).backward()
    assert 47 * 48 <= largest <= 48 * 48
