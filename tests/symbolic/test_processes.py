"""Gaussian processes against their closed forms, written out in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from brancher.errors import InferenceError, SiteError, SiteTypeError
from brancher.symbolic import (
    BF,
    DeterministicVariable,
    LogNormalVariable,
    NormalVariable,
    PoissonVariable,
    ProbabilisticModel,
    RootVariable,
    inference,
)
from brancher.symbolic.processes import (
    ConstantMean,
    Covariance,
    CovarianceFunction,
    ExponentialCovariance,
    GaussianProcess,
    HarmonicCovariance,
    MaternCovariance,
    MeanFunction,
    PeriodicCovariance,
    SquaredExponentialCovariance,
    WhiteNoiseCovariance,
)

X = np.array([-2.0, -1.1, -0.4, 0.0, 0.7, 1.5, 2.0])
Y = np.array([0.3, -0.2, -0.5, 0.1, 0.9, 1.2, 0.4])
NEW = np.array([-3.0, -0.4, 0.35, 5.0])
NOISE = 0.04


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)  # put back by the conftest of the project


def squared_exponential(x: Any, y: Any, scale: float = 0.8) -> np.ndarray:
    return np.exp(-((x[:, None] - y[None, :]) ** 2) / (2 * scale**2))


def value_of(expression: Any) -> np.ndarray:
    return DeterministicVariable(expression, "k").model()._get_sample(1)["k"][0, 0].numpy()


def distance() -> np.ndarray:
    return np.abs(X[:, None] - NEW[None, :])


KERNELS: list[tuple[Callable[[], Covariance], Callable[[np.ndarray], np.ndarray]]] = [
    (lambda: SquaredExponentialCovariance(0.8), lambda r: np.exp(-(r**2) / (2 * 0.8**2))),
    (lambda: ExponentialCovariance(0.8), lambda r: np.exp(-r / 0.8)),
    (lambda: MaternCovariance(0.8, smoothness=0.5), lambda r: np.exp(-r / 0.8)),
    (lambda: MaternCovariance(0.8), lambda r: (1 + 3**0.5 * r / 0.8) * np.exp(-(3**0.5) * r / 0.8)),
    (
        lambda: MaternCovariance(0.8, smoothness=2.5),
        lambda r: (1 + 5**0.5 * r / 0.8 + 5 * r**2 / (3 * 0.8**2)) * np.exp(-(5**0.5) * r / 0.8),
    ),
    (lambda: PeriodicCovariance(0.5, 1.3), lambda r: np.exp(-2 * np.sin(np.pi * 0.5 * r) ** 2 / 1.3**2)),
    (lambda: HarmonicCovariance(0.5), lambda r: np.cos(2 * np.pi * 0.5 * r)),
    (lambda: WhiteNoiseCovariance(0.5), lambda r: 0.0 * r),
    (lambda: CovarianceFunction(lambda x, y: BF.exp(-abs(x - y))), lambda r: np.exp(-r)),
]


@pytest.mark.parametrize(("make", "formula"), KERNELS, ids=[repr(make())[:30] for make, _ in KERNELS])
def test_covariance_is_its_formula(make: Callable[[], Covariance], formula: Callable[..., Any]) -> None:
    np.testing.assert_allclose(value_of(make()(X, NEW)), formula(distance()), rtol=1e-12, atol=1e-15)


def test_matern_agrees_with_scipy() -> None:
    from scipy.special import gamma, kv

    r = distance() + (distance() == 0) * 1e-12
    z = np.sqrt(3.0) * r / 0.8
    expected = 2 ** (1 - 1.5) / gamma(1.5) * z**1.5 * kv(1.5, z)
    np.testing.assert_allclose(value_of(MaternCovariance(0.8)(X, NEW)), expected, rtol=1e-8)


def test_covariances_add_multiply_and_scale() -> None:
    a, b = SquaredExponentialCovariance(0.8), ExponentialCovariance(2.0)
    r = distance()
    expected = 3.0 * np.exp(-(r**2) / (2 * 0.8**2)) * np.exp(-r / 2.0) + 0.5
    np.testing.assert_allclose(value_of((3.0 * a * b + 0.5)(X, NEW)), expected, rtol=1e-12)


def test_covariance_is_scaled_by_a_variable_on_either_side() -> None:
    variance = DeterministicVariable(2.0, "variance")
    kernel = SquaredExponentialCovariance(0.8)
    for scaled in (variance * kernel, kernel * variance, variance**1.0 * kernel):
        np.testing.assert_allclose(value_of(scaled(X)), 2.0 * squared_exponential(X, X), rtol=1e-12)


def test_other_operators_give_no_covariance_error() -> None:
    with pytest.raises(SiteTypeError, match=r"expected \+ or \*"):
        SquaredExponentialCovariance() - WhiteNoiseCovariance()


def test_white_noise_of_repeated_inputs_is_independent() -> None:
    np.testing.assert_array_equal(value_of(WhiteNoiseCovariance(0.5)([1.0, 1.0])), 0.5 * np.eye(2))


def test_one_scale_a_dimension() -> None:
    points = np.stack([X, X**2], -1)
    scaled = points / np.array([0.5, 2.0])
    expected = np.exp(-0.5 * ((scaled[:, None] - scaled[None]) ** 2).sum(-1))
    np.testing.assert_allclose(
        value_of(SquaredExponentialCovariance([0.5, 2.0])(points)), expected, rtol=1e-12
    )


@pytest.mark.parametrize("kind", [ExponentialCovariance, MaternCovariance])
def test_slope_at_equal_inputs_is_finite(kind: Any) -> None:
    covariance = kind(1.0, learnable=True)
    value = DeterministicVariable(covariance(X), "k").model().to_function()()["k"]
    (slope,) = torch.autograd.grad(value.sum(), covariance._settings["scale"].holder._parameters["value"])
    assert bool(torch.isfinite(slope))


def noisy(noise: Any = NOISE, scale: Any = 0.8, mean: Any = 0.5) -> GaussianProcess:
    return GaussianProcess(
        mean, SquaredExponentialCovariance(scale) + WhiteNoiseCovariance(noise), "f", jitter=0.0
    )


def test_values_at_inputs_are_multivariate_normal() -> None:
    y = noisy()(X)
    law = stats.multivariate_normal(0.5 * np.ones(7), squared_exponential(X, X) + NOISE * np.eye(7))
    assert y.calculate_log_probability({"f": Y}) == pytest.approx(law.logpdf(Y), rel=1e-10)


def test_prediction_is_the_closed_form() -> None:
    """Rasmussen and Williams 2006, eqs. 2.25 and 2.26."""
    process = noisy()
    y = process(X)
    y.observe(Y)
    known = squared_exponential(X, X) + NOISE * np.eye(7)
    weights = np.linalg.solve(known, squared_exponential(X, NEW)).T
    sd = np.sqrt(np.diag(np.eye(4) - weights @ squared_exponential(X, NEW)))
    found = process.predict(NEW, given=y, prob=0.8)
    np.testing.assert_allclose(found["mean"], 0.5 + weights @ (Y - 0.5), rtol=1e-9)
    np.testing.assert_allclose(found["sd"], sd, rtol=1e-9)
    np.testing.assert_allclose(found["90%"], stats.norm.ppf(0.9, found["mean"], found["sd"]), rtol=1e-9)
    np.testing.assert_array_equal(found.index, NEW)


def test_index_is_what_was_given() -> None:
    torch.set_default_dtype(torch.float32)
    process = noisy()
    y = process(X)
    y.observe(Y)
    years = np.array([1980.0417, 1980.125])
    assert process.predict(years, given=y).index.tolist() == years.tolist()
    named = process.predict(RootVariable(NEW, name="year"), given=y)
    assert named.index.name == "year" and len(named) == 4


def test_data_that_do_not_fit_error() -> None:
    y = noisy()(X)
    y.observe([1.0, 2.0])
    with pytest.raises(SiteError, match=r"variable 'f': expected data of shape \[7\]"):
        ProbabilisticModel([y]).calculate_log_probability()


def test_prediction_from_nan_error() -> None:
    process = noisy()
    y = process(X)
    y.observe(np.where(X == 0.0, np.nan, Y))
    with pytest.raises(SiteError, match="variable 'f': expected data without NaN to predict from, got 1 NaN"):
        process.predict(NEW, given=y)


def test_new_measurements_have_noise() -> None:
    process = noisy()
    y = process(X)
    y.observe(Y)
    plain, noisy_ones = process.predict(NEW, given=y), process.predict(NEW, given=y, with_noise=True)
    np.testing.assert_allclose(noisy_ones["sd"] ** 2 - plain["sd"] ** 2, NOISE, rtol=1e-9)


def test_values_given_others_make_the_joint_law() -> None:
    process = noisy()
    first = process(X[:3], name="first")
    second = process(X[3:], name="second", given=first)
    joint = process(X, name="both").calculate_log_probability({"both": Y})
    values = {"first": Y[:3], "second": Y[3:]}
    assert ProbabilisticModel([second]).calculate_log_probability(values) == pytest.approx(joint, rel=1e-10)


def test_prediction_from_two_data_sets_is_that_from_their_union() -> None:
    process = noisy()
    parts = [process(X[:3], name="first"), process(X[3:], name="second")]
    parts[0].observe(Y[:3])
    parts[1].observe(Y[3:])
    whole = process(X)
    whole.observe(Y)
    both, one = process.predict(NEW, given=parts), process.predict(NEW, given=whole)
    np.testing.assert_allclose(both.to_numpy(), one.to_numpy(), rtol=1e-9)


def test_mean_functions_join() -> None:
    slope = DeterministicVariable(2.0, "slope")
    mean = MeanFunction(lambda x: slope * x) + 1.0
    y = GaussianProcess(mean, WhiteNoiseCovariance(1.0), "f", jitter=0.0)(X)
    expected = stats.norm.logpdf(Y, 2.0 * X + 1.0, 1.0).sum()
    assert y.calculate_log_probability({"f": Y}) == pytest.approx(expected, rel=1e-12)


def test_learned_settings_reach_the_largest_evidence() -> None:
    """Optimum by a grid of scipy densities; the tolerance is the grid's step."""
    covariance = SquaredExponentialCovariance(0.8) + WhiteNoiseCovariance(0.2, learnable=True, name="noise")
    process = GaussianProcess(0.5, covariance, "f")
    y = process(X)
    y.observe(Y)
    model = ProbabilisticModel([y])
    for steps, lr in ((60, 0.1), (60, 0.02)):
        inference.perform_inference(
            model, steps, inference_method=inference.MaximumLikelihood, lr=lr, progress=False, compile=False
        )
    grid = np.arange(0.002, 0.5, 0.002)
    laws = [
        stats.multivariate_normal(0.5 * np.ones(7), squared_exponential(X, X) + s * np.eye(7)) for s in grid
    ]
    best = grid[np.argmax([law.logpdf(Y) for law in laws])]
    assert model.parameters["noise.magnitude"].item() == pytest.approx(best, abs=0.002)
    assert process.predict(NEW, given=y).shape == (4, 4)


