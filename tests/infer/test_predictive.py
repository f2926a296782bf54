from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from brancher import deterministic, handlers, param, plate, sample, set_rng_seed, subsample
from brancher import distributions as dist
from brancher.errors import (
    BrancherWarning,
    GuideError,
    InferenceError,
    InferenceTypeError,
    UnknownNameError,
)
from brancher.infer import Importance, Predictive, Samples, log_likelihood, summary

NAMES = ["Choate", "Deerfield", "Exeter"]


def schools(y: Any = None) -> torch.Tensor:
    mu = sample("mu", dist.Normal(0.0, 5.0))
    with plate("school", 3, coords=NAMES):
        theta = sample("theta", dist.Normal(mu, 2.0))
        deterministic("twice", 2 * theta)
        return sample("y", dist.Normal(theta, 1.0), obs=y)


def regression(x: torch.Tensor, y: Any = None) -> None:
    weights = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with plate("row", len(x)):
        sample("y", dist.Normal(x @ weights, 1.0), obs=y)


def shapes(samples: Samples) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in samples.items()}


@pytest.mark.parametrize("parallel", [None, True, False])
def test_prior_predictive_shapes(parallel: bool | None) -> None:
    draws = Predictive(schools, num_samples=5, parallel=parallel)()
    assert shapes(draws) == {"mu": (5,), "theta": (5, 3), "twice": (5, 3), "y": (5, 3)}


@pytest.mark.parametrize("parallel", [None, True, False])
def test_posterior_predictive_returns_what_was_not_given(parallel: bool | None) -> None:
    given = {"mu": torch.zeros(4), "theta": torch.zeros(4, 3)}
    assert shapes(Predictive(schools, given, parallel=parallel)()) == {"twice": (4, 3), "y": (4, 3)}


@pytest.mark.parametrize("parallel", [True, False])
def test_given_values_are_used(parallel: bool) -> None:
    theta = torch.arange(12.0).reshape(4, 3)
    given = {"mu": torch.zeros(4), "theta": theta}
    draws = Predictive(schools, given, return_sites=["theta", "twice"], parallel=parallel)()
    assert torch.equal(draws["theta"], theta)
    assert torch.equal(draws["twice"], 2 * theta)


@pytest.mark.parametrize("parallel", [True, False])
def test_observed_sites_stay_observed(parallel: bool) -> None:
    y = torch.tensor([1.0, 2.0, 3.0])
    draws = Predictive(schools, num_samples=4, parallel=parallel)(y)
    assert torch.equal(draws["y"], y.expand(4, 3))


@pytest.mark.parametrize("parallel", [True, False])
def test_return_value_can_be_asked_for(parallel: bool) -> None:
    draws = Predictive(schools, num_samples=4, return_sites=["_RETURN", "y"], parallel=parallel)()
    assert torch.equal(draws["_RETURN"], draws["y"])


def test_return_sites_none_returns_all() -> None:
    given = {"mu": torch.zeros(4), "theta": torch.zeros(4, 3)}
    assert list(Predictive(schools, given, return_sites=None)()) == ["mu", "theta", "twice", "y"]


def test_return_sites_may_name_a_param() -> None:
    def model() -> None:
        sample("x", dist.Normal(param("m", torch.tensor(2.0)), 1.0))

    draws = Predictive(model, num_samples=3, return_sites=["m"])()
    assert torch.equal(draws["m"], torch.full((3,), 2.0))


def test_simple_model_is_vectorized() -> None:
    predictive = Predictive(schools, num_samples=5)
    predictive()
    assert predictive.vectorized is True and predictive.reason is None


def test_batch_runs_the_model_a_few_times_only() -> None:
    runs = []

    def model() -> None:
        runs.append(None)
        sample("x", dist.Normal(0.0, 1.0))

    predictive = Predictive(model, num_samples=100)
    predictive()
    predictive()
    assert len(runs) == (1 + 1 + 2 + 1) + (1 + 1)


def test_missing_plates_do_not_mix_draws() -> None:
    # Three draws of three entries outside any plate: a batch dimension at -1 would mix the two up.
    def model() -> None:
        sample("x", dist.Normal(torch.tensor([0.0, 100.0, 200.0]), 1.0))

    draws = Predictive(model, num_samples=3)()
    assert torch.allclose(draws["x"], torch.tensor([0.0, 100.0, 200.0]).expand(3, 3), atol=10.0)


