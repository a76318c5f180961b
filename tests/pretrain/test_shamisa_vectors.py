"""Every graph, assignment, target, loss and gradient equals the exact cases that were computed elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mriqa.pretrain import GraphSettings, Layout, assignments, relation_edges, relation_graphs, shamisa_losses, sinkhorn
from mriqa.pretrain.graphs.edges import mixed
from mriqa.pretrain.graphs.graph_losses import LossWeights, spread_losses, total_loss, transport_loss
from mriqa.pretrain.graphs.graph_mixture import GraphMixture
from mriqa.pretrain.graphs.prototypes import prototype_logits
from mriqa.pretrain.graphs.relations import GRAPHS
from mriqa.pretrain.graphs.released import released_edges, released_losses

DENSE = {
    "rd": "G_rd_symmetric",
    "dd": "G_dd",
    "rr": "G_rr",
    "knn": "G_knn_symmetric_mean",
    "ot": "G_ot_symmetric_mean",
}


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request) -> torch.dtype:
    return request.param


def near(found: Any, wanted: Any, relative: float = 1e-5) -> None:
    """1e-9 in float64, 1e-5 of the largest number in float32."""
    found = torch.as_tensor(found)
    exact = found.dtype == torch.float64
    wanted = torch.tensor(wanted, dtype=torch.float64)
    assert found.shape == wanted.shape
    difference = (found.double() - wanted).abs().max().item() if wanted.numel() else 0.0
    assert difference <= (1e-9 if exact else relative) * max(1.0, wanted.abs().max().item())


class Case:
    def __init__(self, case: dict[str, Any], dtype: torch.dtype):
        self.inputs, self.outputs = case["inputs"], case["outputs"]
        inputs = self.inputs
        self.layout = Layout(inputs["B"], inputs["R"], inputs["C"], inputs["L"])
        self.level = torch.tensor(inputs["level"], dtype=dtype)
        self.h, self.z, self.c = (torch.tensor(inputs[name], dtype=dtype) for name in ("H", "Z", "prototypes"))
        self.omega = torch.tensor(inputs["omega"], dtype=dtype)
        self.settings = GraphSettings(
            inputs["kappa"], w_rr=inputs["w_rr"], neighbours=inputs["k_n"], top_dd=inputs["K_d"], top_ot=inputs["K_g"]
        )

    def log_a(self) -> torch.Tensor:
        return assignments(self.h, self.c, self.inputs["tau_c"])

    def targets(self, rounds: int | None = None) -> torch.Tensor:
        return sinkhorn(prototype_logits(self.h, self.c), self.inputs["sinkhorn_eps"], rounds)

    def edges(self, settings: GraphSettings | None = None):
        return relation_edges(self.layout, self.level, self.h, self.log_a(), settings or self.settings)

    def graph(self):
        return mixed(list(self.edges().values()), self.omega)


@pytest.fixture(params=["A", "B"])
def case(request, vectors, dtype) -> Case:
    if request.param not in vectors:
        pytest.skip(f"case {request.param} is not in the file")
    return Case(vectors[request.param], dtype)


def test_node_order_is_the_layout(case):
    references, distorted = case.layout.reference_nodes(), case.layout.distorted_nodes()
    for node in case.inputs["nodes"]:
        i, j, k, level = (node[name] for name in ("tiny_batch", "reference", "group", "level"))
        assert node["index"] == (references[i, j] if node["kind"] == "ref" else distorted[i, j, k, level])


def test_graphs(case):
    inputs = case.inputs
    graphs = relation_graphs(
        case.layout, case.level, case.h, case.c, kappa=inputs["kappa"], w_rr=inputs["w_rr"], neighbours=inputs["k_n"],
        top_dd=inputs["K_d"], top_ot=inputs["K_g"], temperature=inputs["tau_c"], epsilon=inputs["sinkhorn_eps"],
    )  # fmt: skip
    assert list(graphs) == inputs["omega_order"] == list(GRAPHS)
    for name, graph in graphs.items():
        near(graph, case.outputs[DENSE[name]])
    for name, edges in case.edges().items():
        count, total = edges.statistics()
        assert count == case.outputs["stats"][name]["nnz"]
        near(total, case.outputs["stats"][name]["sum"])
    near(case.graph().dense(), case.outputs["G"])
    whole = case.edges(GraphSettings(inputs["kappa"], top_dd=10**6))["dd"]
    near(whole.dense(), case.outputs["G_dd_before_topk"])


def test_other_choices_of_transport_edges(case):
    def dense(**options):
        return case.edges(GraphSettings(top_ot=case.inputs["K_g"], **options))["ot"].dense()

    selfs = torch.tensor(case.outputs["G_ot_directed_selfs_removed_before_topk"], dtype=torch.float64)
    near(dense(selfs_first=True), ((selfs + selfs.T) / 2).tolist())
    row = torch.tensor(case.outputs["G_ot_rowwise_top3_directed"], dtype=torch.float64)
    near(dense(top_ot_of_row=3), ((row + row.T) / 2).tolist())


def test_assignments_and_targets(case):
    near(case.log_a(), case.outputs["log_A"])
    near(case.log_a().exp(), case.outputs["A"])
    near(case.targets(), case.outputs["T_converged"])
    near(case.targets(6), case.outputs["T_6_rounds"])


def test_losses_and_totals(case):
    weights = LossWeights(**case.inputs["weights"])
    factors = weights.factors("literal", case.inputs["K"])  # η and ξ outside γ in both of the file's totals
    for name, normalised in (("losses_literal", False), ("losses_normalised", True)):
        wanted = case.outputs[name]
        by_name = {"variance": "var", "covariance": "cov", "invariance": "inv", "graph": "graph", "ot": "ot"}
        for graph in (case.graph(), case.graph().dense()):
            losses = shamisa_losses(case.z, graph, case.log_a(), case.targets(), case.layout, normalised)
            for term, short in by_name.items():
                near(losses[term], wanted[short])
            near(total_loss(losses, factors), wanted["total"])
    ot = transport_loss(case.log_a(), case.targets(6), case.layout)
    near(ot, case.outputs["ot_own_6_rounds"] + case.outputs["ot_cross_6_rounds"])


def test_gradients(case):
    case.z.requires_grad_()
    losses = shamisa_losses(case.z, case.graph(), case.log_a(), case.targets(), case.layout)
    for term, short in (("variance", "var"), ("covariance", "cov"), ("invariance", "inv")):
        (gradient,) = torch.autograd.grad(losses[term], case.z, retain_graph=True)
        near(gradient, case.outputs["grad_Z_normalised"][short])

    target = case.targets()
    case.h.requires_grad_()
    case.c.requires_grad_()
    ot = transport_loss(case.log_a(), target, case.layout)
    h_gradient, c_gradient = torch.autograd.grad(ot, [case.h, case.c])
    near(h_gradient, case.outputs["grad_H_of_ot"])
    near(c_gradient, case.outputs["grad_prototypes_of_ot"])

    case.omega.requires_grad_()
    weights = case.inputs["weights"]
    for dense in (False, True):
        graph = case.graph()
        losses = shamisa_losses(
            case.z.detach(), graph.dense() if dense else graph, case.log_a().detach(), target, case.layout
        )
        loss = weights["gamma"] * losses["invariance"] + weights["xi"] * losses["graph"]
        (gradient,) = torch.autograd.grad(loss, case.omega)
        near(gradient, case.outputs["grad_omega_of_gamma_inv_plus_xi_graph"])


def test_a_binary_pairing_is_the_mean_squared_error(vectors, dtype):
    inputs, wanted = vectors["binary_pairing"]["inputs"], vectors["binary_pairing"]["outputs"]
    z = torch.cat([torch.tensor(inputs[name], dtype=dtype) for name in ("Z1", "Z2")])
    half = len(z) // 2
    pairing = torch.zeros(2 * half, 2 * half, dtype=dtype)
    pairing[range(half), range(half, 2 * half)] = pairing[range(half, 2 * half), range(half)] = 1
    log_a = torch.zeros(len(z), 1, dtype=dtype)
    for normalised, name in ((True, "mse"), (False, "sum_over_ordered_pairs")):
        found = shamisa_losses(z, pairing, log_a, log_a, Layout(1, half, 1, 1), normalised)
        near(found["invariance"], wanted[name])


@pytest.mark.parametrize("name", ["two_by_two", "mild", "stress"])
def test_sinkhorn_cases(vectors, dtype, name):
    case = vectors["sinkhorn"][name]
    logits = torch.tensor(case["logits"], dtype=dtype)
    if "T" in case:
        near(sinkhorn(logits, case["eps"]), case["T"])
        return
    t = sinkhorn(logits, case["eps"], 6)
    near(t, case["T_6_rounds"], relative=1e-4 if name == "stress" else 1e-5)  # logits / ε of 160 have 1e-5 of error
    error = (t.double().sum(dim=0) / len(t) - 1 / t.shape[1]).abs().max()
    assert error.item() == pytest.approx(case["marginal_error_6_rounds"], rel=1e-3)
    if "T_converged" in case:
        near(sinkhorn(logits, case["eps"]), case["T_converged"])
        loose = sinkhorn(logits, case["eps"], 1000, tolerance=1e-4)
        assert 0 < (loose.sum(dim=0) / len(t) - 1 / t.shape[1]).abs().max() <= 1e-4


def test_negative_cosines_count_nothing(vectors, dtype):
    case = vectors["knn_negative"]
    h = torch.tensor(case["inputs"]["H"], dtype=dtype)
    layout = Layout(1, 1, 1, 4)
    log_a = torch.zeros(5, 1, dtype=dtype)
    settings = GraphSettings(neighbours=case["inputs"]["k_n"])
    knn = relation_edges(layout, torch.zeros(1, 1, 4, dtype=dtype), h, log_a, settings)["knn"]
    directed = torch.tensor(case["outputs"]["directed_clamped_at_0"], dtype=torch.float64)
    near(knn.dense(), ((directed + directed.T) / 2).tolist())
    assert knn.statistics()[0] == (directed + directed.T != 0).sum()


def test_all_images_equal(vectors, dtype):
    case = vectors["degenerate"]["all_images_equal"]
    h, c = (torch.tensor(case[name], dtype=dtype) for name in ("H", "prototypes"))
    near(sinkhorn(prototype_logits(h, c), 0.05), case["T"])
    log_a = assignments(h, c, 0.1)
    near(log_a.exp()[0], case["A_row"])
    edges = relation_edges(Layout(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=dtype), h, log_a, GraphSettings())
    assert len(edges["ot"].first_E) == 0
    assert not any(graph.dense().isnan().any() for graph in edges.values())


def test_constant_embeddings(vectors, dtype):
    case = vectors["degenerate"]["constant_Z"]
    z = torch.ones(case["Z_shape"], dtype=dtype, requires_grad=True)
    for normalised, wanted in ((True, case["var_term_each"]), (False, float(z.shape[1]))):
        variance, covariance = spread_losses(z, normalised)
        near(variance, wanted)
        assert covariance == 0
        (gradient,) = torch.autograd.grad(variance + covariance, z)
        assert gradient.isfinite().all()


def test_one_reference_and_one_level(vectors, dtype):
    case = vectors["degenerate"]["single_reference"]
    layout = Layout(case["B"], case["R"], case["C"], case["L"])
    h = torch.eye(2, 3, dtype=dtype)
    log_a = assignments(h, torch.eye(3, dtype=dtype), 0.1)
    edges = relation_edges(layout, torch.full((1, 1, 1), 0.5, dtype=dtype), h, log_a, GraphSettings())
    assert edges["rr"].statistics()[0] == case["rr_nnz"]
    assert edges["dd"].statistics()[0] == case["dd_nnz"]
    assert edges["rd"].statistics()[0] == case["rd_nnz_symmetric"]
    own = -(log_a.exp() * log_a).sum(dim=1).mean()
    near(transport_loss(log_a, log_a.exp(), layout), own.item())


def test_uniform_assignments(vectors, dtype):
    case = vectors["degenerate"]["uniform_assignment"]
    layout = Layout(2, 3, 2, 2)
    log_a = torch.zeros(layout.nodes, case["K"], dtype=dtype).log_softmax(dim=1)
    near(transport_loss(log_a, log_a.exp(), layout), case["ot_own"] + case["ot_cross"])


def test_falloff(vectors, dtype):
    case = vectors["severity"]
    u = torch.tensor(case["u"], dtype=dtype)
    near(GraphSettings(kappa=case["kappa"]).phi(u), case["phi"])
    near(GraphSettings(falloff="reciprocal").phi(u), case["phi_reciprocal_F1"])


@pytest.mark.parametrize(
    ("counts", "references"), [("default_counts", 3), ("released_counts", 6)], ids=["one scale", "two scales"]
)
def test_edge_counts_of_the_default_sizes(vectors, counts, references):
    wanted = vectors["severity"][counts]
    layout = Layout(2, references, 4, 5)
    assert layout.nodes == wanted["N"]
    h, c = torch.randn(layout.nodes, 64), torch.randn(32, 64)
    severity = torch.rand(2, 4, 5)
    edges = relation_edges(layout, severity, h, assignments(h, c, 0.1), GraphSettings(top_dd=10**6, neighbours=31))
    assert len(edges["rd"].first_E) == wanted["rd_edges"]
    assert 2 * len(edges["dd"].first_E) == wanted["dd_ordered_pairs"]
    assert 2 * len(edges["rr"].first_E) == wanted["rr_ordered_pairs"]
    if "dd_kept" in wanted:
        kept = relation_edges(layout, severity, h, assignments(h, c, 0.1), GraphSettings())["dd"]
        assert 2 * len(kept.first_E) == wanted["dd_kept"]
    assert 8 * layout.nodes == wanted["K_g"] and 31 * layout.nodes == wanted["knn_directed"]


def test_phi_by_its_own_weights(vectors, dtype):
    case = vectors["phi_example"]
    mixture = GraphMixture(GRAPHS)
    assert mixture.phi is not None
    linear, second = mixture.phi[1], mixture.phi[4]
    for layer, weight, bias in ((linear, "W1", "b1"), (second, "W2", "b2")):
        layer.weight.data, layer.bias.data = (
            torch.tensor(case["inputs"][name], dtype=dtype) for name in (weight, bias)
        )
    mixture.to(dtype)
    stats = torch.tensor(case["inputs"]["stats_nnz_sum_per_graph"], dtype=dtype)
    near(torch.softmax(mixture.phi(stats), dim=0), case["outputs"]["omega"])


def test_the_released_convention(vectors, dtype):
    case = vectors["released_convention"]
    inputs, wanted = case["inputs"], case["outputs"]
    h, z, c = (torch.tensor(inputs[name], dtype=dtype) for name in ("H", "Z", "prototypes"))
    layout = Layout(inputs["tiny_batches"], inputs["views"], inputs["groups"], inputs["L"])
    log_a = assignments(h, c, inputs["tau"])
    t = sinkhorn(prototype_logits(h, c), inputs["sinkhorn_eps"], inputs["sinkhorn_rounds"])
    near(t, wanted["codes"])
    settings = GraphSettings(
        kappa=inputs["kappa"], w_rr=1.0, neighbours=inputs["k"], top_dd=inputs["dist_dist_topk"],
        top_ot=inputs["transport_topk_per_node"] * layout.nodes, gradient=True,
    )  # fmt: skip
    level = torch.tensor(inputs["level"], dtype=dtype)
    edges = released_edges(layout, level, h, log_a, settings)
    near(edges["structural"].dense(), wanted["structural_links"])
    near(edges["knn"].dense(), wanted["knn_links_before_coefficient"])
    ours = ("structural", "rd", "rr", "dd", "knn", "ot")
    coefficients = [inputs["branch_coefficients"][name] for name in inputs["branch_order"]]
    scaled = [edges[name].scaled(coefficient) for name, coefficient in zip(ours, coefficients)]
    graph = mixed(scaled, torch.tensor(inputs["omega"], dtype=dtype))
    above = torch.tensor(wanted["merged_before_triangle"], dtype=torch.float64).triu(1)
    near(graph.dense().triu(1), above.tolist())

    losses = released_losses(z, graph, log_a, t, layout)
    near(losses["variance"], wanted["var_loss"])
    near(losses["covariance"], wanted["cov_loss"])
    near(losses["invariance"], wanted["pair_cost"] * 2)
    near(inputs["regularizer_coeff"] * losses["graph"], 2 * wanted["edge_regularizer"])
    near(inputs["pq_alignment_coeff"] / c.shape[0] * losses["ot"], 2 * wanted["alignment"])
    weights = LossWeights(
        inputs["coeff_var"], inputs["coeff_cov"], inputs["coeff_inv"],
        inputs["pq_alignment_coeff"], inputs["regularizer_coeff"],
    )  # fmt: skip
    near(total_loss(losses, weights.factors("released", len(c))), wanted["loss"])
