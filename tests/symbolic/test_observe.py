"""Data: what their dimensions mean, and how variables in rows hang together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from brancher.errors import SiteError, SiteTypeError, UnknownNameError
from brancher.handlers import trace
from brancher.symbolic import (
    BF,
    BernoulliVariable,
    EmpiricalVariable,
    NormalVariable,
    ProbabilisticModel,
    RandomIndices,
    RootVariable,
)

LOG_NORMAL = torch.distributions.Normal(0.0, 1.0).log_prob


def observed(value: Any, shape: tuple[int, ...] = ()) -> Any:
    y = NormalVariable(np.zeros(shape), 1.0, "y")
    y.observe(value)
    return trace(ProbabilisticModel([y])).get_trace().nodes["y"]


@pytest.mark.parametrize(
    ("value", "shape", "rows"),
    [
        (1.5, (), None),
        ([1.0, 2.0], (), 2),
        (np.ones((4, 1)), (), 4),
        (torch.ones(1, 1), (), None),
        (torch.ones(1, 5, 1), (), 5),
        (pd.Series([1.0, 2.0, 3.0]), (), 3),
        ([1.0, 2.0, 3.0], (3,), None),
        (np.ones((5, 3)), (3,), 5),
        (pd.DataFrame(np.ones((5, 3))), (3,), 5),
        (np.ones(4), (1,), 4),
        (np.ones((2, 3)), (2, 3), None),
        (np.ones((6, 2, 3)), (2, 3), 6),
        (pd.Series([np.ones(3), np.zeros(3)]), (3,), 2),
        (3, (), None),
    ],
)
def test_first_dimension_counts_data_points(value: Any, shape: tuple[int, ...], rows: int | None) -> None:
    site = observed(value, shape)
    assert site.is_observed and site.value.is_floating_point()
    assert [frame.size for frame in site.frames] == ([] if rows is None else [rows])
    assert site.fn.event_shape == shape


def test_replicates_are_independent() -> None:
    mu = NormalVariable(0.0, 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    y.observe([1.0, 2.0])
    found = ProbabilisticModel([y]).calculate_log_probability({mu: 0.5})
    expected = LOG_NORMAL(torch.tensor([0.5])) + LOG_NORMAL(torch.tensor([0.5, 1.5])).sum()
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_other_shape_error_names_variable_and_both() -> None:
    y = NormalVariable(np.zeros(3), 1.0, "y")
    y.observe(np.ones((5, 4)))
    with pytest.raises(SiteError, match=r"variable 'y'.*\[3\].*\[5, 4\]"):
        ProbabilisticModel([y]).calculate_log_probability()


def test_data_of_text_error_names_the_variable() -> None:
    with pytest.raises(SiteTypeError, match="variable 'y', observed data.*list of str"):
        NormalVariable(0.0, 1.0, "y").observe(["a"])
    with pytest.raises(SiteTypeError, match="variable 'y'.*None"):
        NormalVariable(0.0, 1.0, "y").observe(None)


def test_nan_in_data_error_names_the_variable() -> None:
    y = NormalVariable(0.0, 1.0, "y")
    y.observe([1.0, float("nan")])
    with pytest.raises(SiteError, match=r"'y'.*NaN"):
        ProbabilisticModel([y]).calculate_log_probability()


def test_two_lengths_of_data_error_names_the_variable() -> None:
    x = RootVariable(np.ones(5), "x", is_observed=True)
    y = NormalVariable(x, 1.0, "y")
    y.observe(np.ones(4))
    with pytest.raises(SiteError, match=r"variable 'y': expected 5 data points.*4"):
        ProbabilisticModel([y]).calculate_log_probability()


def test_model_observes_by_name_variable_or_table_and_forgets() -> None:
    a = NormalVariable(0.0, 1.0, "a")
    b = NormalVariable(a, 1.0, "b")
    model = ProbabilisticModel([b])
    model.observe({"a": 1.0, b: [2.0, 3.0]})
    assert [v.name for v in model.observed_variables] == ["a", "b"]
    model.unobserve([a])
    assert not a.is_observed and b.is_observed
    model.observe(pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, 1.0]}))
    model.unobserve()
    assert not model.is_observed
    with pytest.raises(UnknownNameError, match="'aa'.*did you mean 'a'"):
        model.observe({"aa": 1.0})


def test_regressors_are_rows() -> None:
    x = RootVariable(np.arange(6.0).reshape(3, 2), "x", is_observed=True)
    w = NormalVariable(np.zeros(2), 1.0, "w")
    y = NormalVariable(x @ w, 1.0, "y")
    draws = ProbabilisticModel([y])._get_sample(4)
    assert {k: tuple(v.shape) for k, v in draws.items()} == {"x": (4, 3, 2), "w": (4, 1, 2), "y": (4, 3, 1)}
    torch.testing.assert_close(draws[x][0, 1], torch.tensor([2.0, 3.0]))


def test_minibatch_is_scaled_up_to_all_rows() -> None:
    data = np.arange(10.0)
    x = EmpiricalVariable(data, batch_size=5, name="x", is_observed=True)
    y = NormalVariable(0.0, 1.0, "y")
    y.observe(x)
    record = trace(ProbabilisticModel([y])).get_trace()
    site = record.nodes["y"]
    expected = 2.0 * LOG_NORMAL(site.value).sum()
    torch.testing.assert_close(record.log_prob_sum(), expected)
    assert set(site.value.tolist()) <= set(data)


def test_data_sets_share_their_rows() -> None:
    indices = RandomIndices(dataset_size=20, batch_size=5, name="indices", is_observed=True)
    x = EmpiricalVariable(np.arange(20.0), indices=indices, name="x", is_observed=True)
    labels = EmpiricalVariable(np.arange(20.0) * 10, indices=indices, name="labels", is_observed=True)
    y = NormalVariable(x, 1.0, "y")
    y.observe(labels)
    nodes = trace(ProbabilisticModel([y])).get_trace().nodes
    torch.testing.assert_close(nodes["x"].value * 10, nodes["y"].value)


def test_full_data_are_cut_to_the_minibatch() -> None:
    x = EmpiricalVariable(np.arange(20.0), batch_size=4, name="x", is_observed=True)
    y = NormalVariable(x, 1.0, "y")
    y.observe(np.arange(20.0) + 100)
    nodes = trace(ProbabilisticModel([y])).get_trace().nodes
    torch.testing.assert_close(nodes["x"].value + 100, nodes["y"].value)


def test_minibatch_posterior_has_the_width_of_all_rows() -> None:
    """Unit normals, 1000 rows in batches of 50: exact posterior sd 0.0316."""
    from brancher.symbolic import inference

    data = 0.3 + np.random.default_rng(0).normal(size=1000)
    mu = NormalVariable(0.0, 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    y.observe(EmpiricalVariable(data, batch_size=50, name="rows", is_observed=True))
    model = ProbabilisticModel([y])
    q = NormalVariable(0.0, 0.1, "mu", learnable=True)
    for lr, steps in ((0.02, 400), (0.002, 400), (0.0003, 400)):
        inference.perform_inference(
            model, steps, 10, posterior_model=[q], lr=lr, progress=False, compile=False, seed=0
        )
    assert float(q.parameters["scale"]) == pytest.approx(0.0316, rel=0.1)
    assert float(q.parameters["loc"]) == pytest.approx(data.sum() / 1001, abs=0.015)


def test_weights_decide_what_rows_are_drawn() -> None:
    x = EmpiricalVariable([1.0, 2.0, 3.0], batch_size=3, weights=[0.0, 1.0, 0.0], name="x")
    assert ProbabilisticModel([x])._get_sample(2)["x"].flatten().unique().tolist() == [2.0]
    rows = EmpiricalVariable(
        [1.0, 2.0, 3.0], batch_size=2, weights=[0.0, 1.0, 1.0], name="r", is_observed=True
    )
    assert 1.0 not in ProbabilisticModel([rows])._get_sample(20)["r"].flatten().tolist()


def test_impossible_batches_error_names_the_variable() -> None:
    with pytest.raises(SiteError, match="variable 'i'.*30"):
        RandomIndices(20, 30, "i")
    with pytest.raises(SiteError, match="variable 'x'"):
        EmpiricalVariable(np.ones(3), batch_size=4, name="x")
    with pytest.raises(SiteError, match="variable 'x'.*weights"):
        EmpiricalVariable(np.ones(3), weights=[1.0], name="x")


def test_silent_density_is_left_out() -> None:
    a = NormalVariable(0.0, 1.0, "a")
    b = NormalVariable(a, 1.0, "b")
    model = ProbabilisticModel([b])
    model.silence_density([a])
    found = model.calculate_log_probability({"a": 0.5, "b": 1.0})
    assert found == pytest.approx(float(LOG_NORMAL(torch.tensor(0.5))), rel=1e-5)


def test_discrete_data_of_labels_with_a_trailing_one() -> None:
    x = RootVariable(np.ones((4, 2)), "x", is_observed=True)
    k = BernoulliVariable(logits=BF.sum(x, 1), name="k")
    k.observe(np.array([[1], [0], [1], [1]]))
    assert np.isfinite(ProbabilisticModel([k]).calculate_log_probability())


def test_rows_that_are_one_value_are_drawn_for_each_sample() -> None:
    e = EmpiricalVariable(np.arange(100.0), batch_size=3, name="e")
    found = ProbabilisticModel([NormalVariable(BF.sum(e), 1e-3, "total")])._get_sample(20)
    assert found["e"].shape == (20, 1, 3) and found["e"].unique().numel() > 20
    torch.testing.assert_close(found["total"][:, 0, 0], found["e"].sum((1, 2)), atol=0.01, rtol=1e-4)