def test_a_branch_on_a_draw_runs_in_a_loop() -> None:
    def model() -> None:
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(1.0 if x > 0 else -1.0, 1e-6))

    predictive = Predictive(model, num_samples=50)
    draws = predictive()
    assert predictive.vectorized is False and "RuntimeError" in str(predictive.reason)
    assert torch.allclose(draws["y"], torch.where(draws["x"] > 0, 1.0, -1.0), atol=1e-3)


def test_mixing_draws_is_found_out() -> None:
    def model() -> None:
        with plate("row", 4):
            x = sample("x", dist.Normal(0.0, 1.0))
        deterministic("total", x.sum())

    predictive = Predictive(model, num_samples=10)
    draws = predictive()
    assert predictive.vectorized is False and "mixes" in str(predictive.reason)
    assert torch.allclose(draws["total"], draws["x"].sum(-1), atol=1e-5)


def test_mixing_is_found_where_the_first_draws_are_equal() -> None:
    def model() -> None:
        x = sample("x", dist.Normal(0.0, 1.0))
        deterministic("mean", x.mean())

    given = {"x": torch.tensor([1.0, 1.0, 5.0])}
    assert torch.equal(Predictive(model, given)()["mean"], given["x"])


def test_matrix_products_are_predicted_row_by_row() -> None:
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    x = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
    draws = Predictive(regression, {"w": weights})(x)
    assert torch.allclose(draws["y"], weights @ x.T, atol=6.0)
    assert draws["y"].shape == (3, 2)


def test_batch_size_gives_all_draws() -> None:
    theta = torch.arange(21.0).reshape(7, 3)
    given = {"mu": torch.zeros(7), "theta": theta}
    draws = Predictive(schools, given, batch_size=3)()
    assert torch.equal(draws["twice"], 2 * theta)


