"""Faults that samplers meet."""

from __future__ import annotations

import math

import pytest
import torch

from brancher import distributions as dist
from brancher import get_param_store, handlers, param, plate, sample
from brancher.errors import (
    InferenceError,
    NonFiniteError,
    SiteError,
    UnknownNameError,
    UnsupportedError,
)
from brancher.handlers import stack
from brancher.infer import HMC, MCMC, NUTS, ChEES, Pathfinder, RandomWalk, init_to_median, init_to_sample

KERNELS = [NUTS, HMC, ChEES, RandomWalk]


def normal():
    sample("x", dist.Normal(0.0, 1.0))


def mcmc(kernel, model=normal, draws=2, warmup=2, **options):
    options = {"compile": False, "progress": False, "seed": 0, **options}
    return MCMC(kernel(model) if kernel is not HMC else HMC(model, num_steps=2), draws, warmup, **options)


def sampler(algorithm, model):
    """A function that runs a model by a kernel or by Pathfinder."""
    return (
        Pathfinder(model, num_samples=10).run
        if algorithm is Pathfinder
        else mcmc(algorithm, model, seed=None).run
    )


every = pytest.mark.parametrize("algorithm", [*KERNELS, Pathfinder])
kernels = pytest.mark.parametrize("kernel", KERNELS)
pytestmark = pytest.mark.filterwarnings("ignore:MCMC", "ignore:Pathfinder")


@every
def test_density_of_minus_infinity_everywhere(algorithm, refuses):
    def model():
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("culprit", dist.Uniform(x + 100, x + 101, validate_args=False), obs=torch.tensor(0.0))

    refuses(
        sampler(algorithm, model),
        NonFiniteError,
        ValueError,
        "culprit",
        "-inf",
        "tries",
        drawn=algorithm is Pathfinder,
    )


@every
def test_density_that_is_no_number(algorithm, refuses):
    def model():
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("culprit", dist.Normal(x * math.nan, 1.0, validate_args=False), obs=torch.tensor(0.0))

    refuses(
        sampler(algorithm, model), NonFiniteError, ValueError, "culprit", "NaN", drawn=algorithm is Pathfinder
    )


@pytest.mark.parametrize("strategy", [init_to_median, init_to_sample])
def test_every_strategy_names_the_culprit(strategy, refuses):
    def model():
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("culprit", dist.Uniform(x + 100, x + 101, validate_args=False), obs=torch.tensor(0.0))

    kernel = NUTS(model, init_strategy=strategy)
    run = MCMC(kernel, 2, 2, compile=False, progress=False).run
    refuses(run, NonFiniteError, ValueError, "culprit", "-inf")


@every
def test_model_without_latent_site(algorithm, refuses):
    def model():
        sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    refuses(sampler(algorithm, model), InferenceError, ValueError, "no latent site")


@every
def test_subsampled_plate(algorithm, refuses):
    def model():
        x = sample("x", dist.Normal(0.0, 1.0))
        with plate("p", 10, subsample_size=2):
            sample("y", dist.Normal(x, 1.0), obs=torch.zeros(2))

    refuses(sampler(algorithm, model), UnsupportedError, NotImplementedError, "p", "10", "2")


@every
def test_discrete_site(algorithm, refuses):
    def model():
        k = sample("k", dist.Poisson(3.0))
        sample("x", dist.Normal(k, 1.0))

    refuses(sampler(algorithm, model), UnsupportedError, NotImplementedError, "'k'", "Poisson", "sum")


@kernels
@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_number_of_samples(kernel, number, refuses):
    refuses(lambda: mcmc(kernel, draws=number), InferenceError, ValueError, "num_samples", repr(number))


@kernels
def test_no_warmup_works(kernel):
    run = mcmc(kernel, warmup=0)
    run.run()
    assert run.get_samples()["x"].shape == (2,)


@kernels
def test_misspelt_initial_name(kernel, refuses):
    run = mcmc(kernel, initial_params={"xx": torch.tensor(0.0)}).run
    refuses(run, UnknownNameError, KeyError, "'xx'", "'x'")