def test_random_settings_match_a_grid() -> None:
    """Posterior of a log-normal noise variance, and the prediction averaged over it."""
    noise = LogNormalVariable(-2.0, 1.0, "noise")
    process = noisy(noise)
    y = process(X)
    y.observe(Y)
    model = ProbabilisticModel([y])
    for steps, lr in ((80, 0.1), (80, 0.01)):
        inference.perform_inference(model, steps, 20, lr=lr, progress=False, compile=False, seed=0)
    log_noise = np.linspace(-8, 2, 400)
    laws = [
        stats.multivariate_normal(0.5 * np.ones(7), squared_exponential(X, X) + np.exp(s) * np.eye(7))
        for s in log_noise
    ]
    log_weights = np.array([law.logpdf(Y) for law in laws]) + stats.norm.logpdf(log_noise, -2.0, 1.0)
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    draws = np.log(model.get_posterior_sample(20_000, seed=0)["noise"])
    mean = weights @ log_noise
    # The posterior is a skewed one; its log-normal fit is near, not exact.
    assert draws.mean() == pytest.approx(mean, abs=0.05)
    assert draws.std() == pytest.approx(np.sqrt(weights @ (log_noise - mean) ** 2), rel=0.1)
    means = []
    for s in np.exp(log_noise):
        gain = np.linalg.solve(squared_exponential(X, X) + s * np.eye(7), squared_exponential(X, NEW)).T
        means.append(0.5 + gain @ (Y - 0.5))
    found = process.predict(NEW, given=y, model=model, number_samples=2000, seed=0)
    np.testing.assert_allclose(found["mean"], weights @ np.array(means), atol=0.02)


