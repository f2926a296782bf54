"""From models to flat densities."""

from __future__ import annotations

import math

import pytest
import torch

import brancher.distributions as dist
from brancher import deterministic, factor, param, plate, sample
from brancher.distributions import constraints
from brancher.errors import BrancherWarning, InferenceError, SiteError, UnknownNameError, UnsupportedError
from brancher.infer.mcmc.potential import Potential

Y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=torch.float64)
SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def schools(sigma, y):
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("school", 8, coords=list("abcdefgh")):
        z = sample("z", dist.Normal(0.0, 1.0))
        theta = deterministic("theta", mu + tau * z)
        sample("y", dist.Normal(theta, sigma), obs=y)


def test_log_prob_is_the_formula():
    u = torch.randn(10, generator=torch.Generator().manual_seed(0))
    mu, tau, z = u[0], u[1].exp(), u[2:]
    by_hand = (
        torch.distributions.Normal(0.0, 5.0).log_prob(mu)
        + torch.distributions.HalfCauchy(5.0).log_prob(tau)
        + u[1]
        + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
        + torch.distributions.Normal(mu + tau * z, SIGMA).log_prob(Y).sum()
    )
    assert float(Potential(schools, (SIGMA, Y), {}).log_prob(u[None])) == pytest.approx(
        float(by_hand), rel=1e-12
    )


def dependent():
    a = sample("a", dist.Uniform(0.0, 1.0))
    sample("b", dist.Uniform(0.0, a))


def awkward():
    weights = sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    sample("y", dist.Normal(torch.arange(6.0).reshape(2, 3) @ weights, 1.0).to_event(1), obs=torch.zeros(2))


def constrained():
    sample("simplex", dist.Dirichlet(torch.ones(3)))
    sample("cholesky", dist.LKJCholesky(3, 1.0))
    with plate("outer", 2, dim=-2), plate("inner", 3, dim=-1):
        sample("table", dist.Gamma(2.0, 1.0))
    factor("extra", torch.tensor(0.5))


@pytest.mark.parametrize("model", [lambda: schools(SIGMA, Y), dependent, awkward, constrained])
def test_chains_together_give_what_each_gives_alone(model):
    potential = Potential(model, (), {})
    u = torch.randn(4, potential.dim, generator=torch.Generator().manual_seed(0))
    alone = torch.stack([potential.log_prob(row[None])[0] for row in u])
    assert torch.allclose(potential.log_prob(u), alone, rtol=1e-12)


@pytest.mark.parametrize("model", [lambda: schools(SIGMA, Y), dependent, awkward, constrained])
def test_unconstrain_inverts_constrain(model):
    potential = Potential(model, (), {})
    u = torch.randn(3, potential.dim, generator=torch.Generator().manual_seed(1))
    values = potential.constrain(u)
    one = {slot.name: values[slot.name][1] for slot in potential.slots}
    assert torch.allclose(potential.unconstrain(one), u[1], atol=1e-10)


def test_a_support_that_depends_on_a_latent_moves_with_it():
    potential = Potential(dependent, (), {})
    values = potential.constrain(torch.tensor([[0.0, 0.0], [-2.0, 0.0]]))
    assert torch.allclose(values["b"], values["a"] / 2)


def test_constrain_gives_deterministic_sites():
    values = Potential(schools, (SIGMA, Y), {}).constrain(torch.randn(5, 10))
    assert torch.allclose(values["theta"], values["mu"][:, None] + values["tau"][:, None] * values["z"])


def test_labels_come_from_plates():
    potential = Potential(schools, (SIGMA, Y), {})
    assert potential.dims["theta"] == ("school",) and potential.coords["school"] == list("abcdefgh")


