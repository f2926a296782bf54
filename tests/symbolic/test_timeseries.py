"""Markov processes and what is seen of them, against grids, bridges and the Kalman smoother."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from brancher.errors import InferenceError, SiteError, SiteTypeError, UnknownNameError
from brancher.symbolic import (
    BetaVariable,
    DeterministicVariable,
    DiscreteTimeSeries,
    LatentTimeSeriesModel,
    MarkovProcess,
    NormalVariable,
    ProbabilisticModel,
    inference,
)

NAN = float("nan")


def walk(sd: float = 0.5, start: float = 1.0, **options: Any) -> MarkovProcess:
    x0 = NormalVariable(0.0, start, "x0")
    return MarkovProcess(x0, lambda t, x: NormalVariable(x, sd, f"x{t}"), **options)


def autoregression(b: Any, sd: float = 0.25) -> MarkovProcess:
    x0 = NormalVariable(0.0, sd, "x0")
    return MarkovProcess(x0, lambda t, x: NormalVariable(b * x, sd, f"x{t}"))


def fit(model: ProbabilisticModel, *stages: tuple[int, float], **options: Any) -> None:
    for steps, lr in stages:
        inference.perform_inference(model, steps, 20, lr=lr, progress=False, compile=False, seed=0, **options)


# Draws


def test_samples_are_columns_by_time() -> None:
    frame = walk().get_timeseries_sample(3, query_points=5)
    assert frame.shape == (5, 3)
    assert list(frame.index) == [0, 1, 2, 3, 4] and frame.index.name == "time"
    assert all(dtype.kind == "f" for dtype in frame.dtypes)


def test_variance_of_a_walk_grows() -> None:
    frame = walk().get_timeseries_sample(20_000, query_points=5, seed=0)
    # Relative error of a variance of 20,000 draws is 1 %; five of them.
    np.testing.assert_allclose(frame.var(axis=1), 1.0 + 0.25 * np.arange(5), rtol=0.05)


def test_chosen_times_are_drawn_in_their_order() -> None:
    assert list(walk().get_timeseries_sample(1, query_points=[7, 2]).index) == [7, 2]


def test_times_bear_labels() -> None:
    process = walk(times=itertools.count(1871))
    assert process.at(1873).name == "x1873"
    assert list(process.get_timeseries_sample(1, 3).index) == [1871, 1872, 1873]


def test_days_are_times() -> None:
    days = pd.date_range("2020-01-01", periods=4, freq="D")
    process = MarkovProcess(
        NormalVariable(0.0, 1.0, "x"), lambda t, x: NormalVariable(x, 1.0, f"x{t:%m%d}"), times=days
    )
    process.observe(pd.Series([0.5, NAN], index=days[1:3]))
    assert [v.name for v in process.observed_variables] == [f"x0102_{days[1]}"]
    assert list(process.get_timeseries_sample(1, 4).index) == list(days)


def test_name_without_time_gets_it() -> None:
    process = MarkovProcess(NormalVariable(0.0, 1.0, "x"), lambda t, x: NormalVariable(x, 1.0, "x"))
    process.get_timeseries_sample(1, 3)
    assert [v.name for v in process.series] == ["x", "x_1", "x_2"]


def test_learned_values_are_named_after_their_time() -> None:
    process = MarkovProcess(
        NormalVariable(0.0, 1.0, "x"), lambda t, x: NormalVariable(x, 1.0, "x", learnable=True)
    )
    process.get_timeseries_sample(1, 3)
    assert list(process.parameters) == ["x_1.scale", "x_2.scale"]


def test_order_two_gets_them_in_the_order_of_time() -> None:
    first = [DeterministicVariable(1.0, "x0"), DeterministicVariable(2.0, "x1")]
    process = MarkovProcess(first, lambda t, before, x: DeterministicVariable(10 * x + before, f"x{t}"))
    assert list(process.get_timeseries_sample(1, 4)[0]) == [1.0, 2.0, 21.0, 212.0]


def test_vectors_are_cells() -> None:
    x0 = NormalVariable([0.0, 10.0], 0.1, "x0")
    frame = MarkovProcess(x0, lambda t, x: NormalVariable(x, 0.1, f"x{t}")).get_timeseries_sample(2, 3)
    assert frame.shape == (3, 2) and frame.loc[2, 1].shape == (2,)


def test_long_process_is_quick() -> None:
    import time

    seen = LatentTimeSeriesModel(walk(), lambda t, x: NormalVariable(x, 0.3, f"y{t}"))
    start = time.perf_counter()
    seen.get_timeseries_sample(10, 1000)
    assert time.perf_counter() - start < 5.0  # 0.5 s on one core; a quadratic one takes a minute


# Data


def test_density_is_that_of_the_increments() -> None:
    process = autoregression(0.9)
    values = np.array([0.1, 0.3, -0.2, 0.4])
    process.observe(values)
    expected = stats.norm.logpdf(values, np.r_[0.0, 0.9 * values[:-1]], 0.25).sum()
    assert process.calculate_log_probability() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "data",
    [
        [0.1, NAN, 0.3],
        np.array([0.1, NAN, 0.3]),
        torch.tensor([0.1, NAN, 0.3]),
        pd.Series([0.1, NAN, 0.3]),
        pd.DataFrame({0: [0.1, NAN, 0.3]}),
        {0: 0.1, 2: 0.3},
        {"x0": 0.1, "x2": 0.3},
    ],
    ids=["list", "array", "tensor", "Series", "frame", "times", "names"],
)
def test_data_forms(data: Any) -> None:
    process = walk()
    process.get_timeseries_sample(1, 3)
    process.observe(data)
    assert [v.name for v in process.observed_variables] == ["x0", "x2"]


def test_sample_can_be_observed() -> None:
    process, other = walk(), walk()
    process.observe(other.get_timeseries_sample(1, 6)[0])
    assert len(process.observed_variables) == 6


def test_columns_are_independent_series() -> None:
    process, single = walk(), walk()
    frame = pd.DataFrame({"a": [0.1, 0.2], "b": [1.0, 1.5]}, index=[0, 1])
    process.observe(frame)
    total = 0.0
    for column in frame:
        single.observe(frame[column])
        total += single.calculate_log_probability()
    assert process.calculate_log_probability() == pytest.approx(total, rel=1e-5)


def test_draws_from_several_series_are_side_by_side() -> None:
    """Each series goes on from its own last value; a time before is drawn as often as there are series."""
    process = walk(sd=0.1)
    table = pd.DataFrame({"a": [0.0, 1.0], "b": [0.0, -1.0]})
    process.observe(table)
    process.set_posterior_model(lambda: None)
    frame = process.get_posterior_timeseries_sample(4000, 4, seed=0)
    assert list(frame.columns.names) == ["series", "sample"] and frame["a"].shape == (4, 4000)
    assert (frame["a"].loc[:1].T == [0.0, 1.0]).all(axis=None) and (frame["b"].loc[1] == -1.0).all()
    # Five standard errors of the mean of 4000 draws of a walk of two steps.
    assert frame["a"].loc[3].mean() == pytest.approx(1.0, abs=5 * 0.1 * 2**0.5 / 4000**0.5)
    assert frame["b"].loc[3].mean() == pytest.approx(-1.0, abs=5 * 0.1 * 2**0.5 / 4000**0.5)
    assert abs(np.corrcoef(frame["a"].loc[3].astype(float), frame["b"].loc[3].astype(float))[0, 1]) < 0.1


def test_gaps_of_several_series_are_filled_each() -> None:
    process = walk()
    process.observe({1: [1.0, 2.0, 3.0], 3: [1.0, 4.0, 3.0]})
    fit(process, (150, 0.1), (50, 0.01))
    frame = process.get_posterior_timeseries_sample(2000, 4, seed=0)
    assert frame.shape == (4, 6000)
    gap = [frame[i].loc[2].mean() for i in range(3)]
    assert gap == pytest.approx([1.0, 3.0, 3.0], abs=0.1)
    assert (frame[0].loc[0] == frame[2].loc[0]).all()  # the time before them has one value


def test_table_by_variables_is_taken_by_name() -> None:
    process = walk()
    process.get_timeseries_sample(1, 3)
    process.observe(pd.DataFrame({"x0": [0.5], "x2": [0.7]}))
    assert [v.name for v in process.observed_variables] == ["x0", "x2"]
    assert process.at(2).data.tolist() == pytest.approx([0.7])


def test_vectors_are_rows_of_a_frame() -> None:
    x0 = NormalVariable([0.0, 0.0], 1.0, "x0")
    process = MarkovProcess(x0, lambda t, x: NormalVariable(x, 1.0, f"x{t}"))
    process.observe(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}))
    assert process.at(1).data.tolist() == [2.0, 4.0]


def test_data_can_be_forgotten() -> None:
    process = walk()
    process.observe([0.1, 0.2])
    process.unobserve()
    assert not process.is_observed


# Posteriors


def grid_of_b(data: np.ndarray, sd: float = 0.25) -> tuple[float, float]:
    b = np.linspace(0.0, 1.0, 4001)
    log_density = stats.norm.logpdf(data[1:], b[:, None] * data[:-1], sd).sum(1)
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    mean = weights @ b
    return float(mean), float(np.sqrt(weights @ (b - mean) ** 2))


@pytest.mark.slow
def test_coefficient_of_sixty_values_matches_a_grid() -> None:
    data = autoregression(0.9).get_timeseries_sample(1, 60, seed=1)[0]
    mean, sd = grid_of_b(data.to_numpy(dtype=float))
    b = BetaVariable(1.0, 1.0, "b")
    process = autoregression(b)
    process.observe(data)
    process.set_posterior_model([BetaVariable(8.0, 2.0, "b", learnable=True)])
    fit(process, (400, 0.1), (200, 0.02))
    draws = process.get_posterior_sample(50_000, seed=0)["b"]
    assert draws.mean() == pytest.approx(mean, abs=0.01)
    assert draws.std() == pytest.approx(sd, rel=0.1)


def test_forecast_goes_on_from_the_data() -> None:
    """With b near 0.9 and the last value 2: means 1.8, 1.62; the process knows b, so these are exact."""
    process = autoregression(DeterministicVariable(0.9, "b"), sd=0.1)
    process.observe([0.0, 1.0, 2.0])
    process.set_posterior_model(lambda: None)
    frame = process.get_posterior_timeseries_sample(20_000, 5, seed=0)
    assert (frame.loc[2] == 2.0).all()
    # Five standard errors of the mean.
    np.testing.assert_allclose(frame.loc[3:].mean(axis=1), [1.8, 1.62], atol=5 * 0.135 / 20_000**0.5)
    np.testing.assert_allclose(frame.loc[3:].std(axis=1), [0.1, 0.1 * (1 + 0.81) ** 0.5], rtol=0.03)


def test_gap_is_a_bridge() -> None:
    """Between two values a walk is a line, with variance sd^2 k (n - k) / n."""
    process = walk()
    process.observe({0: 1.0, 5: 2.5})
    exact = inference.ReverseKL(automatic="structured")
    fit(process, (100, 0.1), (100, 0.01), inference_method=exact)
    frame = process.get_posterior_timeseries_sample(20_000, seed=0)
    k = np.arange(6)
    np.testing.assert_allclose(frame.mean(axis=1), 1.0 + 0.3 * k, atol=0.04)
    inner = 0.5 * np.sqrt(k * (5 - k) / 5)[1:5]
    np.testing.assert_allclose(frame.std(axis=1)[1:5], inner, rtol=0.08)
    evidence = stats.norm.logpdf(1.0) + stats.norm.logpdf(1.5, 0.0, 0.5 * 5**0.5)
    assert process.estimate_log_model_evidence(5000, seed=0) == pytest.approx(evidence, abs=0.02)


def kalman_smoother(data: np.ndarray, driving: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior of a walk from N(0, 1) seen through noise, by solving the joint normal law."""
    n = len(data)
    times = np.arange(n)
    prior = 1.0 + driving**2 * np.minimum(times[:, None], times[None, :])
    seen = np.flatnonzero(~np.isnan(data))
    gain = prior[:, seen] @ np.linalg.inv(prior[np.ix_(seen, seen)] + noise**2 * np.eye(len(seen)))
    return gain @ data[seen], np.sqrt(np.diag(prior - gain @ prior[seen]))