@pytest.mark.parametrize("parallel", [True, False])
def test_same_seed_same_numbers(parallel: bool) -> None:
    first, second = (
        handlers.seed(Predictive(schools, num_samples=5, parallel=parallel), rng_seed=1)() for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_checking_leaves_the_random_numbers_alone() -> None:
    checked = handlers.seed(Predictive(schools, num_samples=5), rng_seed=1)()
    unchecked = handlers.seed(Predictive(schools, num_samples=5, parallel=True), rng_seed=1)()
    assert torch.equal(checked["y"], unchecked["y"])


def test_guide_gives_the_latent_sites() -> None:
    def guide() -> None:
        sample("mu", dist.Normal(100.0, 1e-3))
        with plate("school", 3):
            sample("theta", dist.Normal(torch.tensor([0.0, 10.0, 20.0]), 1e-3))

    draws = Predictive(schools, guide=guide, num_samples=6)()
    assert shapes(draws) == {"mu": (6,), "theta": (6, 3), "twice": (6, 3), "y": (6, 3)}
    assert torch.allclose(draws["theta"], torch.tensor([0.0, 10.0, 20.0]).expand(6, 3), atol=0.1)


@pytest.mark.parametrize("parallel", [None, False])
def test_guide_and_model_see_the_same_rows(parallel: bool | None) -> None:
    data = torch.arange(10.0)

    def model() -> None:
        with plate("row", 10, subsample_size=2):
            rows = subsample(data, event_dim=0)
            z = sample("z", dist.Normal(0.0, 1.0))
            deterministic("error", z - rows)

    def guide() -> None:
        with plate("row", 10, subsample_size=2):
            sample("z", dist.Normal(subsample(data, event_dim=0), 1e-6))

    draws = Predictive(model, guide=guide, num_samples=20, parallel=parallel)()
    assert torch.allclose(draws["error"], torch.zeros(20, 2), atol=1e-3)


def test_chains_are_kept_apart() -> None:
    given = {"mu": torch.zeros(2, 4), "theta": torch.arange(24.0).reshape(2, 4, 3)}
    draws = Predictive(schools, given, batch_ndims=2)()
    assert torch.equal(draws["twice"], 2 * given["theta"])
    assert draws.to_frame("y").index.names == ["chain", "draw"]


def test_a_single_draw_needs_no_draw_dimension() -> None:
    given = {"mu": torch.tensor(0.0), "theta": torch.arange(3.0)}
    draws = Predictive(schools, given, batch_ndims=0)()
    assert torch.equal(draws["twice"], 2 * given["theta"])


def test_dimensions_of_size_one_in_samples_are_dropped() -> None:
    given = {"mu": torch.zeros(4, 1), "theta": torch.zeros(4, 3)}
    assert Predictive(schools, given, return_sites=["mu"])()["mu"].shape == (4,)


def test_numpy_samples_are_converted() -> None:
    given = {"mu": np.zeros(4), "theta": np.ones((4, 3))}
    assert torch.equal(Predictive(schools, given)()["twice"], torch.full((4, 3), 2.0))


def test_empty_plate_is_predicted() -> None:
    def model() -> None:
        with plate("none", 0):
            sample("x", dist.Normal(0.0, 1.0))

    assert Predictive(model, num_samples=3)()["x"].shape == (3, 0)


def test_iterated_plate_is_predicted() -> None:
    def model() -> None:
        for i in plate("row", 2):
            sample(f"x_{i}", dist.Normal(0.0, 1.0))

    assert shapes(Predictive(model, num_samples=3)()) == {"x_0": (3,), "x_1": (3,)}


def test_normal_normal_posterior_predictive_is_exact() -> None:
    # y | data ~ N(m, s^2 + 1) with m, s of the conjugate posterior; n = 40,000 draws.
    data = torch.tensor([1.0, 2.0, 0.5])
    variance = 1.0 / (1.0 / 4.0 + 3.0)
    mean = variance * float(data.sum())
    n = 40_000
    mu = mean + math.sqrt(variance) * torch.randn(n)

    def model(y: Any = None) -> None:
        mu = sample("mu", dist.Normal(0.0, 2.0))
        sample("y", dist.Normal(mu, 1.0), obs=y)

    y = Predictive(model, {"mu": mu})()["y"].double()
    spread = variance + 1.0
    # Two tests at |z| < 4.5: false-alarm rate 1.4e-5.
    assert abs(float(y.mean()) - mean) < 4.5 * math.sqrt(spread / n)
    assert abs(float(y.var()) - spread) < 4.5 * spread * math.sqrt(2.0 / n)


def test_predictions_carry_no_gradient() -> None:
    def model() -> None:
        sample("x", dist.Normal(param("m", torch.tensor(2.0)), 1.0))

    assert not Predictive(model, num_samples=3)()["x"].requires_grad


def test_outer_handlers_act() -> None:
    with handlers.condition(data={"mu": torch.tensor(7.0)}):
        draws = Predictive(schools, num_samples=3)()
    assert torch.equal(draws["mu"], torch.full((3,), 7.0))


def test_tables_are_labelled_by_coords() -> None:
    table = Predictive(schools, num_samples=4)().to_frame(["mu", "theta"])
    assert list(table) == ["mu", "theta[Choate]", "theta[Deerfield]", "theta[Exeter]"]


def test_labels_follow_given_rows() -> None:
    def model() -> None:
        with plate("row", 3, subsample=torch.tensor([2, 0]), coords=pd.Index(NAMES)):
            sample("x", dist.Normal(0.0, 1.0))

    assert list(Predictive(model, num_samples=2)().to_frame()) == ["x[Exeter]", "x[Choate]"]


def test_rows_drawn_afresh_have_no_labels() -> None:
    def model() -> None:
        with plate("row", 3, subsample_size=2, coords=NAMES):
            sample("x", dist.Normal(0.0, 1.0))

    assert list(Predictive(model, num_samples=2)().to_frame()) == ["x[0]", "x[1]"]


@pytest.mark.parametrize("bad", [0, -1, 2.5, True])
def test_num_samples_is_checked_error(bad: Any) -> None:
    with pytest.raises(InferenceError, match="num_samples as an int > 0"):
        Predictive(schools, num_samples=bad)


def test_neither_samples_nor_number_error() -> None:
    with pytest.raises(ValueError, match="got neither"):
        Predictive(schools)


def test_samples_and_guide_error() -> None:
    with pytest.raises(InferenceError, match="got both"):
        Predictive(schools, {"mu": torch.zeros(3)}, guide=schools)


def test_unequal_lengths_error() -> None:
    with pytest.raises(ValueError, match=r"3 draws of 'mu' and 4 of 'theta'"):
        Predictive(schools, {"mu": torch.zeros(3), "theta": torch.zeros(4, 3)})


def test_no_draws_error() -> None:
    with pytest.raises(InferenceError, match="'mu'"):
        Predictive(schools, {"mu": torch.zeros(0)})


def test_samples_of_wrong_shape_error() -> None:
    with pytest.raises(InferenceError, match=r"site 'theta'.*\(draws, 3\), got \(4,\)"):
        Predictive(schools, {"mu": torch.zeros(2), "theta": torch.zeros(2, 4)})()


def test_samples_that_are_no_mapping_error() -> None:
    with pytest.raises(InferenceTypeError, match="mapping"):
        Predictive(schools, torch.zeros(3))  # type: ignore[arg-type]


def test_unknown_sample_is_told() -> None:
    with pytest.warns(BrancherWarning, match=r"'thetta'.*did you mean 'theta'"):
        Predictive(schools, {"thetta": torch.zeros(3, 3)})()


def test_other_number_of_samples_is_told() -> None:
    with pytest.warns(BrancherWarning, match="num_samples=3"):
        assert Predictive(schools, {"mu": torch.zeros(3)}, num_samples=7).num_samples == 3


def test_unknown_return_site_error() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'theta'"):
        Predictive(schools, num_samples=3, return_sites=["thetta"])()


def test_misspelt_guide_site_error() -> None:
    with pytest.raises(GuideError, match="got 'muu'; did you mean 'mu'"):
        Predictive(schools, guide=lambda: sample("muu", dist.Normal(0.0, 1.0)), num_samples=3)()


def test_model_that_is_no_function_error() -> None:
    with pytest.raises(InferenceTypeError, match="model as a function"):
        Predictive(3, num_samples=3)  # type: ignore[arg-type]


def test_a_site_that_changes_shape_error() -> None:
    sizes = iter([2] * 20 + [3] * 20)

    def model() -> None:
        sample("x", dist.Normal(torch.zeros(next(sizes)), 1.0))

    with pytest.raises(InferenceError, match=r"site 'x'.*\(2,\) and \(3,\)"):
        Predictive(model, num_samples=30, parallel=False)()


def test_every_device(device: torch.device) -> None:
    def model(x: torch.Tensor, y: Any = None) -> None:
        zero = torch.zeros((), device=device)
        mu = sample("mu", dist.Normal(zero, zero + 1.0))
        with plate("row", len(x), device=device):
            sample("y", dist.Normal(mu + x, zero + 1.0), obs=y)

    x = torch.ones(3, device=device)
    prior = Predictive(model, num_samples=4)(x)
    given = {"mu": prior["mu"]}
    found = log_likelihood(model, given, x, x)["y"]
    assert {prior["y"].device.type, found.device.type, Predictive(model, given)(x)["y"].device.type} == {
        device.type
    }
    assert summary(prior).shape[0] == 4
    assert Importance(model, num_samples=30).run(x, x).resample(3)["mu"].device.type == device.type


def test_equal_draws_of_a_model_for_single_draws_run_alone() -> None:
    def model() -> None:
        z = sample("z", dist.Normal(0.0, 1.0))
        sample("x", dist.Dirichlet(z.exp() * torch.ones(2)))

    predictive = Predictive(model, {"z": torch.full((3,), 0.5)})
    assert predictive()["x"].shape == (3, 2) and predictive.vectorized is False


def test_vectorized_trace_has_the_draws_on_the_left():
    data = torch.tensor([0.5, -1.0, 2.0])

    def model(y=None):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        with plate("row", 3):
            sample("y", dist.Normal(mu, 1.0), obs=y)

    mu = torch.tensor([0.0, 1.0, -1.0, 0.3])
    predictive = Predictive(model, {"mu": mu})
    record = predictive.get_vectorized_trace(data)
    record.compute_log_prob()
    expected = dist.Normal(mu[:, None], 1.0).log_prob(data)
    torch.testing.assert_close(record.nodes["y"]["log_prob"], expected)
    assert torch.equal(record.nodes["mu"]["value"], mu[:, None])


def test_vectorized_trace_of_a_model_that_mixes_draws_error():
    def model():
        x = sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        deterministic("total", x.sum())

    with pytest.raises(InferenceError, match="get_vectorized_trace: expected draws that run as one batch"):
        Predictive(model, num_samples=5).get_vectorized_trace()


def test_get_samples_is_a_call():
    set_rng_seed(0)
    predictive = Predictive(lambda: sample("x", dist.Normal(0.0, 1.0)), num_samples=3)
    first = predictive.get_samples()["x"]
    set_rng_seed(0)
    assert torch.equal(predictive()["x"], first)


@pytest.mark.parametrize("parallel", [None, True, False])
def test_models_are_told_that_nobody_asks_for_densities(parallel):
    seen = []

    def model():
        x = sample("x", dist.Normal(0.0, 1.0))
        seen.append(handlers.get_mask() is False)
        return x

    predictive = Predictive(model, num_samples=3, parallel=parallel)
    predictive()
    # Only where the ways to run draws are compared, densities are.
    assert all(seen) or parallel is None
    seen.clear()
    predictive()
    assert all(seen)
    record = predictive.get_vectorized_trace()
    record.compute_log_prob()
    assert bool((record["x"].log_prob < 0).all())