def test_a_failing_cholesky_is_nan_in_its_own_chain():
    def model():
        rho = sample("rho", dist.Normal(0.0, 1.0))
        cov = torch.eye(2) + rho[..., None, None] * torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        sample("y", dist.MultivariateNormal(torch.zeros(2), cov), obs=torch.zeros(2))

    value = Potential(model, (), {}).log_prob(torch.tensor([[0.5], [3.0]]))
    assert bool(torch.isfinite(value[0])) and bool(torch.isnan(value[1]))


def test_params_are_constants():
    def model():
        scale = param("scale", torch.tensor(2.0), constraint=constraints.positive)
        sample("x", dist.Normal(0.0, scale))

    value = Potential(model, (), {}).log_prob(torch.tensor([[1.0]]))
    assert float(value) == pytest.approx(-0.125 - math.log(2) - 0.5 * math.log(2 * math.pi))


def test_random_state_is_left_alone():
    before = torch.get_rng_state()
    potential = Potential(schools, (SIGMA, Y), {})
    potential.log_prob(torch.randn(3, 10, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(before, torch.get_rng_state())


def test_discrete_latent_error():
    with pytest.raises(UnsupportedError, match="site 'k'"):
        Potential(lambda: sample("k", dist.Bernoulli(0.5)), (), {})


def test_subsampled_plate_error():
    def model():
        with plate("rows", 10, subsample_size=3):
            sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(NotImplementedError, match="plate 'rows'"):
        Potential(model, (), {})


def test_no_latent_site_error():
    with pytest.raises(InferenceError, match="no latent sites"):
        Potential(lambda: sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0)), (), {})


def test_forgotten_observation_warns():
    with pytest.warns(BrancherWarning, match="site 'y'.*without obs"):
        Potential(lambda: sample("y", dist.Normal(0.0, 1.0), obs=None), (), {})


def test_unknown_initial_name_error():
    potential = Potential(dependent, (), {})
    with pytest.raises(UnknownNameError, match="'zz'"):
        potential.pack({"zz": torch.tensor(0.0)}, 1)


def test_missing_initial_name_error():
    with pytest.raises(UnknownNameError, match=r"none for \['b'\]"):
        Potential(dependent, (), {}).pack({"a": torch.tensor(0.0)}, 1)


def test_initial_shape_error():
    potential = Potential(dependent, (), {})
    with pytest.raises(InferenceError, match="'b': expected shape"):
        potential.pack({"a": torch.tensor(0.0), "b": torch.zeros(3)}, 1)


def test_a_site_that_appears_later_error():
    def model():
        x = sample("x", dist.Normal(0.0, 1.0))
        if float(x) > 0.5:
            sample("z", dist.Normal(0.0, 1.0))

    potential = Potential(model, (), {})
    with pytest.raises(RuntimeError, match="'z'"):
        potential.log_prob(torch.tensor([[1.0]]))


def test_entries_outside_plates_are_added_up_with_a_warning():
    def model():
        sample("x", dist.Normal(torch.zeros(3), 1.0))

    with pytest.warns(BrancherWarning, match=r"expected batch dimensions inside plates, .* at \['x'\]"):
        potential = Potential(model, (), {})
    free = torch.randn(2, 3)
    assert torch.allclose(potential.log_prob(free), dist.Normal(0.0, 1.0).log_prob(free).sum(-1))


def bounded(seen):
    top = sample("top", dist.Pareto(1.0, 3.0))
    with plate("row", len(seen)):
        sample("y", dist.Uniform(0.0, top), obs=seen)


def test_data_outside_a_support_at_first_values_may_be_inside_at_others():
    potential = Potential(bounded, (torch.tensor([0.5, 3.1]),), {})
    low, high = potential.log_prob(torch.tensor([[0.0], [3.0]]))  # tops of 2 and 21
    assert low == -math.inf and high.isfinite()


def test_data_outside_the_support_at_all_values_error():
    with pytest.raises(SiteError, match=r"site 'y': Uniform.*the first -1.0"):
        Potential(bounded, (torch.tensor([0.5, -1.0]),), {})
