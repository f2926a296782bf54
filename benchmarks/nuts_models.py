"""Eight posteriors of posteriordb and a hierarchical one, written for this library.

The densities follow the Stan programs of https://github.com/stan-dev/posteriordb; recursions over time are
written as scans by doubling, which a compiled density does in a logarithmic number of passes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import brancher.distributions as dist
from brancher import plate, sample
from brancher.distributions import constraints

DATA = Path(__file__).parents[1] / "tests" / "data" / "posteriordb"


def free(name: str, support: Any = constraints.real, shape: tuple[int, ...] = ()) -> Tensor:
    """Declare a parameter with a flat prior on its support."""
    return sample(name, dist.ImproperUniform(support, (), shape))


def ark(y: Tensor, order: int) -> None:
    """Autoregression of order K."""
    alpha = sample("alpha", dist.Normal(0.0, 10.0))
    beta = sample("beta", dist.Normal(torch.zeros(order), 10.0).to_event(1))
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    lags = y.unfold(0, order, 1)[:-1].flip(-1)
    with plate("time", len(y) - order):
        loc = alpha[..., None] + (lags * beta[..., None, :]).sum(-1)
        sample("y", dist.Normal(loc, sigma[..., None]), obs=y[order:])


def regression(features: Tensor, y: Tensor, proper_scale: bool) -> None:
    """Linear regression with flat coefficients."""
    beta = free("beta", constraints.real_vector, (features.shape[1],))
    sigma = sample("sigma", dist.HalfCauchy(2.5)) if proper_scale else free("sigma", constraints.positive)
    with plate("row", len(y)):
        sample("y", dist.Normal((features * beta[..., None, :]).sum(-1), sigma[..., None]), obs=y)


def schools(y: Tensor, scale: Tensor) -> None:
    """Eight schools, non-centred."""
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("school", len(y)):
        z = sample("theta_trans", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(mu + tau * z, scale), obs=y)


def garch(y: Tensor, sigma1: float) -> None:
    """GARCH(1, 1); the support of beta1 depends on alpha1."""
    mu = free("mu")
    alpha0 = free("alpha0", constraints.positive)
    alpha1 = sample("alpha1", dist.Uniform(0.0, 1.0))
    # Flat on (0, 1 - alpha1): a uniform law, less its normalisation.
    beta1 = sample("beta1", dist.ImproperUniform(constraints.interval(0.0, 1 - alpha1), alpha1.shape))
    square = (y - mu[..., None]).square()
    start = torch.full_like(square[..., :1], sigma1**2)
    drive = torch.cat([start, alpha0[..., None] + alpha1[..., None] * square[..., :-1]], dim=-1)
    variance, power, shift = drive, beta1[..., None], 1
    while shift < len(y):
        past = torch.nn.functional.pad(variance, (shift, 0))[..., : len(y)]
        variance, power, shift = variance + power * past, power.square(), 2 * shift
    with plate("time", len(y)):
        sample("y", dist.Normal(mu[..., None], variance.sqrt()), obs=y)


def gp(x: Tensor, y: Tensor) -> None:
    """Gaussian process regression."""
    rho = sample("rho", dist.Gamma(25.0, 4.0))
    alpha = sample("alpha", dist.HalfNormal(2.0))
    sigma = sample("sigma", dist.HalfNormal(1.0))
    distance = (x[:, None] - x[None, :]) / rho[..., None, None]
    cov = alpha[..., None, None].square() * torch.exp(-0.5 * distance.square())
    cov = cov + sigma[..., None, None] * torch.eye(len(x))
    sample("y", dist.MultivariateNormal(torch.zeros(len(x)), cov), obs=y)


def hmm(y: Tensor) -> None:
    """Hidden Markov model of two normal states, the states summed out."""
    rows = [sample(f"theta{k}", dist.Dirichlet(torch.ones(2))) for k in (1, 2)]
    mu = sample("mu", dist.ImproperUniform(constraints.positive_ordered_vector, (), (2,)))
    prior = dist.Normal(torch.tensor([3.0, 10.0]), 1.0).log_prob(mu).sum(-1)
    emission = dist.Normal(mu[..., None, :], 1.0).log_prob(y[:, None])
    step = torch.stack(rows, dim=-2).log()[..., None, :, :] + emission[..., 1:, None, :]
    while step.shape[-3] > 1:
        if step.shape[-3] % 2:
            nothing = torch.zeros_like(step[..., :1, :, :]) + torch.eye(2).log()
            step = torch.cat([step, nothing], dim=-3)
        left, right = step[..., 0::2, :, :], step[..., 1::2, :, :]
        step = (left[..., :, :, None] + right[..., None, :, :]).logsumexp(-2)
    total = (emission[..., 0, :, None] + step[..., 0, :, :]).logsumexp((-2, -1))
    _add("likelihood", prior + total)


def mixture(y: Tensor) -> None:
    """Mixture of two normals in one dimension."""
    theta = sample("theta", dist.Beta(5.0, 5.0))
    mu = sample("mu", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    sigma = sample("sigma", dist.HalfNormal(torch.full((2,), 2.0)).to_event(1))
    _add("mu_prior", dist.Normal(0.0, 2.0).log_prob(mu).sum(-1))
    each = dist.Normal(mu[..., None, :], sigma[..., None, :]).log_prob(y[:, None])
    weights = torch.stack([theta.log(), torch.log1p(-theta)], dim=-1)
    _add("likelihood", (weights[..., None, :] + each).logsumexp(-1).sum(-1))


def groups(y: Tensor, group: Tensor, count: int) -> None:
    """Normal observations in groups, non-centred."""
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfNormal(2.0))
    sigma = sample("sigma", dist.HalfNormal(2.0))
    with plate("group", count):
        z = sample("z", dist.Normal(0.0, 1.0))
    theta = mu[..., None] + tau[..., None] * z if mu.dim() == 0 else mu + tau * z
    with plate("row", len(y)):
        sample("y", dist.Normal(theta[..., group], sigma), obs=y)


def _add(name: str, value: Tensor) -> None:
    from brancher import factor

    factor(name, value)


def load(name: str) -> dict[str, Any]:
    """Read the data of a posterior."""
    (folder,) = DATA.glob(f"*-{name}")
    return dict(json.loads((folder / "data.json").read_text()))


def posteriors(dtype: torch.dtype = torch.float64) -> dict[str, tuple[Callable[..., None], tuple[Any, ...]]]:
    """Model and arguments of each posterior, by posteriordb's model name."""

    def tensor(values: Any) -> Tensor:
        return torch.tensor(values, dtype=dtype)

    ar, pay, kids, gar = (
        load("arK"),
        load("logearn_interaction_z"),
        load("kidscore_interaction"),
        load("garch11"),
    )
    eight, gps = load("eight_schools_noncentered"), load("gp_regr")
    height = tensor(pay["height"])
    z = (height - height.mean()) / height.std()
    male, hs, iq = tensor(pay["male"]), tensor(kids["mom_hs"]), tensor(kids["mom_iq"])
    earn = torch.stack([torch.ones_like(z), z, male, z * male], dim=-1)
    score = torch.stack([torch.ones_like(hs), hs, iq, hs * iq], dim=-1)
    return {
        "arK": (ark, (tensor(ar["y"]), ar["K"])),
        "logearn_interaction_z": (regression, (earn, tensor(pay["earn"]).log(), False)),
        "kidscore_interaction": (regression, (score, tensor(kids["kid_score"]), True)),
        "eight_schools_noncentered": (schools, (tensor(eight["y"]), tensor(eight["sigma"]))),
        "garch11": (garch, (tensor(gar["y"]), gar["sigma1"])),
        "gp_regr": (gp, (tensor(gps["x"]), tensor(gps["y"]))),
        "hmm_example": (hmm, (tensor(load("hmm_example")["y"]),)),
        "low_dim_gauss_mix": (mixture, (tensor(load("low_dim_gauss_mix")["y"]),)),
    }


def group_data(count: int = 50, each: int = 10) -> tuple[Tensor, Tensor, int]:
    """Made-up data of the hierarchical model."""
    noise = torch.Generator().manual_seed(0)
    dtype = torch.get_default_dtype()
    theta = 1.0 + 0.7 * torch.randn(count, generator=noise, dtype=dtype)
    group = torch.arange(count).repeat_interleave(each)
    return theta[group] + torch.randn(count * each, generator=noise, dtype=dtype), group, count
