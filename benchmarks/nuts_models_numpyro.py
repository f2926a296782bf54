"""The posteriors of ``nuts_models.py`` in NumPyro, with the same densities and the same scans by doubling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.nn import logsumexp
from numpyro.distributions import constraints


def free(name: str, support: Any = constraints.real, shape: tuple[int, ...] = ()) -> Any:
    return numpyro.sample(name, dist.ImproperUniform(support, (), shape))


def ark(y: Any, order: int) -> None:
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = numpyro.sample("beta", dist.Normal(jnp.zeros(order), 10.0).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    lags = jnp.stack([y[order - 1 - k : len(y) - 1 - k] for k in range(order)], -1)
    numpyro.sample("y", dist.Normal(alpha + (lags * beta).sum(-1), sigma), obs=y[order:])


def regression(features: Any, y: Any, proper_scale: bool) -> None:
    beta = free("beta", constraints.real_vector, (features.shape[1],))
    sigma = (
        numpyro.sample("sigma", dist.HalfCauchy(2.5)) if proper_scale else free("sigma", constraints.positive)
    )
    numpyro.sample("y", dist.Normal((features * beta).sum(-1), sigma), obs=y)


def schools(y: Any, scale: Any) -> None:
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(y)):
        z = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu + tau * z, scale), obs=y)


def garch(y: Any, sigma1: float) -> None:
    mu = free("mu")
    alpha0 = free("alpha0", constraints.positive)
    alpha1 = numpyro.sample("alpha1", dist.Uniform(0.0, 1.0))
    beta1 = numpyro.sample("beta1", dist.Uniform(0.0, 1 - alpha1))
    numpyro.factor("flat", jnp.log1p(-alpha1))
    square = (y - mu) ** 2
    variance = jnp.concatenate([jnp.full((1,), sigma1**2), alpha0 + alpha1 * square[:-1]])
    power, shift = beta1, 1
    while shift < len(y):
        past = jnp.concatenate([jnp.zeros(shift), variance[:-shift]])
        variance, power, shift = variance + power * past, power**2, 2 * shift
    numpyro.sample("y", dist.Normal(mu, jnp.sqrt(variance)), obs=y)


def gp(x: Any, y: Any) -> None:
    rho = numpyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    cov = alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x[None, :]) / rho) ** 2) + sigma * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), cov), obs=y)


def hmm(y: Any) -> None:
    rows = [numpyro.sample(f"theta{k}", dist.Dirichlet(jnp.ones(2))) for k in (1, 2)]
    mu = free("mu", constraints.positive_ordered_vector, (2,))
    numpyro.factor("prior", dist.Normal(jnp.array([3.0, 10.0]), 1.0).log_prob(mu).sum())
    emission = dist.Normal(mu, 1.0).log_prob(y[:, None])
    step = jnp.log(jnp.stack(rows)) + emission[1:, None, :]
    while step.shape[0] > 1:
        if step.shape[0] % 2:
            step = jnp.concatenate([step, jnp.log(jnp.eye(2))[None]])
        step = logsumexp(step[0::2][..., :, :, None] + step[1::2][..., None, :, :], -2)
    numpyro.factor("likelihood", logsumexp(emission[0][:, None] + step[0]))


def mixture(y: Any) -> None:
    theta = numpyro.sample("theta", dist.Beta(5.0, 5.0))
    mu = free("mu", constraints.ordered_vector, (2,))
    sigma = numpyro.sample("sigma", dist.HalfNormal(jnp.full((2,), 2.0)).to_event(1))
    numpyro.factor("mu_prior", dist.Normal(0.0, 2.0).log_prob(mu).sum())
    each = dist.Normal(mu, sigma).log_prob(y[:, None])
    weights = jnp.stack([jnp.log(theta), jnp.log1p(-theta)])
    numpyro.factor("likelihood", logsumexp(weights + each, -1).sum())


def groups(y: Any, group: Any, count: int) -> None:
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("group", count):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal((mu + tau * z)[group], sigma), obs=y)


MODELS: dict[str, Callable[..., None]] = {
    "arK": ark,
    "logearn_interaction_z": regression,
    "kidscore_interaction": regression,
    "eight_schools_noncentered": schools,
    "garch11": garch,
    "gp_regr": gp,
    "hmm_example": hmm,
    "low_dim_gauss_mix": mixture,
    "groups": groups,
}