def test_band_of_a_mixture_holds_its_share() -> None:
    from brancher.symbolic.processes.bands import mixture_band

    means, variances = torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [0.0]])
    table = mixture_band(means, variances, 0.6)
    # Half of the mixture sits on 4, so the 80 % point is there; the 20 % point is the 40 % one of the normal.
    assert table["80%"].item() == pytest.approx(4.0)
    assert table["20%"].item() == pytest.approx(stats.norm.ppf(0.4), rel=1e-9)
    assert table["mean"].item() == 2.0
    assert table["sd"].item() == pytest.approx(np.sqrt(0.5 + 4.0))


def test_posterior_variable_agrees_with_the_prediction() -> None:
    process = noisy()
    y = process(X)
    y.observe(Y)
    draws = process.posterior(NEW, given=y, name="new").model()._get_sample(20_000, seed=0)["new"][:, 0]
    table = process.predict(NEW, given=y)
    # Five standard errors of a mean of 20,000 draws: 6e-7 false alarms an entry.
    assert (np.abs(draws.mean(0).numpy() - table["mean"]) < 5 * table["sd"] / 20_000**0.5 + 1e-6).all()
    np.testing.assert_allclose(draws.std(0), table["sd"], rtol=0.05)


def test_latent_process_under_counts() -> None:
    """A process behind Poisson counts: its posterior follows them."""
    process = GaussianProcess(1.0, SquaredExponentialCovariance(1.0), "f", jitter=1e-6)
    f = process(X)
    counts = PoissonVariable(BF.exp(f), "counts")
    counts.observe(np.array([1, 1, 2, 4, 12, 20, 18]))
    model = ProbabilisticModel([counts])
    inference.perform_inference(model, 150, 10, lr=0.05, progress=False, compile=False, seed=0)
    mean = model.get_posterior_mean(2000, seed=0)["f"]
    assert mean[0] < 1.0 < 2.0 < mean[-1] < 3.5


