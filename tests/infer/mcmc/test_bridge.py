"""Densities for foreign samplers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import brancher.distributions as dist
from brancher import deterministic, plate, sample
from brancher.errors import UnknownNameError
from brancher.infer import FlatDensity, init_to_draw, initialize_model, log_density
from brancher.infer.mcmc import MCMC, NUTS

Y = torch.tensor([1.0, 2.0, 4.0])


def model(y):
    mu = sample("mu", dist.Normal(0.0, 3.0))
    scale = sample("scale", dist.HalfNormal(2.0))
    deterministic("twice", 2 * mu)
    with plate("row", 3):
        sample("y", dist.Normal(mu, scale), obs=y)


def by_hand(mu, scale):
    normal, half = torch.distributions.Normal, torch.distributions.HalfNormal
    return normal(0.0, 3.0).log_prob(mu) + half(2.0).log_prob(scale) + normal(mu, scale).log_prob(Y).sum()


def test_log_density_is_the_joint():
    mu, scale = torch.tensor(0.5), torch.tensor(1.5)
    assert torch.allclose(log_density(model, (Y,), {"mu": mu, "scale": scale}), by_hand(mu, scale))


def test_log_density_is_differentiable():
    mu = torch.tensor(0.5, requires_grad=True)
    log_density(model, (Y,), {"mu": mu, "scale": 1.5}).backward()
    assert float(mu.grad) == pytest.approx(-0.5 / 9 + float(Y.sum() - 1.5) / 2.25)


def test_log_density_takes_keyword_arguments():
    assert torch.isfinite(log_density(model, (), {"mu": 0.0, "scale": 1.0}, {"y": Y}))


@pytest.mark.parametrize("params", [{"mu": 0.0}, {"mu": 0.0, "scale": 1.0, "scala": 1.0}])
def test_log_density_of_other_names_error(params):
    with pytest.raises(UnknownNameError, match=r"none for \['scale'\]|'scala'.*scale"):
        log_density(model, (Y,), params)


def test_potential_fn_is_minus_the_density_with_its_jacobian():
    _, potential_fn, _, _ = initialize_model(model, (Y,))
    free = {"mu": torch.tensor(0.5), "scale": torch.tensor(0.2)}
    assert torch.allclose(potential_fn(free), -by_hand(free["mu"], free["scale"].exp()) - 0.2)


def test_transforms_inverted_send_the_start_into_the_support():
    info = initialize_model(model, (Y,), num_chains=4, seed=3)
    value = info.transforms["scale"].inv(info.initial_params["scale"])
    assert value.shape == (4,) and bool((value > 0).all())


def test_initialize_model_leaves_the_random_state():
    before = torch.get_rng_state()
    initialize_model(model, (Y,))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_compiled_flat_density_is_the_eager_one():
    compiled, eager = FlatDensity(model, (Y,)), FlatDensity(model, (Y,), compile=False)
    value, grad = compiled(np.array([0.5, 0.2]))
    assert value == pytest.approx(eager(np.array([0.5, 0.2]))[0], rel=1e-5)
    np.testing.assert_allclose(grad, eager(np.array([0.5, 0.2]))[1], rtol=1e-5)


def test_flat_density_is_differentiated_as_finite_differences_say():
    torch.set_default_dtype(torch.float64)
    try:
        density = FlatDensity(model, (Y.double(),), compile=False)
        x, h = np.array([0.5, 0.2]), 1e-6
        steps = np.eye(2) * h
        by_differences = [(density(x + s)[0] - density(x - s)[0]) / (2 * h) for s in steps]
        np.testing.assert_allclose(density(x)[1], by_differences, rtol=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)


def test_flat_density_constrains_any_batch():
    values = FlatDensity(model, (Y,), compile=False).constrain(np.zeros((5, 2, 2)))
    assert values["twice"].shape == (5, 2) and float(values["scale"][0, 0]) == 1.0


def test_flat_density_constrains_one_vector():
    density = FlatDensity(model, (Y,), compile=False)
    values = density.constrain(density.initial(seed=1))
    assert (
        {name: value.shape for name, value in values.items()}
        == density.shapes
        == {"mu": (), "scale": (), "twice": ()}
    )


def test_flat_density_is_minus_infinity_where_it_is_no_number():
    def bad():
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(x.log(), 1.0, validate_args=False), obs=torch.tensor(0.0))

    assert FlatDensity(bad, compile=False)(np.array([-1.0]))[0] == -math.inf


def test_chains_start_at_draws_of_their_own():
    draws = {"mu": torch.arange(100.0) / 100, "scale": torch.arange(100.0) / 100 + 1}
    kernel = NUTS(
        model,
        step_size=1e-7,
        adapt_step_size=False,
        max_tree_depth=1,
        init_strategy=init_to_draw(draws=draws),
    )
    mcmc = MCMC(kernel, 4, 0, num_chains=3, compile=False, progress=False, seed=1)
    with pytest.warns(UserWarning, match="max_tree_depth"):
        mcmc.run(Y)
    first = {name: value[:, 0] for name, value in mcmc.get_samples(group_by_chain=True).items()}
    # One row for both sites, and different rows for different chains.
    assert torch.allclose(first["scale"], first["mu"] + 1, atol=1e-3)
    assert len(set(first["mu"].mul(100).round().tolist())) > 1


@pytest.mark.peers
def test_nutpie_draws_from_a_model():
    # y ~ N(mu, 1), mu ~ N(0, 1), three data: mu | y ~ N(7/4, 1/4). 4 x 1000 draws; MCSE about 0.01,
    # |z| < 5 alarms falsely once in a million.
    nutpie = pytest.importorskip("nutpie")

    def conjugate(y):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        with plate("row", 3):
            sample("y", dist.Normal(mu, 1.0), obs=y)

    density = FlatDensity(conjugate, (Y,))
    compiled = nutpie.compiled_pyfunc.from_pyfunc(
        ndim=density.dim,
        make_logp_fn=lambda: density,
        make_expand_fn=lambda *_: density.constrain,
        expanded_dtypes=[np.dtype("float64")] * len(density.shapes),
        expanded_shapes=list(density.shapes.values()),
        expanded_names=list(density.shapes),
        make_initial_point_fn=density.initial,
    )
    found = nutpie.sample(compiled, draws=1000, tune=500, chains=4, seed=1, progress_bar=False)
    draws = np.asarray(found.posterior["mu"])
    assert draws.mean() == pytest.approx(1.75, abs=0.05) and draws.std() == pytest.approx(0.5, abs=0.05)
