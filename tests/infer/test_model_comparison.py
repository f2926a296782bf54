"""Tables of PSIS-LOO and WAIC, beside ArviZ's numbers."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

import brancher.distributions as dist
from brancher import plate, sample
from brancher.errors import InferenceError
from brancher.infer import HMC, MCMC, Samples, accuracy_table, compare_models, pointwise_table


def draws(loc=0.0, seed=0):
    noise = torch.Generator().manual_seed(seed)
    mu = loc + 0.15 * torch.randn(4, 500, 1, generator=noise, dtype=torch.float64)
    y = torch.linspace(-2.0, 3.0, 12, dtype=torch.float64)
    values = dist.Normal(mu, 1.0).log_prob(y)
    return Samples({"y": values}, {"y": ("day",)}, {"day": [f"d{i}" for i in range(12)]}, batch_ndims=2)


@pytest.fixture(scope="module")
def arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("arviz", reason="the reference of these tests")


def idata(arviz, values):
    posterior = {"mu": np.zeros((4, 500))}
    return arviz.from_dict(posterior=posterior, log_likelihood={"y": values["y"].numpy()})


def test_loo_is_that_of_arviz(arviz):
    values = draws()
    expected = arviz.loo(idata(arviz, values), pointwise=True, reff=1.0)
    row = accuracy_table(values, relative_ess=1.0).loc["loo"]
    assert row["elpd"] == pytest.approx(expected.elpd_loo, rel=1e-6)
    assert row["se"] == pytest.approx(expected.se, rel=1e-5)
    assert row["p"] == pytest.approx(expected.p_loo, rel=1e-4)
    k = pointwise_table(values, relative_ess=1.0)["pareto_k"]
    np.testing.assert_allclose(k, expected.pareto_k.values, atol=1e-3)


def test_waic_is_that_of_arviz(arviz):
    values = draws()
    expected = arviz.waic(idata(arviz, values))
    row = accuracy_table(values).loc["waic"]
    # The variances here have the divisor n - 1, there n = 2000.
    assert row["p"] == pytest.approx(expected.p_waic * 2000 / 1999, rel=1e-8)
    assert row["elpd"] == pytest.approx(expected.elpd_waic, rel=1e-4)
    assert row["se"] == pytest.approx(expected.se, rel=1e-3)
    assert math.isnan(row["bad_k"]) and row["deviance"] == -2 * row["elpd"]


@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_comparison_is_that_of_arviz(arviz):
    near, far = draws(), draws(1.5, seed=1)
    both = {"near": idata(arviz, near), "far": idata(arviz, far)}
    expected = arviz.compare(both, ic="waic", method="pseudo-BMA")
    table = compare_models({"far": far, "near": near}, "waic")
    assert list(table.index) == list(expected.index)
    for ours, theirs in (("elpd_diff", "elpd_diff"), ("dse", "dse"), ("weight", "weight")):
        np.testing.assert_allclose(table[ours], expected[theirs], rtol=1e-3, atol=1e-3)


def test_pointwise_rows_are_labelled():
    table = pointwise_table(draws())
    assert list(table.index[:2]) == ["y[d0]", "y[d1]"] and list(table) == ["elpd", "p", "pareto_k"]


def test_pointwise_rows_add_up():
    values = draws()
    assert pointwise_table(values)["elpd"].sum() == pytest.approx(accuracy_table(values).loc["loo", "elpd"])


def test_sites_add_up():
    one = accuracy_table({"a": draws()["y"].flatten(0, 1)}).loc["waic"]
    two = accuracy_table({"a": draws()["y"].flatten(0, 1), "b": draws()["y"].flatten(0, 1)}).loc["waic"]
    assert two["elpd"] == pytest.approx(2 * one["elpd"])


def test_an_influential_observation_is_counted():
    values = draws()
    noise = torch.Generator().manual_seed(3)
    values["y"][..., 0] = -((torch.randn(4, 500, generator=noise, dtype=torch.float64).abs() * 3) ** 2)
    assert accuracy_table(values).loc["loo", "bad_k"] == 1


def test_a_run_can_be_given():
    def model(y):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        with plate("row", coords=["a", "b"]):
            sample("y", dist.Normal(mu, 1.0), obs=y)

    mcmc = MCMC(HMC(model, num_steps=2), 20, 10, num_chains=2, compile=False, progress=False, seed=0)
    mcmc.run(torch.tensor([0.0, 1.0]))
    assert mcmc.log_likelihood()["y"].shape == (2, 20, 2)
    assert list(pointwise_table(mcmc).index) == ["y[a]", "y[b]"]


def test_single_observation_has_one_row():
    assert list(pointwise_table({"y": torch.linspace(-2, -1, 50)}).index) == ["y"]


def test_other_data_error():
    with pytest.raises(InferenceError, match="same observations.*'a': 12, 'b': 3"):
        compare_models({"a": draws(), "b": {"y": draws()["y"][0, :, :3]}})


def test_no_mapping_error():
    with pytest.raises(TypeError, match="log likelihoods by observed site"):
        accuracy_table(torch.zeros(3, 2))


def test_run_without_a_model_error():
    kernel = HMC(potential_fn=lambda p: 0.5 * p["x"] ** 2, num_steps=1)
    mcmc = MCMC(kernel, 2, 2, {"x": torch.tensor(0.0)}, compile=False, progress=False)
    with pytest.raises(InferenceError, match="a run of a model"):
        mcmc.log_likelihood()