def test_inputs_may_be_a_named_variable() -> None:
    y = noisy()(RootVariable(X, name="x"))
    assert y.name == "f(x)"
    assert y.get_sample(2)["f(x)"][0].shape == (7,)


def test_inputs_may_be_random() -> None:
    place = NormalVariable(np.zeros(3), 1.0, "place")
    assert noisy()(place)._get_sample(5)["f(place)"].shape == (5, 1, 3)


def test_single_precision_draws_of_a_smooth_process() -> None:
    torch.set_default_dtype(torch.float32)
    y = GaussianProcess(0.0, SquaredExponentialCovariance(2.0), "f")(np.linspace(-2, 2, 60))
    assert bool(torch.isfinite(y._get_sample(3)["f"]).all())


def test_inputs_as_data_points_error() -> None:
    y = noisy()(RootVariable(X, name="x", is_observed=True))
    with pytest.raises(SiteError, match="without is_observed"):
        y.get_sample(1)


def test_given_of_another_process_error() -> None:
    with pytest.raises(SiteTypeError, match="variables of this process"):
        noisy()(NEW, given=noisy()(X))


def test_prediction_without_data_error() -> None:
    process = noisy()
    with pytest.raises(SiteError, match="expected data to predict from"):
        process.predict(NEW, given=process(X))


def test_prediction_with_random_settings_and_no_posterior_error() -> None:
    process = noisy(LogNormalVariable(0.0, 1.0, "noise"))
    y = process(X)
    y.observe(Y)
    with pytest.raises(InferenceError, match=r"posterior of the random variables \['noise'\]"):
        process.predict(NEW, given=y)


def test_inputs_of_other_dimensions_error() -> None:
    process = noisy()
    y = process(X)
    y.observe(Y)
    with pytest.raises(SiteError, match="one number of dimensions, got 3 and 1|got 1 and 3"):
        process.predict(np.zeros((2, 3)), given=y)


def test_negative_setting_error() -> None:
    with pytest.raises(SiteError, match="SquaredExponential', scale: expected values > 0, got -1"):
        SquaredExponentialCovariance(-1.0)


def test_two_learned_settings_of_one_name_error() -> None:
    with pytest.raises(SiteError, match="give name="):
        SquaredExponentialCovariance(1.0, learnable=True) + SquaredExponentialCovariance(2.0, learnable=True)


def test_covariance_of_another_type_error() -> None:
    with pytest.raises(SiteTypeError, match="Gaussian process 'f': expected a covariance function, got int"):
        GaussianProcess(0.0, 1, "f")  # type: ignore[arg-type]


def test_singular_covariance_is_told() -> None:
    process = GaussianProcess(0.0, SquaredExponentialCovariance(1.0), "f", jitter=0.0)
    y = process([1.0, 1.0])
    y.observe([0.0, 1.0])
    with pytest.raises(SiteError, match="raise jitter"):
        process.predict([2.0], given=y)
    with pytest.raises(SiteError, match="variable 'f'"):
        y.calculate_log_probability({"f": [0.0, 1.0]})


def test_constant_mean_is_learned() -> None:
    mean = ConstantMean(0.0, learnable=True, name="level")
    y = GaussianProcess(mean, WhiteNoiseCovariance(1.0), "f")(X)
    y.observe(Y)
    model = ProbabilisticModel([y])
    for steps, lr in ((50, 0.1), (50, 0.01)):
        inference.perform_inference(
            model, steps, inference_method=inference.MaximumLikelihood, lr=lr, progress=False, compile=False
        )
    assert model.parameters["level.value"].item() == pytest.approx(Y.mean(), abs=1e-3)