def test_hidden_walk_with_a_gap_matches_the_smoother() -> None:
    data = np.array([0.2, 0.5, NAN, NAN, 1.4, 1.1])
    process = walk()
    seen = LatentTimeSeriesModel(process, lambda t, x: NormalVariable(x, 0.3, f"y{t}"))
    seen.observe(data)
    fit(seen, (100, 0.1), (80, 0.01), inference_method=inference.ReverseKL(automatic="structured"))
    frame = process.get_posterior_timeseries_sample(20_000, 8, model=seen, seed=0)
    mean, sd = kalman_smoother(np.r_[data, NAN, NAN], 0.5, 0.3)
    np.testing.assert_allclose(frame.mean(axis=1), mean, atol=0.05)
    np.testing.assert_allclose(frame.std(axis=1), sd, rtol=0.1)
    measured = seen.get_posterior_timeseries_sample(20_000, 8, seed=0)
    np.testing.assert_allclose(measured.std(axis=1), np.sqrt(sd**2 + 0.09), rtol=0.1)


def test_series_are_parts_of_a_larger_model() -> None:
    sd = DeterministicVariable(0.3, "noise")
    process = walk()
    seen = LatentTimeSeriesModel(process, lambda t, x: NormalVariable(x, sd, "y"))
    seen.observe([0.1, 0.2])
    model = ProbabilisticModel([process, seen])
    fit(model, (5, 0.01))
    assert process.get_posterior_timeseries_sample(7, 4, model=model).shape == (4, 7)


