"""Pathfinder: exact on normal posteriors, honest on others."""

from __future__ import annotations

import math

import pytest
import torch

import brancher.distributions as dist
from brancher import deterministic, handlers, plate, sample
from brancher.errors import BrancherWarning, InferenceError, NonFiniteError, UnsupportedError
from brancher.infer import Pathfinder, init_to_draw
from brancher.infer.mcmc import HMC, MCMC
from brancher.infer.mcmc.integrator import value_and_grad
from brancher.infer.mcmc.quasi_newton import climb, normal_at

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
COV = torch.tensor([[4.0, 1.0, 0.0], [1.0, 1.0, 0.2], [0.0, 0.2, 0.25]], dtype=torch.float64)


def gaussian(position):
    return dist.MultivariateNormal(MEAN, COV).log_prob(position)


def model(y):
    mu = sample("mu", dist.Normal(0.0, 10.0))
    scale = sample("scale", dist.HalfNormal(2.0))
    deterministic("twice", 2 * mu)
    with plate("row", coords=["a", "b", "c"]):
        sample("y", dist.Normal(mu, scale), obs=y)


Y = torch.tensor([1.0, 2.0, 4.0])


def last_point(start):
    return list(climb(value_and_grad(gaussian), start, 100, 6))[-1]


def test_climb_finds_the_mode_of_every_path():
    start = torch.tensor([[5.0, 5.0, 5.0], [-9.0, 0.0, 1.0]], dtype=torch.float64)
    point = last_point(start)
    assert torch.allclose(point.position, MEAN.expand(2, 3), atol=1e-4)


def test_a_path_does_not_depend_on_its_neighbours():
    start = torch.tensor([[5.0, 5.0, 5.0], [-9.0, 0.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(last_point(start)[0][:1], last_point(start[:1])[0], rtol=1e-12)


def covariance(law):
    root = law.draw(torch.eye(3, dtype=torch.float64)[None])[0][0] - law.mean
    return root.mT @ root


def test_an_iterate_on_the_way_has_the_covariance():
    start = torch.tensor([[5.0, 5.0, 5.0]], dtype=torch.float64)
    laws = [normal_at(point) for point in climb(value_and_grad(gaussian), start, 100, 6)]
    # Inexact line searches leave the inverse Hessian inexact; the best of some ten iterates is near.
    assert min(float((covariance(law) - COV).abs().max()) for law in laws) < 0.05


def test_draws_bear_their_own_density():
    law = normal_at(last_point(torch.tensor([[5.0, 5.0, 5.0]], dtype=torch.float64)))
    noise = torch.randn(1, 7, 3, dtype=torch.float64)
    draws, density = law.draw(noise)
    expected = dist.MultivariateNormal(law.mean[0], covariance(law)).log_prob(draws[0])
    assert torch.allclose(density[0], expected)


def test_conjugate_posterior_is_found():
    # mu | y ~ N(7/4, 1/4). 4000 draws by importance: |error| < 5 standard errors of the mean and the sd.
    def conjugate(y):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        with plate("row", 3):
            sample("y", dist.Normal(mu, 1.0), obs=y)

    paths = Pathfinder(conjugate, num_samples=4000, seed=1)
    paths.run(Y)
    draws = paths.get_samples()["mu"]
    assert float(draws.mean()) == pytest.approx(1.75, abs=5 * 0.5 / math.sqrt(2000))
    assert float(draws.std()) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(4000))
    assert paths.pareto_k < 0.7 and paths.elbo.shape == (4,)


def test_bound_is_the_evidence_where_the_posterior_is_normal():
    def conjugate(y):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(mu, 1.0), obs=y)

    paths = Pathfinder(conjugate, seed=1)
    paths.run(torch.tensor(2.0))
    evidence = float(dist.Normal(0.0, math.sqrt(2.0)).log_prob(torch.tensor(2.0)))
    assert float(paths.elbo.max()) == pytest.approx(evidence, abs=0.05)


def test_draws_are_labelled_and_reproducible():
    frames = []
    for _ in range(2):
        paths = Pathfinder(model, num_samples=50, seed=3)
        paths.run(Y)
        frames.append(paths.to_frame())
    assert list(frames[0]) == ["mu", "scale", "twice"] and frames[0].equals(frames[1])
    assert "hpdi_5%" in paths.summary() and paths.get_samples(7)["mu"].shape == (7,)


@pytest.mark.filterwarnings("ignore:Pathfinder")
def test_run_leaves_no_handler_and_no_random_state_behind():
    before = torch.get_rng_state()
    Pathfinder(model, num_paths=1, num_samples=100, seed=3).run(Y)
    assert handlers.stack.current() == () and torch.equal(before, torch.get_rng_state())


def test_unbounded_density_is_survived():
    def centred():
        scale = sample("scale", dist.HalfCauchy(5.0))
        with plate("row", 4):
            sample("theta", dist.Normal(0.0, scale))

    paths = Pathfinder(centred, num_samples=200, max_iterations=60, seed=0)
    with pytest.warns(BrancherWarning, match="Pareto k"):
        paths.run()
    assert bool(torch.isfinite(paths.get_samples()["theta"]).all())


def test_draws_start_chains():
    paths = Pathfinder(model, num_samples=50, seed=3)
    paths.run(Y)
    kernel = HMC(
        model,
        step_size=1e-6,
        num_steps=1,
        adapt_step_size=False,
        init_strategy=init_to_draw(draws=paths.get_samples()),
    )
    mcmc = MCMC(kernel, 1, 0, num_chains=3, compile=False, progress=False, seed=0)
    mcmc.run(Y)
    for value in mcmc.get_samples()["mu"]:
        assert float((paths.get_samples()["mu"] - value).abs().min()) < 1e-3


@pytest.mark.parametrize("name", ["num_paths", "num_samples", "max_iterations", "history", "num_elbo_draws"])
def test_bad_number_error(name):
    with pytest.raises(InferenceError, match=f"expected {name} as an int >= 1"):
        Pathfinder(model, **{name: 0})


def test_samples_before_run_error():
    with pytest.raises(InferenceError, match="call run"):
        Pathfinder(model).get_samples()


def test_discrete_site_error():
    with pytest.raises(UnsupportedError, match="Pathfinder site 'k'"):
        Pathfinder(lambda: sample("k", dist.Poisson(1.0))).run()


def test_no_finite_start_error():
    def bad():
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("culprit", dist.Uniform(x + 100, x + 101, validate_args=False), obs=torch.tensor(0.0))

    with pytest.raises(NonFiniteError, match="culprit"):
        Pathfinder(bad).run()
