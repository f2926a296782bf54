"""The bound ELBO is a torch module: ``DistributedDataParallel`` trains it like any other."""

from __future__ import annotations

import pytest
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from brancher import distributions as dist
from brancher import plate, sample
from brancher.infer import Trace_ELBO
from brancher.infer.autoguide import AutoNormal


def model(y):
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 100, subsample=torch.arange(len(y))):
        sample("y", dist.Normal(mu, 1.0), obs=y)


def share(rank, folder, results):
    """Train on one half of the data; the gradients are averaged with those of the other half."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2
    )
    y = torch.linspace(0.0, 1.0, 100)[rank::2]
    torch.manual_seed(0)
    guide = AutoNormal(model).setup(y)
    loss = DistributedDataParallel(Trace_ELBO(num_particles=10)(model, guide))
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss(y).backward()
        optimizer.step()
    torch.save({k: v.detach() for k, v in guide.state_dict().items()}, f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_one_guide(tmp_path):
    torch.multiprocessing.spawn(share, args=(tmp_path, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    loc = next(value for name, value in first.items() if "locs" in name)
    # Exact: 50 / 101; Adam wanders by about 0.03 at this rate and posterior scale 0.1.
    assert abs(float(loc) - 50 / 101) < 0.12