def test_posterior_may_be_a_process() -> None:
    process = walk()
    seen = LatentTimeSeriesModel(process, lambda t, x: NormalVariable(x, 0.3, f"y{t}"))
    seen.observe([0.1, 0.2, 0.3])
    posterior = MarkovProcess(
        NormalVariable(0.0, 1.0, "x0", learnable=True),
        lambda t, x: NormalVariable(x + DeterministicVariable(0.0, f"step{t}", learnable=True), 1.0, f"x{t}"),
    )
    process.get_timeseries_sample(1, 3)
    seen.set_posterior_model(posterior)
    fit(seen, (5, 0.01))
    assert len(posterior.times) == 3


def test_variables_by_hand() -> None:
    x = [NormalVariable(0.0, 1.0, "a"), NormalVariable(5.0, 1.0, "b")]
    series = DiscreteTimeSeries(x, times=["first", "second"])
    series.observe({"second": 4.0})
    assert x[1].data == 4.0
    assert list(series.get_timeseries_sample(2).index) == ["first", "second"]


def test_measurements_by_hand() -> None:
    x = [NormalVariable(0.0, 1.0, "a")]
    x.append(NormalVariable(x[0], 0.1, "b"))
    y = [NormalVariable(each, 0.5, f"seen {each.name}") for each in x]
    seen = LatentTimeSeriesModel(x, y, [2020, 2021])
    seen.observe({2021: 1.0})
    assert y[1].data == 1.0 and not y[0].is_observed
    assert list(seen.get_timeseries_sample(3).index) == [2020, 2021]
    assert [v.name for v in seen.latent.series] == ["a", "b"]
    fit(seen, (100, 0.1), (50, 0.01), inference_method=inference.ReverseKL(automatic="structured"))
    frame = seen.latent.get_posterior_timeseries_sample(4000, model=seen, seed=0)
    # b is 1.0 seen through N(0, .25), prior variance 1.01.
    assert frame.loc[2021].mean() == pytest.approx(1.01 / 1.26, abs=0.05)


