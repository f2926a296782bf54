"""``sample`` and its neighbours: values, observations, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from brancher import deterministic, factor, handlers, markov, param, plate, sample, set_rng_seed
from brancher import distributions as dist
from brancher.errors import BrancherWarning, HandlerError, SiteError, SiteTypeError, UnknownParamError
from brancher.primitives import module


def traced(fn):
    return handlers.trace(fn).get_trace()


@pytest.mark.parametrize(
    "value", [2.0, 2, np.float32(2.0), np.array(2.0), torch.tensor(2.0), pd.Series([2.0])]
)
def test_observation_is_converted(value):
    out = sample("x", dist.Normal(torch.zeros(1) if isinstance(value, pd.Series) else 0.0, 1.0), obs=value)
    assert out.dtype == torch.get_default_dtype() and float(out) == 2.0


def test_observation_keeps_integers_for_a_discrete_law():
    assert sample("x", dist.Categorical(torch.ones(3)), obs=np.array(1)).dtype == torch.int64


def test_foreign_distribution_is_accepted():
    trace = traced(lambda: sample("x", torch.distributions.Normal(0.0, 1.0)))
    assert torch.isfinite(trace.log_prob_sum())


def test_foreign_distribution_in_a_plate_is_expanded():
    with plate("row", 3):
        assert sample("x", torch.distributions.Gamma(1.0, 1.0)).shape == (3,)


def test_obs_mask_splits_a_site():
    mask = torch.tensor([True, False, True])
    data = torch.tensor([1.0, float("nan"), 3.0])
    trace = traced(lambda: sample("x", dist.Normal(torch.zeros(3), 1.0), obs=data, obs_mask=mask))
    value = trace.nodes["_RETURN"]["value"]
    assert value[0] == 1.0 and value[2] == 3.0 and torch.isfinite(value).all()
    assert trace.stochastic_nodes == ["x_unobserved"] and trace.observation_nodes == ["x_observed"]
    expected = dist.Normal(0.0, 1.0).log_prob(value).sum()
    assert torch.allclose(trace.log_prob_sum(), expected)


@pytest.mark.parametrize("name", [3, None, 2.5])
def test_name_not_a_string_error(name):
    with pytest.raises(SiteTypeError, match=f"{name!r} of type"):
        sample(name, dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("call", [lambda: sample("", dist.Normal(0.0, 1.0)), lambda: deterministic("", 1.0)])
def test_empty_name_error(call):
    with pytest.raises(SiteError, match="non-empty name"):
        call()


def test_tensor_in_place_of_a_distribution_error():
    with pytest.raises(SiteTypeError, match="site 'x': expected a distribution, got Tensor"):
        sample("x", torch.tensor(1.0))


@pytest.mark.parametrize("obs", [["a", "b"], [1.0, 2.0], np.array(["a"]), {"a": 1}])
def test_observation_of_another_kind_error(obs):
    with pytest.raises(SiteTypeError, match="site 'x': expected a value as a tensor"):
        sample("x", dist.Normal(0.0, 1.0), obs=obs)


def test_observation_with_nan_error():
    with pytest.raises(SiteError, match=r"site 'x'.*2 NaN, the first at \[\(1,\), \(3,\)\]"):
        data = torch.tensor([0.0, float("nan"), 0.0, float("nan")])
        sample("x", dist.Normal(torch.zeros(4), 1.0), obs=data)


def test_observation_that_broadcasts_wider_error():
    with pytest.raises(SiteError, match=r"site 'x': expected obs of shape \[3\].*got \[3, 1\].*\[3, 3\]"):
        sample("x", dist.Normal(torch.zeros(3), 1.0), obs=torch.zeros(3, 1))


def test_scalar_observation_in_a_plate_warns():
    with pytest.warns(BrancherWarning, match="site 'x'.*plate 'p'.*counted 3 times"), plate("p", 3):
        sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0))


@pytest.mark.parametrize(
    ("law", "value", "shown"),
    [(dist.Gamma(1.0, 1.0), -1.0, "-1"), (dist.Categorical(torch.ones(3)), 5, "5")],
)
def test_observation_outside_the_support_error(law, value, shown):
    trace = traced(lambda: sample("x", law, obs=torch.tensor(value)))
    with pytest.raises(SiteError, match=f"site 'x'.*{shown}"):
        trace.log_prob_sum()


def test_param_without_a_value_error():
    with pytest.raises(UnknownParamError, match="lok"):
        param("lok")


def test_module_parameters_are_sites():
    net = torch.nn.Linear(2, 1)
    trace = traced(lambda: module("net", net))
    assert trace.param_nodes == ["net.weight", "net.bias"]
    assert trace.nodes["net.weight"]["value"] is net.weight


def test_module_runs_with_lifted_parameters():
    net = torch.nn.Linear(2, 1)
    x = torch.ones(2)
    lifted = handlers.substitute(lambda: module("net", net)(x), data={"net.bias": torch.tensor([100.0])})
    assert torch.allclose(lifted(), net.weight.sum() + 100.0)


def test_deterministic_converts_numbers():
    assert torch.equal(deterministic("d", 3), torch.tensor(3))


def test_factor_adds_to_the_density_in_every_row():
    def model():
        with plate("row", 3):
            factor("f", torch.tensor([1.0, 2.0, 3.0]))

    assert traced(model).log_prob_sum() == 6.0


def test_markov_marks_depth_and_step():
    def chain():
        for t in markov(range(2)):
            sample(f"x_{t}", dist.Normal(0.0, 1.0))

    trace = traced(chain)
    assert trace.nodes["x_1"]["infer"]["markov"] == {"depth": 0, "step": 1, "history": 1}


def test_markov_negative_history_error():
    with pytest.raises(HandlerError, match="history"):
        markov(range(2), history=-1)


def test_set_rng_seed_repeats_draws():
    set_rng_seed(np.int64(7))
    first = (torch.rand(1), np.random.rand())
    set_rng_seed(7)
    assert (torch.rand(1), np.random.rand()) == first
