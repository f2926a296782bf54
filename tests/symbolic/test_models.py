"""Models: tables, scores, moments, nesting, and how they mix with function models."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import brancher.distributions as dist
from brancher import sample
from brancher.errors import ParamError, SiteError, SiteTypeError, UnknownNameError
from brancher.handlers import trace
from brancher.infer import MCMC, NUTS, SVI
from brancher.infer.autoguide import AutoNormal
from brancher.symbolic import (
    BF,
    BetaVariable,
    CategoricalVariable,
    CauchyVariable,
    DeterministicVariable,
    MultivariateNormalVariable,
    NegativeBinomialVariable,
    NormalVariable,
    PoissonVariable,
    ProbabilisticModel,
    RootVariable,
    as_parent,
    inference,
)


def two() -> tuple[NormalVariable, NormalVariable]:
    a = NormalVariable(0.0, 1.0, "a")
    return a, NormalVariable(a**2, 2.0, "b")


def test_missing_parent_is_pulled_in() -> None:
    _, b = two()
    assert [v.name for v in ProbabilisticModel([b]).variables] == ["a", "b"]


def test_sample_is_a_table_in_the_order_of_declaration() -> None:
    a, b = two()
    v = NormalVariable(np.zeros(3), 1.0, "v")
    k = PoissonVariable(2.0, "k")
    frame = ProbabilisticModel([k, v, b, a]).get_sample(4)
    assert list(frame) == ["a", "b", "v", "k"]
    assert isinstance(frame.index, pd.RangeIndex)
    assert frame["a"].dtype == float and frame["k"].dtype == float
    assert frame["v"].dtype == object and frame["v"][0].shape == (3,)


def test_learned_values_are_no_columns() -> None:
    a = NormalVariable(0.0, 1.0, "a", learnable=True)
    assert list(ProbabilisticModel([a]).get_sample(2)) == ["a"]


def test_seed_gives_the_same_table_and_leaves_the_state() -> None:
    _, b = two()
    model = ProbabilisticModel([b])
    state = torch.get_rng_state()
    first = model.get_sample(5, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    pd.testing.assert_frame_equal(first, model.get_sample(5, seed=1))


def test_input_values_fix_variables() -> None:
    a, b = two()
    model = ProbabilisticModel([b])
    assert (model.get_sample(3, input_values={a: 2.0})["a"] == 2.0).all()
    each = model.get_sample(3, input_values={"a": [1.0, 2.0, 3.0]})
    assert each["a"].tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(UnknownNameError, match="'c'"):
        model.get_sample(3, input_values={"c": 1.0})


def test_raw_samples_are_keyed_by_variable_and_name() -> None:
    a, b = two()
    draws = ProbabilisticModel([b])._get_sample(7)
    assert draws[a].shape == (7, 1, 1)
    assert draws[a] is draws["a"] and a in draws and len(draws) == 2
    with pytest.raises(UnknownNameError, match="did you mean"):
        draws["aa"]


def test_score_of_a_table_is_a_series_with_its_index() -> None:
    _, b = two()
    table = pd.DataFrame({"a": [0.0, 1.0, -1.0], "b": [0.5, 0.5, 0.5]}, index=["x", "y", "z"])
    found = ProbabilisticModel([b]).calculate_log_probability(table)
    normal = torch.distributions.Normal
    values = torch.tensor(table.to_numpy())
    expected = normal(0.0, 1.0).log_prob(values[:, 0]) + normal(values[:, 0] ** 2, 2.0).log_prob(values[:, 1])
    assert list(found.index) == ["x", "y", "z"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


def test_score_of_learned_values_is_a_number() -> None:
    mean = DeterministicVariable(2.0, "mean", learnable=True)
    x = NormalVariable(mean, 1.0, "x", learnable=True)
    assert ProbabilisticModel([x]).calculate_log_probability({x: 2.0}) == pytest.approx(-0.9189, abs=1e-3)
    assert not ProbabilisticModel([x]).calculate_log_probability({x: [2.0, 1.0]}).requires_grad


def test_score_of_own_samples() -> None:
    _, b = two()
    v = NormalVariable(np.zeros(3), b**2 + 1.0, "v")
    model = ProbabilisticModel([v])
    assert model.calculate_log_probability(model._get_sample(6)).shape == (6,)
    assert len(model.calculate_log_probability(model.get_sample(6))) == 6


def test_score_without_a_value_error_names_the_variable() -> None:
    _, b = two()
    with pytest.raises(SiteError, match=r"none for \['a'\]"):
        ProbabilisticModel([b]).calculate_log_probability({"b": 1.0})
    with pytest.raises(SiteError, match=r"variable 'a'.*\[2, 2\]"):
        ProbabilisticModel([b]).calculate_log_probability({"a": np.ones((2, 2)), "b": 1.0})


def test_moments_are_exact_where_there_is_a_closed_form() -> None:
    a = NormalVariable(1.5, 2.0, "a")
    b = NormalVariable(a, 1.0, "b")
    model = ProbabilisticModel([b])
    means, variances, entropies = model.get_mean(), model.get_variance(seed=0), model.get_entropy()
    assert means.loc["a"].tolist() == [1.5, 0.0, "exact"]
    assert variances.loc["a", "value"] == 4.0
    assert abs(variances.loc["b", "value"] - 5.0) < 5 * variances.loc["b", "standard_error"]
    assert variances.loc["b", "standard_error"] > 0 and variances.loc["b", "method"] == "10000 draws"
    assert entropies.loc["b", "value"] == pytest.approx(0.5 * np.log(2 * np.pi * np.e), rel=1e-5)
    assert a.get_mean()["value"] == 1.5


def test_categorical_and_negative_binomial_take_probabilities() -> None:
    k = CategoricalVariable(probs=[0.0, 1.0, 0.0], name="k")
    n = NegativeBinomialVariable(total_count=5.0, probs=0.5, name="n")
    model = ProbabilisticModel([k, n])
    assert (model.get_sample(5)["k"] == 1).all()
    assert model.get_mean().loc["n", "value"] == pytest.approx(5.0)


def test_learned_triangle_stays_a_triangle() -> None:
    tril = np.array([[1.0, 0.0], [0.5, 2.0]])
    x = MultivariateNormalVariable(np.zeros(2), scale_tril=tril, name="x", learnable=True)
    torch.testing.assert_close(x.parameters["scale_tril"], torch.tensor(tril).float())


def test_value_outside_its_space_error_names_the_variable() -> None:
    with pytest.raises(ParamError, match=r"x\.scale.*-1"):
        NormalVariable(0.0, -1.0, "x", learnable=True)
    with pytest.raises(SiteError, match=r"variable 'x'.*scale.*-1"):
        ProbabilisticModel([NormalVariable(0.0, -1.0, "x")]).get_sample(1)


def test_number_in_place_of_the_name_error() -> None:
    with pytest.raises(SiteTypeError, match=r"a name as a str after \['loc', 'scale'\], got 3 \(int\)"):
        NormalVariable(0.0, 1.0, 3)


def test_constructor_errors_name_what_is_missing_or_unknown() -> None:
    with pytest.raises(SiteTypeError, match=r"variable 'x'.*\['scale'\]"):
        NormalVariable(0.0, name="x")
    with pytest.raises(SiteTypeError, match="'sclae'.*did you mean 'scale'"):
        NormalVariable(0.0, sclae=1.0, name="x")
    with pytest.raises(SiteTypeError, match="NormalVariable: expected a name"):
        NormalVariable(0.0, 1.0)
    with pytest.raises(SiteTypeError, match="got 3 of type int"):
        NormalVariable(0.0, 1.0, name=3)
    with pytest.raises(SiteTypeError, match="expected a non-empty name"):
        NormalVariable(0.0, 1.0, "")
    with pytest.raises(SiteTypeError, match="expected a list of variables"):
        ProbabilisticModel(3)
    with pytest.raises(SiteTypeError, match="got float"):
        ProbabilisticModel([1.0])


def test_positional_order_is_name_then_learnable() -> None:
    x = NormalVariable(0.0, 1.0, "x", True)
    assert set(x.parameters) == {"loc", "scale"}
    assert set(BetaVariable(alpha=1.0, beta=2.0, name="p").arguments) == {"alpha", "beta"}


def test_models_nest_and_grow() -> None:
    a, b = two()
    inner = ProbabilisticModel([b])
    outer = ProbabilisticModel([inner, NormalVariable(b, 1.0, "c")])
    assert [v.name for v in outer.variables] == ["a", "b", "c"]
    outer.add_variables([NormalVariable(a, 1.0, "d")])
    assert outer.get_variable("d").name == "d"
    with pytest.raises(SiteError, match="variable 'a'"):
        outer.add_variables([NormalVariable(0.0, 1.0, "a")])
    assert [v.name for v in outer.variables] == ["a", "b", "c", "d"]
    with pytest.raises(UnknownNameError, match="did you mean 'a'"):
        outer.get_variable("aa")


def test_summary_is_a_table() -> None:
    a, b = two()
    b.observe(1.0)
    c = DeterministicVariable(a + 1.0, "c")
    table = ProbabilisticModel([b, c]).model_summary
    assert table.loc["b", ["kind", "law", "arguments", "parents"]].tolist() == [
        "observed",
        "Normal",
        "loc=a**2, scale=2",
        "a",
    ]
    assert table.loc["c", "kind"] == "fixed"
    assert "<table" in ProbabilisticModel([b, c])._repr_html_()


def test_render_draws_the_edges() -> None:
    _, b = two()
    assert ("a", "b") in ProbabilisticModel([b]).render().edges


def test_model_is_a_function_for_every_algorithm() -> None:
    mu = NormalVariable(0.0, 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    y.observe([1.0, 1.0, 1.0])
    model = ProbabilisticModel([y]).to_function()
    SVI(model, AutoNormal(model), compile=False).step()
    mcmc = MCMC(NUTS(model), 20, 20, compile=False, progress=False)
    mcmc.run()
    assert mcmc.get_samples()["mu"].shape == (20,)


def test_variable_is_sampled_inside_a_function_model() -> None:
    _, b = two()

    def model() -> None:
        value = b.sample()
        sample("y", dist.Normal(value, 1.0))

    assert trace(model).get_trace().stochastic_nodes == ["a", "b", "y"]


def test_site_of_a_function_model_is_a_parent() -> None:
    def model() -> torch.Tensor:
        z = as_parent(sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1)), data_dim=1)
        return NormalVariable(BF.sum(z) * 2.0, 1.0, "y").sample()

    from brancher.infer import Predictive

    draws = Predictive(model, num_samples=5, parallel=True)()
    assert draws["y"].shape == (5,) and draws["z"].shape == (5, 3)


def test_learned_value_is_shared_by_models() -> None:
    theta = RootVariable(1.0, "theta", learnable=True)
    x, y = NormalVariable(theta, 1.0, "x"), NormalVariable(theta, 1.0, "y")
    first, second = ProbabilisticModel([x]), ProbabilisticModel([y])
    x.observe([3.0] * 20)
    from brancher.symbolic import inference

    inference.perform_inference(first, 300, lr=0.1, progress=False, compile=False)
    assert float(second.parameters["theta.value"]) == pytest.approx(3.0, abs=0.05)


def test_default_dtype_is_followed() -> None:
    torch.set_default_dtype(torch.float64)
    _, b = two()
    assert ProbabilisticModel([b])._get_sample(2)["b"].dtype == torch.float64


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copy_learns_by_itself(copied: Any) -> None:
    a = NormalVariable(0.0, 1.0, "a", learnable=True)
    b = NormalVariable(2.0 * a, 1.0, "b")
    b.observe([1.0, 2.0])
    model = ProbabilisticModel([b])
    inference.perform_inference(model, 2, 2, progress=False, compile=False)
    other = copied(model)
    pd.testing.assert_frame_equal(
        other.get_posterior_sample(3, seed=0), model.get_posterior_sample(3, seed=0)
    )
    before = model.get_posterior_sample(3, seed=0)
    inference.perform_inference(other, 20, 2, lr=0.1, progress=False, compile=False)
    pd.testing.assert_frame_equal(model.get_posterior_sample(3, seed=0), before)
    assert not other.get_posterior_sample(3, seed=0).equals(before)
    assert float(other.parameters["a.loc"]) != float(a.parameters["loc"]) == pytest.approx(0.0, abs=0.05)


def test_mean_that_does_not_exist_is_not_a_number() -> None:
    table = ProbabilisticModel([CauchyVariable(0.0, 1.0, "c")]).get_mean()
    assert np.isnan(table.loc["c", "value"]) and table.loc["c", "method"] == "exact"
