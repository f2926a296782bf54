"""Truncated models against truncated normals, which scipy knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from brancher.errors import InferenceError, SiteError, SiteTypeError
from brancher.infer import Importance
from brancher.symbolic import NormalVariable, ProbabilisticModel, truncate_model

COUNT = 40_000


def above(bound: float) -> Any:
    x = NormalVariable(0.0, 1.0, "x")
    return truncate_model(ProbabilisticModel([x]), x > bound)


def test_draws_are_those_of_a_truncated_normal() -> None:
    draws = above(0.5).get_sample(COUNT, seed=0)["x"]
    law = stats.truncnorm(0.5, np.inf)
    assert len(draws) == COUNT and draws.min() > 0.5
    # p-value below 1e-4 once in 10,000 seeds.
    assert stats.kstest(draws, law.cdf).pvalue > 1e-4


def test_acceptance_is_the_mass() -> None:
    share, error = above(0.5).get_acceptance_probability(COUNT, seed=0)
    exact = stats.norm.sf(0.5)
    assert error == pytest.approx((exact * (1 - exact) / COUNT) ** 0.5, rel=0.02)
    assert share == pytest.approx(exact, abs=5 * error)


def test_density_is_normalised() -> None:
    values = np.array([0.0, 0.6, 2.0])
    found = above(0.5).calculate_log_probability({"x": values}, seed=0)
    np.testing.assert_allclose(found, stats.truncnorm(0.5, np.inf).logpdf(values), atol=0.02)
    assert found[0] == -np.inf
    plain = above(0.5).calculate_log_probability({"x": values}, number_samples=0)
    np.testing.assert_allclose(plain[1:], stats.norm.logpdf(values[1:]), rtol=1e-6)


def test_density_of_one_value_and_of_a_table() -> None:
    model = above(0.0)
    single = model.calculate_log_probability({"x": 1.0}, number_samples=0)
    table = model.calculate_log_probability(pd.DataFrame({"x": [1.0, -1.0]}, index=["a", "b"]), 0)
    assert single == pytest.approx(stats.norm.logpdf(1.0))
    assert table["a"] == pytest.approx(single) and table["b"] == -np.inf


def test_moments_have_errors() -> None:
    model = above(0.5)
    mean, variance = stats.truncnorm(0.5, np.inf).stats()
    for table, exact in ((model.get_mean(COUNT, 0), mean), (model.get_variance(COUNT, 0), variance)):
        row = table.loc["x"]
        assert row["value"] == pytest.approx(float(exact), abs=5 * row["standard_error"])
        assert 0 < row["standard_error"] < 0.01


def test_rule_joins_variables() -> None:
    x, y = NormalVariable(0.0, 1.0, "x"), NormalVariable(0.0, 1.0, "y")
    draws = truncate_model(ProbabilisticModel([x, y]), (x > y) & (y > 0)).get_sample(1000, seed=0)
    assert ((draws["x"] > draws["y"]) & (draws["y"] > 0)).all()


def test_all_entries_must_keep_to_the_rule() -> None:
    x = NormalVariable([0.0, 0.0, 0.0], 1.0, "x")
    model = truncate_model(ProbabilisticModel([x]), x > 0)
    assert model.get_acceptance_probability(COUNT, seed=0).value == pytest.approx(1 / 8, abs=0.01)
    assert bool((model._get_sample(50)[x] > 0).all())


def test_rule_may_be_a_function_of_draws() -> None:
    model = truncate_model(
        ProbabilisticModel([NormalVariable(0.0, 1.0, "x")]), lambda draws: draws["x"].abs() < 1
    )
    assert model.get_sample(100)["x"].abs().max() < 1
    assert model.calculate_log_probability({"x": 2.0}) == -np.inf


def observed() -> tuple[Any, ProbabilisticModel]:
    """Posterior N(1, 1/2): one datum 2 under N(mu, 1), prior N(0, 1)."""
    mu = NormalVariable(0.0, 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    y.observe(2.0)
    model = ProbabilisticModel([y])
    model.set_posterior_model([NormalVariable(1.0, 0.5**0.5, "mu")])
    return mu, model


def test_posterior_is_truncated() -> None:
    mu, model = observed()
    draws = truncate_model(model, mu < 0.5).get_posterior_sample(COUNT, seed=0)["mu"]
    law = stats.truncnorm(-np.inf, -0.5 / 0.5**0.5, loc=1.0, scale=0.5**0.5)
    assert stats.kstest(draws, law.cdf).pvalue > 1e-4


def test_density_counts_the_data() -> None:
    mu, model = observed()
    truncated = truncate_model(model, mu < 0.5)
    found = truncated.calculate_log_probability({"mu": 0.2}, number_samples=0)
    assert found == pytest.approx(stats.norm.logpdf(0.2) + stats.norm.logpdf(2.0, 0.2))


def test_function_gives_the_truncated_evidence() -> None:
    """p(y, mu < 1/2) is the density of y times the posterior's mass below 1/2."""
    mu, model = observed()
    function = truncate_model(model, mu < 0.5).to_function()
    run = Importance(function, num_samples=COUNT).run()
    exact = stats.norm.logpdf(2.0, 0.0, 2**0.5) + stats.norm.logcdf(0.5, 1.0, 0.5**0.5)
    # Relative error of the estimate is 0.6 %.
    assert float(run.log_weights.logsumexp(0)) - np.log(COUNT) == pytest.approx(exact, abs=0.03)


def test_rule_that_accepts_nothing_error() -> None:
    with pytest.raises(InferenceError, match="got 0 of 20000; ease the rule"):
        above(50.0).get_sample(1, max_proposals=20_000)
    with pytest.raises(InferenceError, match="got none of 100"):
        above(50.0).calculate_log_probability({"x": 51.0}, number_samples=100)


def test_rule_about_other_variables_error() -> None:
    stranger = NormalVariable(0.0, 1.0, "stranger")
    model = truncate_model(ProbabilisticModel([NormalVariable(0.0, 1.0, "x")]), stranger > 0)
    with pytest.raises(SiteError, match=r"variables of the model, got \['stranger'\]"):
        model.get_sample(1)


def test_rule_of_another_kind_error() -> None:
    with pytest.raises(SiteTypeError, match="expected a rule"):
        truncate_model(ProbabilisticModel([NormalVariable(0.0, 1.0, "x")]), True)  # type: ignore[arg-type]


def test_rule_with_a_wrong_result_error() -> None:
    model = truncate_model(
        ProbabilisticModel([NormalVariable(0.0, 1.0, "x")]), lambda draws: torch.tensor(True)
    )
    with pytest.raises(SiteError, match=r"truth values, got \(\)"):
        model.get_sample(1)


def test_function_of_a_rule_without_expression_error() -> None:
    model = truncate_model(ProbabilisticModel([NormalVariable(0.0, 1.0, "x")]), lambda draws: draws["x"] > 0)
    with pytest.raises(SiteTypeError, match="as an expression"):
        model.to_function()