# Errors


def test_other_number_of_measurements_error() -> None:
    x = [NormalVariable(0.0, 1.0, name) for name in "ab"]
    with pytest.raises(SiteError, match="a measurement for each of 2 times, got 1"):
        LatentTimeSeriesModel(x, [NormalVariable(x[0], 1.0, "y")])


def test_time_that_is_none_error() -> None:
    with pytest.raises(UnknownNameError, match=r"expected one of its times 0 to 3, got 2\.5"):
        walk().at(2.5)


def test_time_of_another_kind_error() -> None:
    with pytest.raises(UnknownNameError, match="got 'a'"):
        walk().at("a")


def test_labels_need_no_order() -> None:
    process = walk(times=["z", "m", "a"])
    assert process.at("a").name == "xa"
    with pytest.raises(UnknownNameError, match="got 'zz'"):
        walk(times=["z", "m", "a"]).at("zz")


def test_time_beyond_the_last_error() -> None:
    with pytest.raises(UnknownNameError, match="got 3"):
        walk(times=range(3)).at(3)
    with pytest.raises(UnknownNameError, match="give it more times"):
        walk(times=range(3)).get_timeseries_sample(1, 4)


def test_time_beyond_given_variables_error() -> None:
    with pytest.raises(UnknownNameError, match="no other variables"):
        DiscreteTimeSeries([NormalVariable(0.0, 1.0, "a")]).at(1)


