"""Four small models whose data can be simulated, for the joint tests of samplers."""

from __future__ import annotations

import torch

import brancher.distributions as dist
from brancher import plate, sample


def location_scale(y=None):
    mu = sample("mu", dist.Normal(0.0, 1.0))
    scale = sample("scale", dist.Gamma(3.0, 3.0))
    with plate("row", 5):
        sample("y", dist.Normal(mu, scale), obs=y)


def groups(y=None):
    mu = sample("mu", dist.Normal(0.0, 1.0))
    tau = sample("tau", dist.HalfNormal(1.0))
    with plate("group", 3):
        z = sample("z", dist.Normal(0.0, 1.0))
        sample("y", dist.StudentT(6.0, mu + tau * z, 0.5), obs=y)


def rates(y=None):
    shares = sample("shares", dist.Dirichlet(torch.tensor([2.0, 1.0, 3.0])))
    with plate("day", 4):
        sample("y", dist.Normal((shares * torch.tensor([0.0, 1.0, 2.0])).sum(-1, keepdim=True), 0.5), obs=y)


def nested(y=None):
    a = sample("a", dist.Uniform(0.0, 1.0))
    b = sample("b", dist.Uniform(0.0, a))
    sample("y", dist.Normal(a - b, 0.3), obs=y)


MODELS = [location_scale, groups, rates, nested]
