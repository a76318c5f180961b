"""Two processes with unequal shares of a batch train as one process with the whole of it."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mriqa.heads import ReferencePoints, conord_loss, rnc_loss

SHARES = [slice(0, 3), slice(3, 8)]


def whole_batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 4, generator=generator), torch.rand(8, generator=generator) * 100


def gradient(x, ranks, gather):
    """Of a linear encoder's weights."""
    encoder, points = torch.nn.Linear(4, 3), ReferencePoints(whole_batch()[1], 3)
    with torch.no_grad():
        encoder.weight.copy_(torch.arange(12.0).view(3, 4).sin())
        points.points.copy_(torch.linspace(-1, 1, points.points.numel()).view_as(points.points))
    z = torch.nn.functional.normalize(encoder(x), dim=1)
    loss = conord_loss(z, ranks, gather=gather) + rnc_loss(z, ranks, gather=gather) + points(z, ranks, gather=gather)
    loss.backward()
    return loss.detach(), encoder.weight.grad


def process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    x, ranks = whole_batch()
    loss, mean_gradient = gradient(x[SHARES[rank]], ranks[SHARES[rank]], gather=True)
    dist.all_reduce(mean_gradient)  # as DistributedDataParallel averages
    torch.save((loss, mean_gradient / 2), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_gathered_gradients_equal_those_of_one_process(tmp_path):
    mp.spawn(process, args=(str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    expected_loss, expected = gradient(*whole_batch(), gather=True)  # no process group: gathering does nothing
    for rank in range(2):
        loss, found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(loss, expected_loss)
        torch.testing.assert_close(found, expected)
