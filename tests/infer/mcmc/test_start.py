"""Where chains start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import brancher.distributions as dist
from brancher import optim, plate, sample
from brancher.errors import NonFiniteError
from brancher.infer import HMC, MCMC, SVI, Predictive, Trace_ELBO, init_to_draw
from brancher.infer.autoguide import AutoNormal
from brancher.infer.initialization import init_to_uniform
from brancher.infer.mcmc import rng
from brancher.infer.mcmc.start import find_start

Tensor = torch.Tensor


def start(value: Any) -> Tensor:
    """Starts of 64 chains in one dimension, for a density without slope."""
    density = SimpleNamespace(like=torch.zeros(0), dim=1, why_bad=lambda position: "site 'x'")
    keys = rng.chain_keys(3, torch.arange(64))
    return find_start(density, lambda x: (value(x[:, 0]), torch.zeros_like(x)), keys, init_to_uniform)


def test_finite_density_keeps_the_first_proposals() -> None:
    plain = start(torch.zeros_like)
    assert plain.abs().max() <= 2.0 and plain.std() > 1.0
    assert torch.equal(start(lambda x: torch.full_like(x, -1e10)), plain)


def test_chains_do_not_start_where_the_density_is_infinite() -> None:
    assert bool((start(lambda x: torch.where(x > -1.0, -torch.inf, 0.0)) <= -1.0).all())


def test_chains_do_not_start_where_steps_would_vanish() -> None:
    assert bool((start(lambda x: torch.where(x > 0.0, -1e30, 0.0)) <= 0.0).all())


def test_chains_start_on_a_slope_where_there_is_nothing_else() -> None:
    assert start(lambda x: torch.full_like(x, -1e30)).shape == (64, 1)


def test_no_finite_density_error() -> None:
    with pytest.raises(NonFiniteError, match="chain 0.*after 100 tries: site 'x'"):
        start(lambda x: torch.full_like(x, torch.nan))


def model(y: Tensor) -> None:
    mu = sample("mu", dist.Normal(0.0, 10.0))
    scale = sample("scale", dist.HalfNormal(10.0))
    with plate("row", len(y)):
        sample("y", dist.Normal(mu, scale), obs=y)


def test_chains_start_at_draws_of_a_fitted_guide() -> None:
    y = torch.tensor([100.0, 101.0, 102.0])
    guide = AutoNormal(model)
    SVI(model, guide, optim.Adam({"lr": 0.3}), Trace_ELBO()).run(300, y, progress=False, compile=False)
    draws = Predictive(model, guide=guide, num_samples=50, return_sites=["mu", "scale"])(y)
    still = HMC(model, 1e-6, num_steps=1, adapt_step_size=False, init_strategy=init_to_draw(draws=draws))
    mcmc = MCMC(still, 1, 0, num_chains=4, compile=False, progress=False, seed=0)
    mcmc.run(y)
    found = mcmc.get_samples()
    for mu, scale in zip(found["mu"], found["scale"], strict=True):
        apart = (draws["mu"] - mu).abs() + (draws["scale"] - scale).abs()
        assert float(apart.min()) < 1e-3
    assert len(set(found["mu"].tolist())) > 1