def test_step_without_variable_error() -> None:
    process = MarkovProcess(NormalVariable(0.0, 1.0, "x0"), lambda t, x: 2 * x)
    with pytest.raises(SiteTypeError, match="gives a variable, got Operation at 1"):
        process.get_timeseries_sample(1, 2)


def test_step_that_is_no_function_error() -> None:
    with pytest.raises(SiteTypeError, match="MarkovProcess: expected a function"):
        MarkovProcess(NormalVariable(0.0, 1.0, "x0"), NormalVariable(0.0, 1.0, "x1"))  # type: ignore[arg-type]


def test_step_that_gives_an_old_variable_error() -> None:
    process = MarkovProcess(NormalVariable(0.0, 1.0, "x0"), lambda t, x: x)
    with pytest.raises(SiteError, match="expected a new variable for every time, got 'x0' again at 1"):
        process.get_timeseries_sample(1, 2)
    assert process.at(0).name == "x0"


def test_no_first_variable_error() -> None:
    with pytest.raises(SiteTypeError, match="expected variables, got none"):
        MarkovProcess([], lambda t, x: x)


def test_posterior_before_inference_error() -> None:
    with pytest.raises(InferenceError, match="expected a posterior"):
        walk().get_posterior_timeseries_sample(1, 3)


def test_no_times_error() -> None:
    with pytest.raises(SiteError, match="query_points >= 1"):
        walk().get_timeseries_sample(1, 0)


def test_data_for_a_computed_variable_error() -> None:
    process = MarkovProcess(
        DeterministicVariable(1.0, "x0"), lambda t, x: DeterministicVariable(2 * x, f"x{t}")
    )
    with pytest.raises(SiteTypeError, match="variable 'x1'"):
        process.observe({1: 2.0})


def test_failed_prolongation_changes_nothing() -> None:
    process = MarkovProcess(
        NormalVariable(0.0, 1.0, "x0"), lambda t, x: NormalVariable(x, 1.0, "x100" if t == 10 else f"x{t}")
    )
    with pytest.raises(SiteError, match="variable 'x100'"):
        process.get_timeseries_sample(1, 101)
    assert process.times == [0]