@kernels
def test_missing_initial_name(kernel, refuses):
    def model():
        sample("x", dist.Normal(0.0, 1.0))
        sample("zz", dist.Normal(0.0, 1.0))

    run = mcmc(kernel, model, initial_params={"x": torch.tensor(0.0)}).run
    refuses(run, UnknownNameError, KeyError, "zz")


@kernels
def test_initial_params_of_another_shape(kernel, refuses):
    run = mcmc(kernel, initial_params={"x": torch.zeros(3)}).run
    refuses(run, InferenceError, ValueError, "'x'", "(3,)")


@kernels
def test_same_seed_gives_the_same_chain(kernel):
    draws = []
    for _ in range(2):
        run = mcmc(kernel)
        run.run()
        draws.append(run.get_samples()["x"])
    assert torch.equal(*draws)


@kernels
def test_everything_else_is_left_alone(kernel):
    def model():
        scale = param("scale", torch.tensor(2.0))
        sample("x", dist.Normal(0.0, scale))

    before = torch.get_rng_state()
    mcmc(kernel, model).run()
    assert torch.equal(before, torch.get_rng_state()) and stack.current() == ()
    assert float(get_param_store()["scale"].detach()) == 2.0 and get_param_store().leaf("scale").grad is None


@kernels
def test_sites_that_change_between_calls(kernel, refuses):
    calls = []

    def model():
        calls.append(0)
        sample("x", dist.Normal(0.0, 1.0))
        if len(calls) > 3:
            sample("late", dist.Normal(0.0, 1.0))

    text = refuses(mcmc(kernel, model).run, InferenceError, RuntimeError, "late")
    assert "must not depend" in text


@kernels
def test_sites_that_vanish_between_calls(kernel, refuses):
    calls = []

    def model():
        calls.append(0)
        sample("x", dist.Normal(0.0, 1.0))
        if len(calls) < 4:
            sample("early", dist.Normal(0.0, 1.0))

    refuses(mcmc(kernel, model).run, InferenceError, RuntimeError, "early")


@every
def test_two_sites_of_one_name(algorithm, refuses):
    def model():
        sample("x", dist.Normal(0.0, 1.0))
        sample("x", dist.Normal(0.0, 1.0))

    refuses(sampler(algorithm, model), SiteError, ValueError, "'x'")


@kernels
def test_an_exception_of_the_model_reaches_the_caller(kernel):
    def model():
        sample("x", dist.Normal(0.0, 1.0))
        raise OSError("boom")

    before = torch.get_rng_state()
    with pytest.raises(OSError, match="boom"):
        mcmc(kernel, model, seed=None).run()
    assert stack.current() == () and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kernel", [HMC, NUTS])
def test_a_failing_cholesky_is_a_rejection(kernel):
    def model():
        x = sample("x", dist.Normal(0.0, 1.0))
        # Positive definite for |x| < 1 only; the density falls to zero at both ends.
        matrix = torch.stack([torch.stack([x * 0 + 1, x]), torch.stack([x, x * 0 + 1])])
        torch.linalg.cholesky(matrix)
        sample("y", dist.MultivariateNormal(torch.zeros(2), matrix), obs=torch.tensor([2.0, 1.0]))

    options = {"num_steps": 1} if kernel is HMC else {"max_tree_depth": 3}
    far = kernel(model, step_size=1.5, adapt_step_size=False, **options)
    run = MCMC(far, 60, 0, {"x": torch.tensor(0.0)}, compile=False, progress=False, seed=0)
    run.run()
    assert int(run.stats["diverging"].sum()) > 0
    assert 0 < float(run.get_samples()["x"].abs().max()) < 1.0


@pytest.mark.slow
def test_an_exception_in_a_parallel_chain_reaches_the_caller():
    run = mcmc(NUTS, boom_in_a_worker, num_chains=2, chain_method="parallel")
    with pytest.raises(Exception, match="boom"):
        run.run()
    assert handlers.stack.current() == ()


def boom_in_a_worker():
    import multiprocessing

    sample("x", dist.Normal(0.0, 1.0))
    if multiprocessing.parent_process() is not None:
        raise RuntimeError("boom")
