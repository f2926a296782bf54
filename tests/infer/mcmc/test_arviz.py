"""Runs handed to ArviZ."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import brancher.distributions as dist
from brancher import deterministic, plate, sample
from brancher.errors import InferenceError
from brancher.infer import HMC, MCMC, NUTS, Predictive

pytest.importorskip("arviz")

Y, SCALE = torch.tensor([28.0, 8.0, -3.0]), torch.tensor([15.0, 10.0, 16.0])


def model(scale, y=None):
    mu = sample("mu", dist.Normal(0.0, 5.0))
    with plate("school", coords=["A", "B", "C"]):
        theta = sample("theta", dist.Normal(mu, 5.0))
        deterministic("twice", 2 * theta, event_dim=0)
        sample("y", dist.Normal(theta, scale), obs=y)


def run(**options):
    mcmc = MCMC(NUTS(model, max_tree_depth=3), 5, 5, num_chains=2, seed=0, progress=False, **options)
    mcmc.run(SCALE, Y)
    return mcmc


@pytest.fixture(scope="module")
def ran():
    with pytest.warns():
        return run()


@pytest.fixture(scope="module")
def tree(ran):
    prior = Predictive(model, num_samples=7)(SCALE)
    new = Predictive(model, ran.get_samples())(SCALE)
    return ran.to_arviz(prior=prior, posterior_predictive=new)


def test_groups_are_all_there(tree):
    assert {"posterior", "sample_stats", "log_likelihood", "observed_data"} <= set(tree.groups())
    assert {"prior", "prior_predictive", "posterior_predictive"} <= set(tree.groups())


def test_posterior_has_dims_and_coords_of_the_plates(ran, tree):
    theta = tree.posterior["theta"]
    assert theta.dims == ("chain", "draw", "school")
    assert list(theta.coords["school"].values) == ["A", "B", "C"]
    assert (theta.values == ran.get_samples(group_by_chain=True)["theta"].numpy()).all()
    assert tree.posterior["twice"].dims == ("chain", "draw", "school")


def test_sample_stats_bear_arviz_names(ran, tree):
    names = {"diverging", "energy", "lp", "tree_depth", "n_steps", "step_size", "acceptance_rate"}
    assert names | {"reached_max_treedepth"} <= set(tree.sample_stats.data_vars)
    assert tree.sample_stats["diverging"].dtype == bool
    assert tree.sample_stats["n_steps"].shape == (2, 5)


def test_log_likelihood_is_that_of_each_observation(ran, tree):
    theta = ran.get_samples(group_by_chain=True)["theta"]
    expected = dist.Normal(theta, SCALE).log_prob(Y).numpy()
    assert tree.log_likelihood["y"].dims == ("chain", "draw", "school")
    assert abs(tree.log_likelihood["y"].values - expected).max() < 1e-4
    assert (tree.observed_data["y"].values == Y.numpy()).all()


def test_prior_is_cut_into_latent_and_observed_sites(tree):
    assert tree.prior["mu"].shape == (1, 7) and "y" not in tree.prior
    assert tree.prior_predictive["y"].dims == ("chain", "draw", "school")


def test_posterior_predictive_is_grouped_by_chain(tree):
    assert tree.posterior_predictive["y"].shape == (2, 5, 3)


def test_posterior_predictive_of_other_length_error(ran):
    with pytest.raises(InferenceError, match="expected 2 x 5 draws of posterior_predictive 'y'"):
        ran.to_arviz(posterior_predictive={"y": torch.zeros(9, 3)})


def test_run_without_a_model_has_no_data():
    kernel = HMC(potential_fn=lambda z: 0.5 * z["x"].square().sum(), num_steps=2)
    mcmc = MCMC(kernel, 4, 4, {"x": torch.zeros(2)}, num_chains=2, seed=0, progress=False)
    mcmc.run()
    assert set(mcmc.to_arviz().groups()) == {"posterior", "sample_stats"}


def test_arviz_1_gets_all_groups_in_one_mapping(ran, monkeypatch):
    """``from_dict`` of ArviZ 1.x, which makes a DataTree, takes the groups as its first argument."""
    calls = []
    later = SimpleNamespace(
        __version__="1.3.0", from_dict=lambda groups, **options: calls.append((groups, options))
    )
    monkeypatch.setattr("brancher.infer.mcmc.arviz.require", lambda *_: later)
    ran.to_arviz()
    ((groups, options),) = calls
    assert set(groups) == {"posterior", "sample_stats", "log_likelihood", "observed_data"}
    assert groups["posterior"]["theta"].shape == (2, 5, 3)
    assert options["dims"]["theta"] == ["school"] and list(options["coords"]["school"]) == ["A", "B", "C"]
