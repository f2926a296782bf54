from __future__ import annotations

from typing import Any

import torch

import brancher.distributions as dist
from brancher import plate, sample
from brancher.infer import Trace_ELBO


def test_guides_follow_the_models_device(make_guide: Any, device: torch.device) -> None:
    y = torch.ones(4).to(device)
    one = torch.ones(()).to(device)

    def model() -> None:
        mu = sample("mu", dist.Normal(0.0 * one, one))
        sigma = sample("sigma", dist.LogNormal(0.0 * one, one))
        with plate("row", 4):
            sample("y", dist.Normal(mu, sigma), obs=y)

    guide = make_guide(model).setup()
    Trace_ELBO().differentiable_loss(model, guide).backward()
    assert {p.device for p in guide.parameters()} == {y.device}
    assert all(torch.isfinite(p.grad).all().cpu() for p in guide.parameters())
