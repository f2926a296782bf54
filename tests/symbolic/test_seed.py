"""The listings of the article that recommends the project, as printed but for their slips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from brancher.errors import SiteError
from brancher.symbolic import BF, NormalVariable, ProbabilisticModel, inference

Y = [
    0.5962, 1.6006, 3.2332, 5.679, 3.1139, 4.1798, 3.5664, 3.6381, 3.7305, 3.1705,
    4.3976, 4.3755, 3.7323, 4.2587, 4.3329, 5.7457, 5.026, 4.4229, 3.167, 0.0834,
]  # fmt: skip


def truth() -> tuple[float, float, float, np.ndarray]:
    """E[b], sd[b], log evidence and E[x]: a grid over b and, for each b, the joint normal law of x and y."""
    u = np.linspace(-8.0, 9.0, 1500)
    b = 1.0 / (1.0 + np.exp(-u))
    y, n = np.array(Y), len(Y)
    log_joint, means = [], []
    for value in b:
        step = np.eye(n) - value * np.eye(n, k=-1)
        covariance = np.linalg.inv(step.T @ step)
        total = covariance + 0.3**2 * np.eye(n)
        solved = np.linalg.solve(total, y)
        log_joint.append(-0.5 * (y @ solved + np.linalg.slogdet(2 * np.pi * total)[1]))
        means.append(covariance @ solved)
    prior = -0.5 * (u - 0.5) ** 2 - 0.5 * np.log(2 * np.pi)
    log_weights = np.array(log_joint) + prior + np.log(u[1] - u[0])
    evidence = np.logaddexp.reduce(log_weights)
    weights = np.exp(log_weights - evidence)
    mean = float(weights @ b)
    return mean, float(weights @ (b - mean) ** 2) ** 0.5, float(evidence), weights @ np.array(means)


def test_first_listing_builds_and_samples() -> None:
    a = NormalVariable(loc=0.0, scale=1.0, name="a")
    b = NormalVariable(loc=0.0, scale=1.0, name="b")
    c = NormalVariable(loc=a**2 + BF.sin(b), scale=BF.exp(b), name="c")
    frame = ProbabilisticModel([c]).get_sample(5)
    assert list(frame) == ["a", "b", "c"] and frame.shape == (5, 3)
    assert set(frame.dtypes) == {np.dtype(float)}


def test_printed_name_used_twice_error_names_both() -> None:
    a = NormalVariable(loc=0.0, scale=1.0, name="a")
    c = NormalVariable(loc=a**2, scale=2.0, name="a")
    with pytest.raises(SiteError, match=r"variable 'a'.*loc=0.*loc=a\*\*2"):
        ProbabilisticModel([c])


def test_own_samples_can_be_observed_as_printed(make_autoregressive: Any) -> None:
    ar = make_autoregressive(5)
    data = ar["model"]._get_sample(1)
    [yt.observe(data[yt][:, 0, :]) for yt in ar["y"]]
    assert data["y3"].shape == (1, 1, 1)
    assert all(yt.is_observed for yt in ar["y"])


def test_truth_is_that_of_the_grid() -> None:
    mean, sd, evidence, _ = truth()
    assert (mean, sd, evidence) == pytest.approx((0.8985, 0.0409, -37.006), abs=5e-4)


def test_printed_call_lowers_the_loss_and_prints_a_table(make_autoregressive: Any) -> None:
    ar = make_autoregressive()
    AR_model = ar["model"]
    [yt.observe(value) for yt, value in zip(ar["y"], Y, strict=True)]
    AR_model.set_posterior_model(ar["posterior"])
    result = inference.perform_inference(
        AR_model,
        number_iterations=30,
        number_samples=300,
        optimizer="SGD",
        lr=0.001,
        progress=False,
        compile=False,
    )
    losses = AR_model.diagnostics["loss curve"]
    assert losses.iloc[-1] < 0.2 * losses.iloc[0]
    assert list(result.summary().index[:3]) == ["x0", "b", "x1"]


@pytest.mark.slow
def test_printed_inference_finds_the_posterior(make_autoregressive: Any) -> None:
    ar = make_autoregressive()
    model = ar["model"]
    [yt.observe(value) for yt, value in zip(ar["y"], Y, strict=True)]
    model.set_posterior_model(ar["posterior"])
    inference.perform_inference(
        model,
        number_iterations=500,
        number_samples=300,
        optimizer="SGD",
        lr=0.001,
        progress=False,
        compile=False,
    )
    draws = model.get_posterior_sample(20_000, seed=0)
    mean, _, evidence, x = truth()
    assert abs(draws["b"].mean() - mean) <= 0.015
    assert 0.033 <= draws["b"].std() <= 0.048
    found = np.array([draws[f"x{t}"].mean() for t in range(20)])
    assert np.sqrt(np.mean((found - x) ** 2)) <= 0.05
    elbo = model.estimate_log_model_evidence(20_000, seed=0)
    assert elbo == pytest.approx(-43.25, abs=0.6)
    # Far below the evidence, so importance weights are uneven; the estimate is still near.
    assert model.estimate_log_model_evidence(20_000, method="IS", seed=0) == pytest.approx(evidence, abs=1.0)


@pytest.mark.slow
def test_well_optimised_inference_is_near_the_truth(make_autoregressive: Any) -> None:
    ar = make_autoregressive()
    model = ar["model"]
    [yt.observe(value) for yt, value in zip(ar["y"], Y, strict=True)]
    for iterations, lr in ((1500, 0.05), (1500, 0.01), (1000, 0.001)):
        inference.perform_inference(
            model, iterations, 100, posterior_model=ar["posterior"], lr=lr, progress=False, compile=False
        )
    elbo = model.estimate_log_model_evidence(20_000, seed=0)
    assert -39.2 <= elbo <= -37.006
    assert abs(model.get_posterior_mean(100_000, seed=0)["b"] - truth()[0]) <= 0.005


def test_long_chain_is_built_sampled_and_scored_fast() -> None:
    from time import process_time

    start = process_time()
    x = NormalVariable(0.0, 1.0, "x0")
    for t in range(1, 2000):
        x = NormalVariable(0.9 * x, 1.0, f"x{t}")
    model = ProbabilisticModel([x])
    built = process_time()
    values = model._get_sample(1)
    sampled = process_time()
    score = model.calculate_log_probability({name: value[0, 0, 0] for name, value in values.items()})
    scored = process_time()
    assert np.isfinite(score) and len(values) == 2000
    # Processor time, 0.2 s each on an idle core; a shared machine may take a few times that.
    assert max(built - start, sampled - built, scored - sampled) < 1.0
    assert torch.isfinite(values["x1999"]).all()
    table = model.get_sample(1)
    start = process_time()
    model.observe(table)
    assert model.calculate_log_probability() == pytest.approx(
        model.calculate_log_probability(table)[0], rel=1e-4
    )
    assert process_time() - start < 2.0  # linear: one by one, each with a new graph, it took minutes


@pytest.mark.slow
def test_compiled_iterations_are_the_eager_ones(make_autoregressive: Any) -> None:
    def losses(compiled: bool) -> Any:
        ar = make_autoregressive(4)
        [yt.observe(value) for yt, value in zip(ar["y"], Y[:4], strict=True)]
        ar["model"].set_posterior_model(ar["posterior"])
        result = inference.perform_inference(
            ar["model"], 20, 30, optimizer="SGD", lr=0.001, seed=0, progress=False, compile=compiled
        )
        return result.losses

    # The same draws in the same order; only rounding differs.
    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-3)
