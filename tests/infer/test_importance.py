from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from brancher import deterministic, plate, sample
from brancher import distributions as dist
from brancher.errors import BrancherWarning, GuideError, InferenceError, UnknownNameError
from brancher.infer import Importance

DATA = torch.tensor([0.5, 1.5, -0.2, 0.9])


def model(y: torch.Tensor) -> None:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    deterministic("shifted", mu + 1.0)
    with plate("row", len(y)):
        sample("y", dist.Normal(mu, 1.0), obs=y)


def posterior() -> tuple[float, float]:
    """Mean and standard deviation of mu given DATA."""
    variance = 1.0 / (1.0 + len(DATA))
    return variance * float(DATA.sum()), math.sqrt(variance)


def evidence() -> float:
    """log N(DATA; 0, I + 11')."""
    covariance = torch.eye(len(DATA), dtype=torch.float64) + 1.0
    zero = torch.zeros(len(DATA), dtype=torch.float64)
    return float(torch.distributions.MultivariateNormal(zero, covariance).log_prob(DATA.double()))


def exact_guide(y: torch.Tensor) -> None:
    sample("mu", dist.Normal(*posterior()))


@pytest.mark.parametrize("parallel", [None, False])
def test_exact_posterior_as_guide_gives_the_evidence(parallel: bool | None) -> None:
    # With the posterior as proposal every weight is the evidence, up to rounding.
    result = Importance(model, exact_guide, num_samples=50, parallel=parallel).run(DATA)
    torch.testing.assert_close(result.log_weights, torch.full((50,), evidence()), atol=1e-4, rtol=0)
    assert float(result.log_evidence) == pytest.approx(evidence(), abs=1e-4)
    assert float(result.effective_sample_size) == pytest.approx(50.0, rel=1e-3)


def test_prior_as_guide_gives_the_evidence() -> None:
    # n = 20,000; standard error from the weights themselves, |z| < 4.5: false-alarm rate 7e-6.
    result = Importance(model, num_samples=20_000).run(DATA)
    ratio = (result.log_weights - evidence()).exp().double()
    assert abs(float(ratio.mean()) - 1.0) < 4.5 * float(ratio.std()) / math.sqrt(20_000)


def test_prior_as_guide_weighs_by_the_likelihood() -> None:
    result = Importance(model, num_samples=10).run(DATA)
    expected = dist.Normal(result.samples["mu"][:, None], 1.0).log_prob(DATA).sum(1)
    torch.testing.assert_close(result.log_weights, expected)


def test_expectation_is_the_posterior_mean() -> None:
    # n = 20,000, |z| < 4.5 with the delta-method error: false-alarm rate 7e-6.
    result = Importance(model, num_samples=20_000).run(DATA)
    error = (result.weights * (result.samples["mu"] - posterior()[0])).square().sum().sqrt()
    assert abs(float(result.expectation("mu", smooth=False)) - posterior()[0]) < 4.5 * float(error)


def test_batch_and_loop_are_chosen_alike() -> None:
    assert Importance(model, num_samples=10).run(DATA).vectorized is True


def test_samples_keep_deterministic_sites() -> None:
    samples = Importance(model, num_samples=10).run(DATA).samples
    torch.testing.assert_close(samples["shifted"], samples["mu"] + 1.0)


def test_weights_sum_to_one() -> None:
    result = Importance(model, num_samples=100).run(DATA)
    assert float(result.weights.sum()) == pytest.approx(1.0, rel=1e-5)
    assert float(result.smoothed_weights.sum()) == pytest.approx(1.0, rel=1e-5)


def test_resampled_draws_are_draws() -> None:
    result = Importance(model, num_samples=100).run(DATA)
    drawn = result.resample(7)
    assert drawn["mu"].shape == (7,)
    assert bool(torch.isin(drawn["mu"], result.samples["mu"]).all())


def test_heavy_tail_is_told() -> None:
    def narrow(y: torch.Tensor) -> None:
        sample("mu", dist.Normal(0.0, 0.05))

    with pytest.warns(BrancherWarning, match="k-hat"):
        result = Importance(model, narrow, num_samples=1000).run(DATA)
    assert result.pareto_k > 0.7


def test_marginal_is_the_weighted_law() -> None:
    result = Importance(model, num_samples=200).run(DATA)
    expected = result.expectation("mu", smooth=False)
    torch.testing.assert_close(result.marginal("mu").mean, expected, rtol=1e-4, atol=1e-5)


def test_point_mass_guide_is_told() -> None:
    with pytest.warns(BrancherWarning, match="'mu', got all draws at one point"):
        Importance(model, lambda y: sample("mu", dist.Delta(torch.tensor(0.3))), num_samples=9).run(DATA)


def test_unknown_site_error() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mu'"):
        Importance(model, num_samples=9).run(DATA).expectation("muu")


def test_missing_guide_site_error() -> None:
    with pytest.raises(GuideError, match="add \\['mu'\\]"):
        Importance(model, lambda y: None, num_samples=3).run(DATA)


def test_impossible_data_error() -> None:
    def impossible() -> None:
        x = sample("x", dist.Uniform(0.0, 1.0))
        sample("y", dist.Uniform(0.0, x), obs=torch.tensor(2.0))

    with pytest.raises(ValueError):
        Importance(impossible, num_samples=5).run()


@pytest.mark.parametrize("bad", [0, -3, None, 1.5])
def test_num_samples_is_checked_error(bad: Any) -> None:
    with pytest.raises(InferenceError, match="num_samples"):
        Importance(model, num_samples=bad)


def test_results_before_run_error() -> None:
    with pytest.raises(InferenceError, match="run"):
        _ = Importance(model, num_samples=3).log_evidence


@pytest.mark.parametrize("parallel", [True, False])
def test_draws_that_exclude_the_data_have_no_weight(parallel: bool) -> None:
    def bounded() -> None:
        top = sample("top", dist.Pareto(1.0, 3.0))
        with plate("row", 2):
            sample("y", dist.Uniform(0.0, top), obs=torch.tensor([0.5, 1.5]))

    run = Importance(bounded, num_samples=4000, parallel=parallel).run()
    assert bool((run.log_weights[run.samples["top"] < 1.5] == -math.inf).all())
    # Pareto(1.5, 5) is the posterior, of mean 1.875 and standard deviation 0.48, and 3 / (5 * 1.5^5) the
    # evidence; 1200 draws have weight: 5 standard errors are 0.07 and a tenth.
    assert float((run.weights * run.samples["top"]).sum()) == pytest.approx(1.875, abs=0.1)
    evidence = float(run.log_weights.logsumexp(0)) - math.log(4000)
    assert evidence == pytest.approx(math.log(3 / 5) - 5 * math.log(1.5), abs=0.15)


def test_a_call_draws_by_weight():
    def model(y):
        z = sample("z", dist.Bernoulli(0.5))
        sample("y", dist.Normal(3.0 * z, 1.0), obs=y)
        return z

    result = Importance(model, num_samples=20).run(torch.tensor(1.7))
    records = [result() for _ in range(400)]
    assert records[0].stochastic_nodes == ["z"] and "y" not in records[0]
    assert records[0].nodes["_RETURN"]["value"] == records[0]["z"].value
    exact = (result.weights * result.samples["z"]).sum().item()
    found = sum(record["z"].value.item() for record in records) / 400
    # 400 draws of a Bernoulli law: five standard errors (false alarm: 6e-7).
    assert abs(found - exact) < 5 * (exact * (1 - exact) / 400) ** 0.5
