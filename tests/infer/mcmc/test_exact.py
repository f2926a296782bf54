"""Draws against exact moments.

Every case has an effective sample size of 1e4 or more (5e3 for squares). Each moment is within 4 of its own
Monte Carlo standard errors: 6e-5 of false alarms a moment, some 80 moments, so that one seed in 200 fails.
"""

from __future__ import annotations

import math

import pytest
import torch

import brancher.distributions as dist
from brancher import sample
from brancher.infer.diagnostics import ess_bulk, mcse_mean
from brancher.infer.mcmc import HMC, MCMC, NUTS, ChEES, RandomWalk
from brancher.staging import is_available

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_available(), reason="eager sampling takes minutes"),
    pytest.mark.filterwarnings("ignore:MCMC"),
]


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def draws_of(kernel, draws=6000, chains=4):
    mcmc = MCMC(kernel, draws, 1000, num_chains=chains, seed=5, progress=False)
    mcmc.run()
    return mcmc.get_samples(group_by_chain=True)


def check(draws, expected, least=1e4):
    """Compare the mean of ``(chains, draws, *event)`` with what it should be."""
    assert float(ess_bulk(draws).min()) >= least
    z = (draws.mean((0, 1)) - torch.as_tensor(expected)) / mcse_mean(draws)
    assert float(z.abs().max()) < 4, z


def pair():
    cov = torch.tensor([[1.0, 1.0], [1.0, 4.0]])
    sample("x", dist.MultivariateNormal(torch.tensor([0.0, 3.0]), cov))


KERNELS = {
    "nuts": (lambda: NUTS(pair), 8000, 4),
    "nuts, dense": (lambda: NUTS(pair, full_mass=True), 8000, 4),
    "nuts, gradients": (lambda: NUTS(pair, mass_from_gradients=True), 8000, 4),
    "hmc": (lambda: HMC(pair, trajectory_length=1.0), 8000, 4),
    "chees": (lambda: ChEES(pair), 1000, 64),
    "random walk": (lambda: RandomWalk(pair), 6000, 64),
}


@pytest.mark.parametrize("name", KERNELS)
def test_two_dimensional_gaussian(name):
    make, count, chains = KERNELS[name]
    x = draws_of(make(), count, chains)["x"]
    check(x, [0.0, 3.0])
    centred = x - torch.tensor([0.0, 3.0])
    check(
        torch.stack([centred[..., 0] ** 2, centred[..., 1] ** 2, centred.prod(-1)], -1), [1.0, 4.0, 1.0], 5e3
    )


def test_ten_dimensional_gaussian():
    x = draws_of(NUTS(lambda: sample("x", dist.Normal(torch.full((10,), 2.0), 3.0).to_event(1))))["x"]
    check(x, torch.full((10,), 2.0))
    check((x - 2) ** 2, torch.full((10,), 9.0), 5e3)


LAWS = {
    "uniform": (dist.Uniform, (0.0, 1.0)),
    "beta": (dist.Beta, (2.0, 5.0)),
    "gamma": (dist.Gamma, (2.0, 3.0)),
    "dirichlet": (dist.Dirichlet, (torch.tensor([1.0, 2.0, 3.0]).double(),)),
}


@pytest.mark.parametrize("name", LAWS)
def test_law_on_its_support(name):
    family, args = LAWS[name]
    law = family(*args)
    x = draws_of(NUTS(lambda: sample("x", family(*args))), 8000)["x"]
    check(x, law.mean, 5e3)
    check((x - law.mean) ** 2, law.variance, 5e3)


def test_student_t():
    # The fourth moment is infinite, so that the spread is tested by shares inside bounds.
    x = draws_of(NUTS(lambda: sample("x", dist.StudentT(4.0, 0.0, 1.0))), 8000)["x"]
    check(x, 0.0)
    stats = pytest.importorskip("scipy.stats")
    bounds = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
    check((x[..., None] < bounds).double(), torch.as_tensor(stats.t.cdf(bounds.numpy(), 4)), 5e3)


def test_lkj_entries():
    # An entry of a correlation matrix of size d under LKJ(eta) is 2 Beta(a, a) - 1, a = eta - 1 + d / 2.
    factor = draws_of(NUTS(lambda: sample("x", dist.LKJCholesky(3, 5.0))), 8000)["x"]
    correlation = factor @ factor.mT
    entries = torch.stack([correlation[..., 1, 0], correlation[..., 2, 0], correlation[..., 2, 1]], -1)
    check(entries, torch.zeros(3))
    check(entries**2, torch.full((3,), 1 / (2 * (5 - 1 + 3 / 2) + 1)), 5e3)


def test_support_that_depends_on_a_latent():
    def nested():
        a = sample("a", dist.Uniform(0.0, 1.0))
        sample("b", dist.Uniform(0.0, a))

    draws = draws_of(NUTS(nested, target_accept_prob=0.95), 12000)
    a, b = draws["a"], draws["b"]
    assert bool((b < a).all())
    check(torch.stack([a, b, a * a, b * b, a * b], -1), [1 / 2, 1 / 4, 1 / 3, 1 / 9, 1 / 6], 5e3)
    check((-a.log()), 1.0, 5e3)


def test_conjugate_posterior_in_single_precision():
    torch.set_default_dtype(torch.float32)
    y = torch.tensor([1.0, 2.0, 4.0])

    def model():
        mu = sample("mu", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(mu, 1.0).expand([3]).to_event(1), obs=y)

    mu = draws_of(NUTS(model))["mu"].double()
    check(mu, 7 / 4, 5e3)
    check((mu - 7 / 4) ** 2, 1 / 4, 5e3)
    assert math.isfinite(float(mu.sum()))
