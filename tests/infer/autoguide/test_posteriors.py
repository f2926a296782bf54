"""Fitted guides against posteriors known in closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import brancher.distributions as dist
from brancher import factor, plate, sample
from brancher.errors import InferenceError
from brancher.infer import SVI, Trace_ELBO
from brancher.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from brancher.optim import ClippedAdam

Y = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0])


def normal_normal(y: torch.Tensor) -> None:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", len(y)):
        sample("y", dist.Normal(mu, 1.0), obs=y)


def gamma_poisson(y: torch.Tensor) -> None:
    rate = sample("rate", dist.Gamma(2.0, 1.0))
    with plate("row", len(y)):
        sample("y", dist.Poisson(rate), obs=y)


def beta_binomial() -> None:
    p = sample("p", dist.Beta(1.0, 1.0))
    sample("y", dist.Binomial(30, p), obs=torch.tensor(24.0))


def regression(x: torch.Tensor, y: torch.Tensor) -> None:
    w = sample("w", dist.Normal(torch.zeros(x.shape[1]), 2.0).to_event(1))
    with plate("row", len(y)):
        sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)


def fit(guide: Any, *args: Any, steps: int = 600, lr: float = 0.05, num_particles: int = 20) -> Any:
    """Adam with a rate that falls to zero, so that the last steps average the noise out."""
    guide.setup(*args)
    loss = Trace_ELBO(num_particles, vectorize_particles=num_particles > 1)(guide.model, guide)
    optimizer = torch.optim.Adam(guide.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(1.0 - step / steps, 1e-3))
    for _ in range(steps):
        optimizer.zero_grad()
        loss(*args).backward()
        optimizer.step()
        schedule.step()
    return guide


NORMALS = [AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal, AutoLowRankMultivariateNormal]


@pytest.mark.parametrize("kind", NORMALS, ids=lambda kind: kind.__name__)
def test_normal_posterior_is_met(kind: Any) -> None:
    guide = fit(kind(normal_normal), Y, steps=300, num_particles=50)
    low, middle, high = guide.quantiles([0.158655, 0.5, 0.841345])["mu"].detach()
    # The family holds the posterior N(5/3, 1/6): what is left is the optimizer's noise.
    torch.testing.assert_close(middle, torch.tensor(10 / 6), rtol=0.01, atol=0)
    torch.testing.assert_close((high - low) / 2, torch.tensor(6**-0.5), rtol=0.03, atol=0)


def fit_by_run(guide: Any, *args: Any, steps: int, num_particles: int) -> SVI:
    """The same with the rate falling in a run of SVI."""
    decay = ClippedAdam({"lr": 0.05, "lrd": 1e-2 ** (1.0 / steps)})
    svi = SVI(guide.model, guide, decay, Trace_ELBO(num_particles, vectorize_particles=True))
    svi.run(steps, *args, progress=False)
    return svi


@pytest.mark.parametrize("kind", NORMALS, ids=lambda kind: kind.__name__)
def test_run_meets_the_normal_posterior(kind: Any, traces_of_run: int) -> None:
    svi = fit_by_run(kind(normal_normal), Y, steps=500, num_particles=100)
    assert svi.compile_counters.traces == traces_of_run
    low, middle, high = svi.guide.quantiles([0.158655, 0.5, 0.841345])["mu"].detach()
    torch.testing.assert_close(middle, torch.tensor(10 / 6), rtol=0.01, atol=0)
    torch.testing.assert_close((high - low) / 2, torch.tensor(6**-0.5), rtol=0.03, atol=0)


def _regression_data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(30, 3, generator=generator)
    x[:, 1] += 0.8 * x[:, 0]
    y = x @ torch.tensor([1.0, -2.0, 1.5]) + 0.5 * torch.randn(30, generator=generator)
    precision = torch.eye(3) / 4.0 + x.T @ x / 0.25
    covariance = torch.linalg.inv(precision)
    return x, y, covariance @ (x.T @ y) / 0.25, covariance


def test_regression_mean_and_covariance_to_two_percent() -> None:
    x, y, mean, covariance = _regression_data()
    guide = fit(AutoMultivariateNormal(regression), x, y, steps=500, num_particles=300)
    posterior = guide.get_posterior()
    torch.testing.assert_close(posterior.mean, mean, rtol=0.02, atol=0)
    scale = covariance.diagonal().sqrt()
    error = (posterior.covariance_matrix - covariance) / (scale[:, None] * scale)
    assert error.abs().max() < 0.02


def test_run_meets_regression_mean_and_covariance(traces_of_run: int) -> None:
    x, y, mean, covariance = _regression_data()
    svi = fit_by_run(AutoMultivariateNormal(regression), x, y, steps=600, num_particles=300)
    assert svi.compile_counters.traces == traces_of_run
    posterior = svi.guide.get_posterior()
    torch.testing.assert_close(posterior.mean, mean, rtol=0.02, atol=0)
    scale = covariance.diagonal().sqrt()
    assert ((posterior.covariance_matrix - covariance) / (scale[:, None] * scale)).abs().max() < 0.02


def test_laplace_is_exact_for_a_normal_posterior() -> None:
    x, y, mean, covariance = _regression_data()
    x, y, mean, covariance = (t.double() for t in (x, y, mean, covariance))
    guide = AutoLaplaceApproximation(regression).setup(x, y).double()
    optimizer = torch.optim.LBFGS(guide.parameters(), max_iter=100, line_search_fn="strong_wolfe")
    loss = Trace_ELBO()(regression, guide)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(x, y)
        value.backward()
        return value

    optimizer.step(closure)
    posterior = guide.laplace_approximation(x, y).get_posterior()
    # Float32 data were widened, so prior and data agree to 1e-6 of the closed form.
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(posterior.covariance_matrix, covariance, rtol=1e-4, atol=1e-7)


def test_laplace_away_from_a_maximum_error() -> None:
    def saddle() -> None:
        x = sample("x", dist.ImproperUniform(dist.constraints.real))
        factor("f", x**2)

    with pytest.raises(InferenceError, match="expected a positive definite curvature"):
        AutoLaplaceApproximation(saddle).laplace_approximation()


def test_delta_finds_the_mode_on_the_support() -> None:
    y = torch.tensor([3.0, 1.0, 4.0])
    guide = fit(AutoDelta(gamma_poisson), y, num_particles=1)
    # Gamma(2 + 8, 1 + 3) has its mode at 9 / 4.
    torch.testing.assert_close(guide.median()["rate"].detach(), torch.tensor(2.25), rtol=1e-3, atol=0)


def test_gamma_poisson_posterior_is_the_best_log_normal() -> None:
    y = torch.tensor([3.0, 1.0, 4.0])
    guide = fit(AutoNormal(gamma_poisson), y, steps=400, num_particles=200)
    # Of all log-normals, the one closest to Gamma(10, 4) has its mean and log-variance 1 / 10.
    torch.testing.assert_close(guide.scales.rate.detach(), torch.tensor(0.1**0.5), rtol=0.03, atol=0)
    mean = (guide.locs.rate + guide.scales.rate**2 / 2).exp().detach()
    torch.testing.assert_close(mean, torch.tensor(2.5), rtol=0.01, atol=0)


@pytest.mark.parametrize("kind", [AutoNormal, pytest.param(AutoIAFNormal, marks=pytest.mark.slow)])
def test_beta_binomial_posterior(kind: Any) -> None:
    guide = fit(kind(beta_binomial), steps=400, num_particles=100)
    draws = guide.sample_posterior(100_000)["p"]
    # Beta(25, 7): mean .7812, sd .0720; a logit-normal is within 1 % and 5 % of them.
    torch.testing.assert_close(draws.mean(), torch.tensor(0.78125), rtol=0.01, atol=0)
    torch.testing.assert_close(draws.std(), torch.tensor(0.0720), rtol=0.08, atol=0)


def test_evidence_bound_is_tight_for_a_normal_posterior() -> None:
    guide = fit(AutoMultivariateNormal(normal_normal), Y, steps=300)
    loss = Trace_ELBO(2000, vectorize_particles=True).loss(normal_normal, guide, Y)
    assert loss == pytest.approx(8.407, abs=0.01)  # minus the exact log evidence


@pytest.mark.slow
def test_flow_bends_where_a_normal_can_not() -> None:
    def ring() -> None:
        x = sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        sample("y", dist.Normal(x[..., 1] - x[..., 0] ** 2, 0.1), obs=torch.tensor(0.0))

    losses = {}
    for kind in (AutoMultivariateNormal, AutoIAFNormal):
        guide = fit(kind(ring), steps=800, lr=0.02)
        losses[kind.__name__] = Trace_ELBO(2000, vectorize_particles=True).loss(ring, guide)
    assert losses["AutoIAFNormal"] < losses["AutoMultivariateNormal"] - 0.3
