"""What the loss trains, what several processes share of it, and what the encoder's folder and diagnosis say."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mriqa.errors import UserError
from mriqa.pretrain import quality_encoder
from mriqa.pretrain.diagnosis import feature_diagnosis
from mriqa.pretrain.graphs.graph_losses import spread_losses
from mriqa.pretrain.graphs.layout import Layout, PretrainError
from mriqa.pretrain.graphs.relations import GraphSettings
from mriqa.pretrain.pretraining_objective import ObjectiveSettings, PretrainingObjective
from mriqa.pretrain.quality_encoder import build_encoder, encoder_folder, load_quality_encoder, save_encoder

LAYOUT = Layout(1, 2, 2, 2)


def objective(**options) -> PretrainingObjective:
    torch.manual_seed(0)
    options.setdefault("relations", GraphSettings(neighbours=4))
    return PretrainingObjective(
        build_encoder("test_resnet"), ObjectiveSettings(prototypes=8, embedding=12, **options), LAYOUT
    )


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(LAYOUT.nodes, 3, 32, 32, generator=generator), torch.rand(1, 2, 2, generator=generator)


@pytest.mark.parametrize("preset", ["normalised", "literal", "released"])
def test_everything_but_a_frozen_mixture_trains(preset):
    own = objective(preset=preset)
    found = own(*pictures())
    found["loss"].backward()
    parts = {"encoder.backbone.conv1": True, "projector": True, "prototypes_KD": True, "mixture": False}
    for part, trains in parts.items():
        gradients = [p.grad for name, p in own.named_parameters() if name.startswith(part)]
        assert gradients and all((g is not None and bool(g.abs().max() > 0)) == trains for g in gradients), part
    weighted = own.settings.weights.factors(preset, 8)
    total = sum(weighted[name] * found[name] for name in weighted)
    assert found["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    assert found["omega"].sum().item() == pytest.approx(1, rel=1e-5)
    assert len(found["omega"]) == (6 if preset == "released" else 5)


def test_a_step_lowers_the_loss_of_its_batch():
    own = objective()
    optimizer = torch.optim.SGD(own.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = own(*pictures())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1


def test_coefficients_and_binary_graphs():
    images, severity = pictures()
    plain, binary = objective().eval(), objective(binary=True).eval()
    with torch.no_grad():
        found, counted = plain(images, severity), binary(images, severity)
    edges = -counted["graph"].item()  # an entry of 1 for every edge, in both directions
    assert edges == round(edges) and 0 < edges <= LAYOUT.nodes * (LAYOUT.nodes - 1)
    assert counted["invariance"] > found["invariance"]
    alone = objective(graphs=("rd",), coefficients={"rd": 0.5}).eval()
    with torch.no_grad():
        graph = alone(images, severity)["graph"].item()
    wanted = -2 * 2 * (0.5 * torch.exp(-3 * severity)).square().sum().item()  # two references, both directions
    assert graph == pytest.approx(wanted, rel=1e-5)


def test_mixed_precision_ends_at_the_encoder():
    own = objective().eval()
    images, severity = pictures()
    with torch.autocast("cpu", torch.bfloat16):
        found = own(images, severity)
    assert all(value.dtype == torch.float32 for value in found.values())
    with torch.no_grad():
        assert found["loss"].item() == pytest.approx(own(images, severity)["loss"].item(), rel=0.05)


def _one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    from mriqa.pretrain.graphs.graph_losses import shamisa_losses

    z = torch.load(f"{folder}/z.pt")[rank * LAYOUT.nodes : (rank + 1) * LAYOUT.nodes].requires_grad_()
    log_a = torch.zeros(LAYOUT.nodes, 3, dtype=z.dtype).log_softmax(dim=1)
    graph = torch.zeros(LAYOUT.nodes, LAYOUT.nodes, dtype=z.dtype)
    found = shamisa_losses(z, graph, log_a, log_a.exp(), LAYOUT, gather=True)
    (gradient,) = torch.autograd.grad(found["variance"] + found["covariance"], z)
    torch.save([found["variance"].detach(), found["covariance"].detach(), gradient], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_that_gather_have_the_statistics_of_one(tmp_path):
    z = 0.3 * torch.randn(2 * LAYOUT.nodes, 6, dtype=torch.float64)
    torch.save(z, tmp_path / "z.pt")
    mp.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    z.requires_grad_()
    variance, covariance = spread_losses(z)
    (gradient,) = torch.autograd.grad(variance + covariance, z)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for found in parts:
        assert torch.allclose(found[0], variance) and torch.allclose(found[1], covariance)
    # DistributedDataParallel takes the mean over processes of what each of them sums up.
    assert torch.allclose(torch.cat([found[2] for found in parts]) / 2, gradient, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"preset": "printed"}, "normalised, literal, released"), ({"graphs": ("structural",)}, "no graph 'structural'"),
     ({"graphs": ()}, "no graph to learn from"), ({"coefficients": {"st": 1.0}}, "no graph 'st'")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(PretrainError, match=sentence):
        objective(**options)


def test_an_encoder_comes_back_from_its_folder(tmp_path):
    encoder = build_encoder("test_resnet").eval()
    save_encoder(encoder, tmp_path / "model", {"crop": 32}, "# card\n")
    loaded, settings = load_quality_encoder(tmp_path / "model")
    images, _ = pictures()
    with torch.no_grad():
        wanted = encoder(images)
        assert torch.equal(loaded(images), wanted)
    assert torch.allclose(wanted.norm(dim=1), torch.ones(len(images)))
    assert settings == {"crop": 32} and (tmp_path / "model" / "README.md").read_text() == "# card\n"
    with pytest.raises(PretrainError, match="there already"):
        save_encoder(encoder, tmp_path / "model", {}, "")


def test_an_encoder_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(quality_encoder, "save_file", full)
    with pytest.raises(UserError, match="model cannot be written .No space left on device."):
        save_encoder(build_encoder("test_resnet"), tmp_path / "model", {}, "")
    assert not list(tmp_path.iterdir())


def test_folders_that_hold_no_encoder_are_refused(tmp_path):
    for source, sentence in ((tmp_path / "absent", "no pretrained encoder"), (tmp_path, "holds no whole")):
        with pytest.raises(PretrainError, match=sentence):
            load_quality_encoder(source)
    about = {"format": "mriqa-shamisa-1", "architecture": "test_resnet", "mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "shamisa.json").write_text(json.dumps({**about, "settings": {}}))
    (tmp_path / "model.safetensors").write_bytes(b"half")
    with pytest.raises(PretrainError, match="save it again"):
        load_quality_encoder(tmp_path)
    (tmp_path / "shamisa.json").write_text(json.dumps({**about, "format": "other"}))
    with pytest.raises(PretrainError, match="format 'other'"):
        load_quality_encoder(tmp_path)
    with pytest.raises(PretrainError, match="no encoder of that name"):
        encoder_folder("nobody/nothing-at-all")


@pytest.mark.parametrize(("architecture", "weights", "sentence"), [
    ("resnet5O", "random", "timm knows no model"),
    ("test_resnet", "absent.safetensors", "cannot be loaded"),
])  # fmt: skip
def test_backbones_that_cannot_be_had_are_refused(architecture, weights, sentence):
    with pytest.raises(PretrainError, match=sentence):
        build_encoder(architecture, weights)


def test_lite0_has_the_weights_of_its_package():
    """On pixels as it was trained: (x - 127) / 128, with the features that timm's own network gives."""
    import timm

    from mriqa.embedded.lite_tower import imagenet_weights

    encoder = build_encoder("lite0", "imagenet").eval()
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    known = imagenet_weights()
    network.load_state_dict({name: known[name] for name in network.state_dict()})
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(network((255 * images - 127) / 128))
        assert torch.allclose(encoder(images), wanted, atol=1e-5)


def test_diagnosis_by_definition():
    full, half = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)
    cov = np.cov(np.concatenate([full.numpy(), half.numpy()], axis=1).T)
    found = feature_diagnosis(full, half)
    assert found["corr"] == pytest.approx(((cov**2).sum() - (np.diag(cov) ** 2).sum()) / 8)
    assert found["inv"] == pytest.approx(((full - half) ** 2).mean().item())
    assert found["rank"] == np.linalg.matrix_rank(cov)
    equal = torch.ones(5, 3)
    assert feature_diagnosis(equal, equal) == {"corr": 0, "inv": 0, "rank": 0}


def test_an_encoder_file_can_be_the_start(tmp_path: Path):
    encoder = build_encoder("test_resnet")
    save_encoder(encoder, tmp_path / "model", {}, "")
    again = build_encoder("test_resnet", str(tmp_path / "model" / "model.safetensors"))
    for name, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(again.backbone.state_dict()[name], tensor)
