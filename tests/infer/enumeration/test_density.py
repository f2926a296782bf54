"""Densities of continuous sites with the discrete ones summed out, and sampling from them."""

from __future__ import annotations

import pytest
import torch

from brancher import deterministic, markov, plate, sample
from brancher import distributions as dist
from brancher.errors import UnsupportedError
from brancher.infer import (
    HMC,
    MCMC,
    NUTS,
    Pathfinder,
    Predictive,
    config_enumerate,
    infer_discrete,
    initialize_model,
)
from brancher.infer.mcmc.potential import Potential

DATA = torch.tensor([-1.2, -0.7, 2.1, 1.8, -1.0])


def mixture():
    with plate("part", 2):
        loc = sample("loc", dist.Normal(0.0, 3.0))
    weight = sample("weight", dist.Beta(2.0, 1.0))
    with plate("row", 5):
        z = sample("z", dist.Bernoulli(weight)).long()
        deterministic("chosen", z * 2.0)
        sample("x", dist.Normal(loc[z], 1.0), obs=DATA)
    deterministic("twice", weight * 2)


def by_hand(free):
    loc, weight = free[:2], torch.sigmoid(free[2])
    parts = dist.Normal(loc, 1.0).log_prob(DATA[:, None])
    rows = torch.logaddexp(parts[:, 0] + (1 - weight).log(), parts[:, 1] + weight.log())
    prior = dist.Normal(0.0, 3.0).log_prob(loc).sum() + dist.Beta(2.0, 1.0).log_prob(weight)
    return rows.sum() + prior + weight.log() + (1 - weight).log()


def test_density_is_the_sum_over_discrete_values():
    potential = Potential(mixture, (), {}, "NUTS", sums_discrete=True)
    free = torch.tensor([[0.3, -0.8, 0.2]])
    assert torch.allclose(potential.log_prob(free), by_hand(free[0])[None], rtol=1e-5)


def test_gradient_is_that_of_the_sum():
    potential = Potential(mixture, (), {}, "NUTS", sums_discrete=True)
    free = torch.tensor([0.3, -0.8, 0.2], requires_grad=True)
    (got,) = torch.autograd.grad(potential.log_prob(free[None]).sum(), free)
    (right,) = torch.autograd.grad(by_hand(free), free)
    assert torch.allclose(got, right, rtol=1e-4)


@pytest.mark.parametrize("chains", [2, 5])
def test_chains_are_summed_one_by_one(chains):
    potential = Potential(mixture, (), {}, "NUTS", sums_discrete=True)
    free = torch.randn(chains, 3)
    right = torch.stack([by_hand(row) for row in free])
    assert torch.allclose(potential.log_prob(free), right, rtol=1e-5)


def test_rows_are_summed_in_a_batch_of_chains():
    def model():
        weight = sample("weight", dist.Beta(1.0, 1.0))
        with plate("row", 5):
            z = sample("z", dist.Bernoulli(weight))
            sample("x", dist.Normal(4.0 * z - 1.0, 1.0), obs=DATA)

    potential = Potential(model, (), {}, "NUTS", sums_discrete=True)
    free = torch.randn(3, 1)
    assert torch.allclose(potential._batched(free), potential._looped(free), rtol=1e-5)


def test_markov_chain_under_two_chains_of_the_sampler():
    def model():
        step = sample("step", dist.Beta(1.0, 1.0))
        z = torch.tensor(0.0)
        for t in markov(range(5)):
            z = sample(f"z_{t}", dist.Bernoulli(0.2 + 0.6 * step * z))
            sample(f"x_{t}", dist.Normal(z, 1.0), obs=DATA[t])

    def forward(step):
        to = torch.stack([torch.tensor([0.8, 0.2]), torch.stack([0.8 - 0.6 * step, 0.2 + 0.6 * step])])
        alpha = torch.tensor([1.0, 0.0])
        for x in DATA:
            alpha = (alpha @ to) * dist.Normal(torch.tensor([0.0, 1.0]), 1.0).log_prob(x).exp()
        return alpha.sum().log()

    free = torch.tensor([[0.3], [-1.0]])
    step = torch.sigmoid(free[:, 0])
    right = torch.stack([forward(s) for s in step]) + step.log() + (1 - step).log()
    potential = Potential(model, (), {}, "NUTS", sums_discrete=True)
    assert torch.allclose(potential.log_prob(free), right, rtol=1e-5)


