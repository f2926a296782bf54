"""Posteriors of whole models against closed forms, quadrature and long runs of NUTS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from brancher.errors import InferenceError
from brancher.symbolic import (
    BF,
    BernoulliVariable,
    BetaVariable,
    BinomialVariable,
    EmpiricalVariable,
    HalfNormalVariable,
    NormalVariable,
    ProbabilisticModel,
    RandomIndices,
    RootVariable,
    inference,
)

QUIET: Any = {"progress": False, "compile": False}


def fit(model: ProbabilisticModel, *stages: tuple[int, float], samples: int = 10, **options: Any) -> None:
    for steps, lr in stages:
        inference.perform_inference(model, steps, samples, lr=lr, seed=0, **QUIET, **options)


def nuts(model: ProbabilisticModel, draws: int = 1000) -> Any:
    inference.perform_inference(
        model, draws, inference_method=inference.NUTS(num_chains=4), seed=0, progress=False
    )
    return model.get_posterior_sample(20_000, seed=0)


def test_beta_binomial_is_the_closed_form() -> None:
    p = BetaVariable(2.0, 3.0, "p")
    k = BinomialVariable(10, p, "k")
    k.observe(7)
    model = ProbabilisticModel([k])
    posterior = [BetaVariable(5.0, 5.0, "p", learnable=True)]
    fit(model, (100, 0.3), (100, 0.05), samples=50, posterior_model=posterior)
    draws = model.get_posterior_sample(50_000, seed=0)["p"]
    exact = torch.distributions.Beta(9.0, 6.0)
    # The sd of the mean of the draws is 0.0006; the rest is the short fit.
    assert draws.mean() == pytest.approx(float(exact.mean), abs=0.01)
    assert draws.std() == pytest.approx(float(exact.stddev), rel=0.1)
    # 120 is the binomial coefficient; the rest is a ratio of Beta functions.
    log_beta = torch.lgamma(torch.tensor([9.0, 6.0, 15.0, 2.0, 3.0, 5.0]))
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, 1.0])
    evidence = float(np.log(120) + (log_beta * signs).sum())
    assert model.estimate_log_model_evidence(20_000, seed=0) == pytest.approx(evidence, abs=0.02)


def hierarchy() -> ProbabilisticModel:
    """Groups whose means are shrunk towards each other."""
    y = np.array([2.8, 0.8, -0.3, 0.7, -0.1, 0.1, 1.8, 1.2])
    mu = NormalVariable(0.0, 1.0, "mu")
    tau = HalfNormalVariable(1.0, "tau")
    eta = NormalVariable(np.zeros(8), 1.0, "eta")
    seen = NormalVariable(mu + tau * eta, 0.5, "y")
    seen.observe(y)
    return ProbabilisticModel([seen])


@pytest.mark.slow
def test_hierarchical_model_agrees_with_nuts() -> None:
    exact = nuts(hierarchy())
    model = hierarchy()
    fit(model, (800, 0.03), (600, 0.003))
    found = model.get_posterior_sample(20_000, seed=0)
    # Means of an independent normal posterior are near; its sds are smaller at most.
    assert found["mu"].mean() == pytest.approx(exact["mu"].mean(), abs=0.1)
    assert found["tau"].mean() == pytest.approx(exact["tau"].mean(), abs=0.15)
    assert found["mu"].std() < 1.1 * exact["mu"].std()
    eta, mine = (np.stack(list(each["eta"])).mean(0) for each in (exact, found))
    np.testing.assert_allclose(mine, eta, atol=0.15)


def logistic(batch_size: int | None) -> ProbabilisticModel:
    """Two regressors, 200 rows, as a minibatch or whole."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2))
    labels = (rng.random(200) < 1.0 / (1.0 + np.exp(-rows @ [1.5, -1.0]))).astype(float)
    w = NormalVariable(np.zeros(2), 1.0, "w")
    if batch_size is None:
        x: Any = RootVariable(rows, "x", is_observed=True)
        seen: Any = labels
    else:
        indices = RandomIndices(200, batch_size, name="indices")
        x = EmpiricalVariable(rows, indices=indices, name="x")
        seen = EmpiricalVariable(labels, indices=indices, name="labels")
    k = BernoulliVariable(logits=BF.dot(x, w), name="k")
    k.observe(seen)
    return ProbabilisticModel([k])


@pytest.mark.slow
def test_logistic_regression_of_minibatches_agrees_with_nuts_of_all_rows() -> None:
    exact = np.stack(list(nuts(logistic(None))["w"]))
    model = logistic(20)
    fit(model, (1500, 0.02), (1500, 0.002))
    found = np.stack(list(model.get_posterior_sample(20_000, seed=0)["w"]))
    np.testing.assert_allclose(found.mean(0), exact.mean(0), atol=0.06)
    # Wide by 3 if minibatches were not scaled up to all rows.
    np.testing.assert_allclose(found.std(0), exact.std(0), rtol=0.2)


def test_structured_posterior_of_a_variable_with_data_points_error() -> None:
    share = BetaVariable(1.0, 1.0, "share")
    is_high = BernoulliVariable(
        probs=share * RootVariable(np.ones(3), "one", is_observed=True), name="is_high"
    )
    y = NormalVariable(4.0 * is_high, 1.0, "y")
    y.observe(np.array([0.0, 4.0, 3.0]))
    with pytest.raises(InferenceError, match=r"variable 'is_high'.*each of 3; .*NUTS"):
        inference.perform_inference(ProbabilisticModel([y]), 2, progress=False)
