"""Every algorithm, a few steps on a second device: any mix-up of devices raises there."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from brancher import distributions as dist
from brancher import get_param_store, module, optim, param, plate, sample
from brancher.distributions import constraints
from brancher.errors import BrancherWarning
from brancher.infer import (
    MCMC,
    NUTS,
    SVI,
    Importance,
    Predictive,
    RandomWalk,
    Trace_ELBO,
    TraceMeanField_ELBO,
    log_likelihood,
)


def regression(device):
    x = torch.linspace(-1.0, 1.0, 8).to(device)
    zero, one = torch.zeros(2).to(device), torch.ones(()).to(device)

    def model(x, y=None):
        w = sample("w", dist.Normal(zero, one).to_event(1))
        scale = sample("scale", dist.LogNormal(zero[0], one))
        with plate("row", len(x), device=device):
            return sample("y", dist.Normal(w[..., 0:1] + w[..., 1:2] * x, scale), obs=y)

    def guide(x, y=None):
        loc = param("loc", zero)
        spread = param("spread", torch.ones(2).to(device), constraint=constraints.positive)
        sample("w", dist.Normal(loc, spread).to_event(1))
        sample("scale", dist.LogNormal(param("s", zero[0]), one * 0.1))

    return model, guide, x, 2 * x


def test_svi(device):
    model, guide, x, y = regression(device)
    for loss in (Trace_ELBO(), Trace_ELBO(num_particles=3, vectorize_particles=False), TraceMeanField_ELBO()):
        losses = [SVI(model, guide, optim.Adam({"lr": 0.01}), loss).step(x, y) for _ in range(2)]
        assert all(map(math.isfinite, losses))
    assert all(leaf.device == device for leaf in get_param_store().unconstrained().values())


def test_svi_of_a_discrete_site(device):
    def model():
        k = sample("k", dist.Bernoulli(torch.full((3,), 0.5).to(device)).to_event(1))
        sample("y", dist.Normal(k.sum(-1), torch.ones(()).to(device)), obs=torch.ones(()).to(device))

    def guide():
        sample("k", dist.Bernoulli(logits=param("logits", torch.zeros(3).to(device))).to_event(1))

    svi = SVI(model, guide, optim.SGD({"lr": 0.1}))
    assert math.isfinite(svi.step()) and math.isfinite(svi.step())


def test_svi_of_a_module(device):
    net = torch.nn.Linear(1, 1).to(device)

    def model(x, y):
        module("net", net)
        with plate("row", len(x), device=device):
            sample("y", dist.Normal(net(x).squeeze(-1), 1.0), obs=y)

    x = torch.ones(4, 1).to(device)
    assert math.isfinite(SVI(model, lambda x, y: None, optim.SGD({"lr": 0.1})).step(x, x.squeeze(-1)))


def test_checkpoint(device, tmp_path):
    model, guide, x, y = regression(device)
    svi = SVI(model, guide, optim.Adam({"lr": 0.01}))
    svi.step(x, y)
    svi.save(tmp_path / "run")
    svi.load(tmp_path / "run")
    assert get_param_store()["loc"].device == device and math.isfinite(svi.step(x, y))


def test_predictive_and_importance(device):
    model, guide, x, y = regression(device)
    SVI(model, guide).step(x, y)
    draws = Predictive(model, guide=guide, num_samples=4)(x)
    assert draws["y"].shape == (4, 8) and draws["y"].device == device
    assert log_likelihood(model, {"w": draws["w"], "scale": draws["scale"]}, x, y)["y"].device == device
    importance = Importance(model, guide, num_samples=5)
    importance.run(x, y)
    assert math.isfinite(float(importance.log_evidence.cpu()))


@pytest.mark.parametrize("kernel", [NUTS, RandomWalk])
def test_mcmc(device, kernel):
    model, _, x, y = regression(device)
    mcmc = MCMC(kernel(model), num_samples=4, warmup_steps=1, num_chains=2, progress=False, compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrancherWarning)  # five steps are too few to go well
        mcmc.run(x, y)
    assert mcmc.get_samples()["w"].shape == (8, 2) and mcmc.get_samples()["w"].device == device
    assert mcmc.summary()["sd"].notna().all()