def test_deterministic_sites_of_discrete_values_are_left_out():
    potential = Potential(mixture, (), {}, "NUTS", sums_discrete=True)
    values = potential.constrain(torch.zeros(3, 3))
    assert sorted(values) == ["loc", "twice", "weight"] and values["twice"].tolist() == [1.0] * 3


# Three steps of a line's length nearly come back: R-hat sees how slowly the energy changes.
@pytest.mark.filterwarnings("ignore:MCMC. expected a run without trouble")
def test_sampler_finds_the_posterior_of_a_mixture_weight():
    # Weight ~ Beta(1, 1), five rows: the posterior is a mixture of Betas; its mean comes from a grid.
    # 2 x 100 draws, MCSE about 0.02; |error| < 0.1 alarms falsely once in a million.
    def model():
        weight = sample("weight", dist.Beta(1.0, 1.0))
        with plate("row", 5):
            z = sample("z", dist.Bernoulli(weight))
            sample("x", dist.Normal(4.0 * z - 1.0, 1.0), obs=DATA)

    grid = torch.linspace(0.0005, 0.9995, 1000)
    on, off = dist.Normal(3.0, 1.0).log_prob(DATA).exp(), dist.Normal(-1.0, 1.0).log_prob(DATA).exp()
    density = (grid[:, None] * on + (1 - grid[:, None]) * off).prod(-1)
    mcmc = MCMC(HMC(model, num_steps=3), 100, 40, num_chains=2, progress=False, compile=False, seed=3)
    mcmc.run()
    draws = mcmc.get_samples()
    assert list(draws) == ["weight"]
    assert float(draws["weight"].mean()) == pytest.approx(
        float((grid * density).sum() / density.sum()), abs=0.05
    )

    again = infer_discrete(config_enumerate(model), first_available_dim=-2)
    z = Predictive(again, draws, return_sites=["z"])()["z"]
    on, off = grid[:, None] * on, (1 - grid[:, None]) * off
    right = ((on / (on + off)) * density[:, None]).sum(0) / density.sum()
    assert torch.allclose(z.mean(0), right, atol=0.17)  # 200 draws: 5 standard errors of 0.035


def test_initialize_model_sums_too():
    info = initialize_model(mixture)
    free = {"loc": torch.tensor([0.3, -0.8]), "weight": torch.tensor(0.2)}
    assert torch.isclose(info.potential_fn(free), -by_hand(torch.tensor([0.3, -0.8, 0.2])), rtol=1e-5)


def test_infinite_support_error():
    def model():
        rate = sample("rate", dist.Gamma(1.0, 1.0))
        sample("x", dist.Normal(sample("n", dist.Poisson(rate)), 1.0), obs=torch.tensor(2.0))

    with pytest.raises(UnsupportedError, match="site 'n': expected a continuous law or one with a finite"):
        MCMC(NUTS(model), 5, 5).run()


def test_discrete_sites_alone_error():
    def model():
        sample("x", dist.Normal(sample("n", dist.Bernoulli(0.3)), 1.0), obs=torch.tensor(2.0))

    with pytest.raises(UnsupportedError, match=r"expected a continuous latent site, got \['n'\]"):
        MCMC(NUTS(model), 5, 5).run()


def test_support_that_varies_with_a_discrete_site_error():
    def model():
        z = sample("z", dist.Bernoulli(0.3))
        sample("a", dist.Uniform(0.0, 1.0 + z))

    with pytest.raises(UnsupportedError, match="site 'a': expected a support that is the same"):
        MCMC(NUTS(model), 5, 5).run()


def test_other_densities_refuse_discrete_sites():
    with pytest.raises(UnsupportedError, match="site 'z': expected continuous latent sites"):
        Potential(mixture, (), {}, "SVGD")


def test_pathfinder_sums_too():
    # Exact mean by a grid, as above; 1000 draws of a close approximation.
    def model():
        weight = sample("weight", dist.Beta(3.0, 3.0))
        with plate("row", 5):
            z = sample("z", dist.Bernoulli(weight))
            sample("x", dist.Normal(4.0 * z - 1.0, 1.0), obs=DATA)

    grid = torch.linspace(0.0005, 0.9995, 1000)
    on, off = dist.Normal(3.0, 1.0).log_prob(DATA).exp(), dist.Normal(-1.0, 1.0).log_prob(DATA).exp()
    density = (grid[:, None] * on + (1 - grid[:, None]) * off).prod(-1) * grid**2 * (1 - grid) ** 2
    finder = Pathfinder(model, seed=1)
    finder.run()
    mean = float(finder.get_samples()["weight"].mean())
    assert mean == pytest.approx(float((grid * density).sum() / density.sum()), abs=0.05)
