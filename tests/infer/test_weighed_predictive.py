"""Weighed predictions against conjugate posteriors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from brancher import distributions as dist
from brancher import handlers, plate, sample
from brancher.errors import GuideError, InferenceError
from brancher.infer import Predictive, WeighedPredictive
from brancher.infer.autoguide import AutoNormal
from brancher.ops.stats import weighed_quantile
from brancher.symbolic import NormalVariable, ProbabilisticModel

Y = torch.tensor([0.8, 1.6])


def model(y: torch.Tensor | None = None) -> Any:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 2):
        sample("y", dist.Normal(mu, 1.0), obs=y)
    return sample("new", dist.Normal(mu, 0.5))


def fitted(y: torch.Tensor | None = None) -> Any:
    return handlers.block(handlers.condition(model, {"y": Y}), hide=["new"])()


def guide(*args: Any) -> None:
    sample("mu", dist.Normal(0.3, 1.0))


@pytest.mark.parametrize("parallel", [None, True, False])
def test_weights_are_those_of_the_fitted_model(parallel: bool | None) -> None:
    result = WeighedPredictive(model, guide=guide, num_samples=7, parallel=parallel)(model_guide=fitted)
    mu = result.samples["mu"]
    log_q = dist.Normal(0.3, 1.0).log_prob(mu)
    log_p = dist.Normal(0.0, 1.0).log_prob(mu) + dist.Normal(mu.unsqueeze(-1), 1.0).log_prob(Y).sum(-1)
    torch.testing.assert_close(result.guide_log_prob, log_q)
    torch.testing.assert_close(result.model_log_prob, log_p)
    torch.testing.assert_close(result.log_weights, log_p - log_q)
    weights = result.log_weights.exp()
    assert result.get_log_normalizer().item() == pytest.approx(math.log(weights.mean()), rel=1e-4)
    torch.testing.assert_close(result.get_normalized_weights(), weights / weights.sum())
    assert result.get_ESS().item() == pytest.approx(
        float(weights.sum() ** 2 / weights.square().sum()), rel=1e-4
    )
    assert {name: tuple(v.shape) for name, v in result.samples.items()} == {
        "mu": (7,),
        "y": (7, 2),
        "new": (7,),
    }


def test_quantiles_are_those_of_the_posterior_predictive() -> None:
    predictive = WeighedPredictive(model, guide=guide, num_samples=50_000, return_sites=["_RETURN"])
    result = predictive(model_guide=fitted)
    exact = dist.Normal(Y.sum() / 3, (1 / 3 + 0.25) ** 0.5)
    found = weighed_quantile(result.samples["_RETURN"], [0.1, 0.5, 0.9], result.log_weights)
    # Some 25 000 effective draws: a quantile's standard error is below 0.009.
    torch.testing.assert_close(found, exact.icdf(torch.tensor([0.1, 0.5, 0.9])), rtol=0, atol=0.045)
    unweighed = Predictive(model, guide=guide, num_samples=50_000)()["new"].median()
    assert abs(float(unweighed) - float(exact.mean)) > 0.4


def test_without_another_model_the_model_weighs_itself() -> None:
    def prior(*args: Any) -> None:
        sample("mu", dist.Normal(0.0, 1.0))

    def alone() -> None:
        sample("mu", dist.Normal(0.0, 1.0))

    result = WeighedPredictive(alone, guide=prior, num_samples=5)()
    torch.testing.assert_close(result.log_weights, torch.zeros(5))


def test_call_gives_values_in_the_order_of_names() -> None:
    torch.manual_seed(0)
    by_name = WeighedPredictive(model, guide=guide, num_samples=5)(model_guide=fitted).samples
    torch.manual_seed(0)
    values: Any = WeighedPredictive(model, guide=guide, num_samples=5).call(model_guide=fitted).samples
    for value, name in zip(values, ["mu", "new", "y"], strict=True):
        assert torch.equal(value, by_name[name])


def test_algebraic_model() -> None:
    mu = NormalVariable(0.0, 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    algebraic = ProbabilisticModel([y])
    auto = AutoNormal(handlers.condition(algebraic, {"y": torch.tensor(1.0)}), init_scale=0.8).setup()
    result = WeighedPredictive(algebraic, guide=auto, num_samples=20_000)(
        model_guide=handlers.condition(algebraic, {"y": torch.tensor(1.0)})
    )
    mean = (result.get_normalized_weights() * result.samples["y"].reshape(-1)).sum()
    # The posterior predictive law is N(0.5, 1.5).
    assert mean.item() == pytest.approx(0.5, abs=0.06)


def test_no_guide_error() -> None:
    with pytest.raises(InferenceError, match="WeighedPredictive: expected a guide, whose draws are weighed"):
        WeighedPredictive(model, num_samples=3)


def test_no_number_of_draws_error() -> None:
    with pytest.raises(InferenceError, match="got neither; give num_samples=1000"):
        WeighedPredictive(model, guide=guide)


def test_predicted_sites_do_not_count_without_data() -> None:
    def alone() -> None:
        sample("y", dist.Normal(sample("mu", dist.Normal(0.0, 1.0)), 1.0))

    result = WeighedPredictive(alone, guide=guide, num_samples=5).get_samples()
    mu = result.samples["mu"]
    expected = dist.Normal(0.0, 1.0).log_prob(mu) - dist.Normal(0.3, 1.0).log_prob(mu)
    torch.testing.assert_close(result.log_weights, expected)
    assert result.samples["y"].shape == (5,)
    record = WeighedPredictive(alone, guide=guide, num_samples=5).get_vectorized_trace()
    assert record["y"].value.shape == (5,)


def test_missing_site_error() -> None:
    with pytest.raises(GuideError, match="'new'"):
        WeighedPredictive(model, guide=guide, num_samples=3)(Y)
