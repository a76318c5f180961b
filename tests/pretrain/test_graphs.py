"""Graphs and losses equal loops over their definitions, don't depend on the order of images, and stop gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shamisa_by_definition as definition
import torch

from mriqa.pretrain import GraphSettings, Layout, assignments, relation_edges, relation_graphs, shamisa_losses, sinkhorn
from mriqa.pretrain.graphs import edges as edges_module
from mriqa.pretrain.graphs.edges import mixed, squared_distances
from mriqa.pretrain.graphs.graph_losses import PRESETS, LossWeights
from mriqa.pretrain.graphs.graph_mixture import GraphMixture
from mriqa.pretrain.graphs.layout import PretrainError
from mriqa.pretrain.graphs.prototypes import prototype_logits
from mriqa.pretrain.graphs.relations import GRAPHS
from mriqa.pretrain.graphs.released import released_edges, released_losses

SMALL = Layout(1, 2, 1, 1)
OPTIONS = {"kappa": 2.5, "w_rr": 0.6, "neighbours": 4, "top_dd": 40, "top_ot": 50}


def batch(sizes, width=7, prototypes=5, embedding=6, seed=0, dtype=torch.float64):
    layout = Layout(*sizes)
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    severity = torch.rand(sizes[0], sizes[2], sizes[3], generator=generator, dtype=torch.float64).to(dtype)
    return layout, severity, draw(layout.nodes, width), draw(layout.nodes, embedding), 0.5 * draw(prototypes, width)


@pytest.mark.parametrize("sizes", [(2, 3, 2, 2), (1, 2, 3, 3), (3, 1, 2, 2), (2, 2, 1, 1), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("chunk", [2**18, 16], ids=["one block", "many blocks"])
def test_everything_by_definition(sizes, chunk, monkeypatch):
    monkeypatch.setattr(edges_module, "CHUNK_NUMBERS", chunk)
    monkeypatch.setattr("mriqa.pretrain.graphs.relations.CHUNK_NUMBERS", chunk)
    layout, severity, h, z, c = batch(sizes)
    graphs = relation_graphs(layout, severity, h, c, **OPTIONS, temperature=0.2)
    wanted = definition.graphs(
        sizes, severity.numpy(), h.numpy(), c.numpy(), kappa=2.5, w_rr=0.6, k_n=4, K_d=40, K_g=50, tau=0.2
    )
    for name in GRAPHS:
        assert np.abs(graphs[name].numpy() - wanted[name]).max() < 1e-12, name
    log_a = assignments(h, c, 0.2)
    assert np.abs(log_a.numpy() - definition.log_assignments(h.numpy(), c.numpy(), 0.2)).max() < 1e-12
    logits = prototype_logits(h, c)
    for rounds in (1, 6):
        wanted_t = definition.balanced(logits.numpy(), 0.1, rounds)
        assert np.abs(sinkhorn(logits, 0.1, rounds).numpy() - wanted_t).max() < 1e-12
    t = sinkhorn(logits, 0.1)
    assert np.abs(t.numpy() - definition.balanced(logits.numpy(), 0.1, 5000)).max() < 1e-9

    omega = torch.tensor([0.3, 0.25, 0.1, 0.2, 0.15], dtype=torch.float64)
    edges = relation_edges(layout, severity, h, log_a, GraphSettings(**OPTIONS))
    graph = mixed(list(edges.values()), omega)
    dense = sum(weight * wanted[name] for weight, name in zip(omega.numpy(), GRAPHS))
    for normalised in (True, False):
        found = shamisa_losses(z, graph, log_a, t, layout, normalised)
        expected = definition.losses(sizes, z.numpy(), dense, log_a.tolist(), t.tolist(), normalised)
        assert {name: loss.item() for name, loss in found.items()} == pytest.approx(expected, rel=1e-10)


def permuted(layout, severity, nodes_N, *rows, seed=1):
    """The same images with tiny-batches, references, groups and levels in another order."""
    order = np.random.default_rng(seed)
    sizes = (layout.tiny_batches, layout.references, layout.groups, layout.levels)
    i, j, k, m = (order.permutation(size).tolist() for size in sizes)
    references = layout.reference_nodes()[i][:, j].flatten()
    distorted = layout.distorted_nodes()[i][:, j][:, :, k][:, :, :, m].flatten()
    moved = torch.cat([references, distorted])
    assert sorted(moved.tolist()) == nodes_N
    return severity[i][:, k][:, :, m], *(row[moved] for row in rows)


def test_the_order_of_images_does_not_matter():
    layout, severity, h, z, c = batch((2, 3, 4, 5), dtype=torch.float64)
    settings = GraphSettings()

    def losses(severity, h, z):
        log_a = assignments(h, c, 0.1)
        edges = relation_edges(layout, severity, h, log_a, settings)
        torch.manual_seed(0)
        omega = GraphMixture(GRAPHS).double()(edges)
        t = sinkhorn(prototype_logits(h, c), 0.05)
        return shamisa_losses(z, mixed(list(edges.values()), omega), log_a, t, layout)

    before, after = losses(severity, h, z), losses(*permuted(layout, severity, list(range(layout.nodes)), h, z))
    for name in before:
        assert after[name].item() == pytest.approx(before[name].item(), rel=1e-10)


def test_no_gradient_passes_the_graphs_unless_asked():
    layout, severity, h, z, c = batch((2, 2, 2, 2))
    h.requires_grad_()
    c.requires_grad_()
    for make in (relation_edges, released_edges):
        for gradient in (False, True):
            edges = make(layout, severity, h, assignments(h, c, 0.2), GraphSettings(neighbours=3, gradient=gradient))
            omega = torch.full((len(edges),), 0.2, dtype=torch.float64)
            graph, log_a = mixed(list(edges.values()), omega), assignments(h, c, 0.2).detach()
            losses = shamisa_losses(z, graph, log_a, torch.ones(20, 5), layout)
            loss = losses["invariance"] + losses["graph"]
            assert loss.requires_grad == gradient
            if gradient:
                for weights in torch.autograd.grad(loss, [h, c]):
                    assert weights.abs().max() > 0 and weights.isfinite().all()


def test_values_with_gradient_are_the_values_without():
    layout, severity, h, _, c = batch((2, 2, 2, 2))
    for make in (relation_edges, released_edges):
        plain, live = (
            make(layout, severity, h, assignments(h, c, 0.2), GraphSettings(neighbours=3, gradient=gradient))
            for gradient in (False, True)
        )
        for name in plain:
            assert torch.allclose(plain[name].dense(), live[name].dense(), atol=1e-14)


@pytest.mark.parametrize("kind", ["frozen", "learned", "fixed"])
def test_what_trains_the_mixture(kind):
    layout, severity, h, z, c = batch((2, 2, 2, 2))
    log_a = assignments(h, c, 0.2)
    edges = relation_edges(layout, severity, h, log_a, GraphSettings(neighbours=3))
    mixture = GraphMixture(GRAPHS, kind).double()
    omega = mixture(edges)
    assert omega.sum().item() == pytest.approx(1) and (omega > 0).all()
    losses = shamisa_losses(z.requires_grad_(), mixed(list(edges.values()), omega), log_a, log_a.exp(), layout)
    (losses["invariance"] + losses["graph"]).backward()
    trained = [parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in mixture.parameters()]
    assert all(trained) and trained if kind == "learned" else not any(trained)
    assert omega.requires_grad == (kind == "learned")


def test_distances_and_their_gradients(monkeypatch):
    monkeypatch.setattr(edges_module, "CHUNK_NUMBERS", 10)
    z = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    first, second = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([1, 5, 2, 4, 5])
    assert torch.allclose(squared_distances(z, first, second), (z[first] - z[second]).square().sum(dim=1))
    assert torch.autograd.gradcheck(lambda z: squared_distances(z, first, second), z)
    assert squared_distances(z, first[:0], second[:0]).shape == (0,)


def test_the_invariance_pulls_each_pair_together():
    layout, severity, h, z, c = batch((2, 2, 2, 2))
    graph = relation_graphs(layout, severity, h, c, **OPTIONS)["ot"]
    z.requires_grad_()
    log_a = assignments(h, c, 0.1)
    (gradient,) = torch.autograd.grad(shamisa_losses(z, graph, log_a, log_a.exp(), layout)["invariance"], z)
    for i in range(layout.nodes):
        pull = sum((graph[i, j] + graph[j, i]) * (z[i] - z[j]) for j in range(layout.nodes))
        assert torch.allclose(gradient[i], 2 * pull / z.numel(), atol=1e-14)


def test_half_precision_is_left_at_the_door():
    layout, severity, h, z, c = batch((2, 2, 2, 2), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        log_a = assignments(h.bfloat16(), c, 0.1)
        t = sinkhorn(prototype_logits(h.bfloat16(), c), 0.05)
        edges = relation_edges(layout, severity, h.bfloat16(), log_a, GraphSettings())
        losses = shamisa_losses(z.bfloat16(), mixed(list(edges.values()), torch.full((5,), 0.2)), log_a, t, layout)
    assert {tensor.dtype for tensor in (log_a, t, *losses.values())} == {torch.float32}
    assert all(edge.weight_E.dtype == torch.float32 for edge in edges.values())


def test_more_edges_than_there_are():
    layout, severity, h, _, c = batch((1, 2, 1, 2))
    graphs = relation_graphs(layout, severity, h, c, neighbours=100, top_dd=10**6, top_ot=10**6)
    assert (graphs["knn"].diagonal() == 0).all() and graphs["knn"].count_nonzero() <= 30
    assert (
        graphs["ot"].count_nonzero() == 30
    )  # all but the diagonal; the smallest entry's partner keeps the mean above 0


@pytest.mark.parametrize("preset", PRESETS)
def test_equal_features_and_empty_ones_give_no_nan(preset):
    layout, severity, _, _, c = batch((1, 2, 2, 2), dtype=torch.float32)
    for value in (0.0, 0.3):
        h = torch.full((layout.nodes, 7), value, requires_grad=True)
        z = (h[:, :6] * 2).contiguous()
        log_a = assignments(h, c, 0.1)
        t = sinkhorn(prototype_logits(h, c), 0.05, 100, tolerance=1e-4)
        make = released_edges if preset == "released" else relation_edges
        edges = make(layout, severity, h, log_a, GraphSettings(gradient=preset == "released"))
        assert len(edges["ot"].first_E) == 0
        graph = mixed(list(edges.values()), GraphMixture(list(edges))(edges))
        if preset == "released":
            losses = released_losses(z, graph, log_a, t, layout)
        else:
            losses = shamisa_losses(z, graph, log_a, t, layout, preset == "normalised")
        factors = LossWeights().factors(preset, len(c))
        total = sum(factors[name] * loss for name, loss in losses.items())
        total.backward()
        assert total.isfinite() and h.grad.isfinite().all()


def test_transport_inside_gamma_only_where_it_was_tuned_so():
    weights = LossWeights()
    assert weights.factors("normalised", 32)["ot"] == pytest.approx(1.3548, abs=1e-4)
    assert weights.factors("normalised", 32)["graph"] == pytest.approx(3.0214, abs=1e-2)
    assert weights.factors("literal", 32)["ot"] == 0.4906 and weights.factors("literal", 32)["graph"] == 0.0342


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda: Layout(0, 1, 1, 1), "tiny_batches"),
        (lambda: GraphSettings(falloff="linear"), "exponential, reciprocal"),
        (lambda: GraphMixture(GRAPHS, "free"), "frozen, learned, fixed"),
        (lambda: GraphMixture([]), "no graph"),
        (lambda: GraphMixture(GRAPHS, "fixed", [1.0]), "5 graphs"),
        (lambda: relation_graphs(SMALL, torch.zeros(1, 1, 1), torch.ones(5, 2), torch.ones(2, 2)), "4 images"),
        (lambda: relation_graphs(SMALL, torch.zeros(1, 2, 1), torch.ones(4, 2), torch.ones(2, 2)), "severities"),
    ],
)
def test_refusals(change, sentence):
    with pytest.raises(PretrainError, match=sentence):
        change()


def test_structural_pairs_are_of_equal_parity():
    layout = Layout(1, 6, 1, 1)
    found = released_edges(
        layout, torch.zeros(1, 1, 1), torch.eye(12), assignments(torch.eye(12), torch.eye(3, 12), 0.1), GraphSettings()
    )["structural"]
    wanted = {(6 + a, 6 + b) for a, b in itertools.combinations(range(6), 2) if a % 2 == b % 2}
    assert set(zip(found.first_E.tolist(), found.second_E.tolist())) == wanted
