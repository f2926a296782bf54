"""What programs written for Brancher 0.3 call, besides what the other tests call already."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from brancher import symbolic
from brancher.errors import AbsentNameError, GuideError, ParamError, SiteError, SiteTypeError
from brancher.plots import plot_density, plot_posterior
from brancher.symbolic import (
    BF,
    BernoulliVariable,
    BetaVariable,
    BinomialVariable,
    CategoricalVariable,
    DeterministicVariable,
    EmpiricalVariable,
    Ensemble,
    LatentTimeSeriesModel,
    LogNormalVariable,
    MarkovProcess,
    MultivariateNormalVariable,
    NormalVariable,
    OneHotCategoricalVariable,
    ProbabilisticModel,
    RootVariable,
    geometric_ranges,
    inference,
    truncate_model,
    variables,
)
from brancher.symbolic.gradients import Taylor1Estimator
from brancher.symbolic.processes import SquaredExponentialCovariance

QUIET: Any = {"progress": False, "compile": False, "seed": 0}


def test_table_of_draws_is_observed_by_its_own_column() -> None:
    nu, mu = LogNormalVariable(0.0, 1.0, "nu"), NormalVariable(0.0, 10.0, "mu")
    x = NormalVariable(mu, nu, "x")
    data = ProbabilisticModel([x]).get_sample(20, input_values={mu: -2.0, nu: 1.0}, seed=0)
    x.observe(data)
    assert x.data.tolist() == pytest.approx(data["x"].tolist())  # type: ignore[union-attr]


def test_column_of_arrays_is_observed() -> None:
    v = NormalVariable(np.zeros(3), 1.0, "v")
    w = NormalVariable(v, 1.0, "w")
    w.observe(w.get_sample(7, seed=0))
    assert w.data.shape == (7, 3)  # type: ignore[union-attr]


def test_table_without_the_column_error() -> None:
    a = NormalVariable(np.zeros(2), 1.0, "a")
    with pytest.raises(SiteTypeError, match=r"variable 'x'.*column 'x'.*\['a'\]"):
        NormalVariable(0.0, 1.0, "x").observe(a.get_sample(2))


def test_summary_is_an_attribute_that_may_be_called() -> None:
    model = ProbabilisticModel([NormalVariable(0.0, 1.0, "a")])
    assert isinstance(model.model_summary, pd.DataFrame)
    pd.testing.assert_frame_equal(pd.DataFrame(model.model_summary()), pd.DataFrame(model.model_summary))


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: BinomialVariable(1, p=0.5, name="k"), "it is called 'probs' here"),
        (lambda: CategoricalVariable(softmax_p=[0.0, 1.0], name="k"), "it is called 'logits' here"),
        (lambda: NormalVariable(mu=0.0, sigma=1.0, name="k"), "it is called 'loc' here"),
        (lambda: NormalVariable(0.0, 1.0, "k", is_policy=True), "any learnable variable is a policy"),
        (lambda: NormalVariable(0.0, 1.0, "k", learnble=True), "did you mean 'learnable'"),
    ],
)
def test_old_argument_error_says_the_new_name(make: Any, hint: str) -> None:
    with pytest.raises(SiteTypeError, match=hint):
        make()


@pytest.mark.parametrize("name", ["NormalStandardVariable", "BernulliVariable"])
def test_old_class_error_says_the_new_name(name: str) -> None:
    for module in (variables, symbolic):
        with pytest.raises(AbsentNameError, match="it is called '(Normal|Bernoulli)Variable' here"):
            getattr(module, name)
    with pytest.raises(AttributeError, match="did you mean 'NormalVariable'"):
        symbolic.NormlVariable  # noqa: B018


def test_variable_is_fitted_as_its_model() -> None:
    mu = NormalVariable(0.0, 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    y.observe([1.0, 2.0])
    result = inference.perform_inference(y, 3, 2, **QUIET)
    assert len(result.losses) == 3 and result.model.has_posterior


def test_ensemble_is_fitted_by_the_same_call() -> None:
    models = []
    for prior in (0.0, 4.0):
        y = NormalVariable(NormalVariable(prior, 1.0, "mu"), 1.0, "y")
        y.observe([1.0, 2.0])
        models.append(ProbabilisticModel([y]))
    ensemble = Ensemble(models, weights=[1.0, 3.0])
    results = inference.perform_inference(ensemble, number_iterations=3, number_samples=2, lr=0.1, **QUIET)
    assert [len(results[name].losses) for name in ("model_0", "model_1")] == [3, 3]
    draws = ensemble._get_sample(4000, seed=0)
    assert draws["mu"].shape == (4000, 1, 1)
    # Mean 3 of a mixture whose sd is 2: five standard errors.
    assert float(draws["mu"].mean()) == pytest.approx(3.0, abs=5 * 2.0 / 4000**0.5)


def test_bias_mixes_an_argument_with_a_learned_value() -> None:
    a = DeterministicVariable(2.0, "a")
    b = NormalVariable(a, 1e-4, "b", has_bias=True, learnable=True)
    assert sorted(b.parameters) == ["loc_bias", "loc_mixing", "scale"]
    assert float(b.parameters["loc_mixing"]) == pytest.approx(0.9933, abs=1e-4)
    assert b.get_sample(1)["b"][0] == pytest.approx(2.0 * 0.9933, abs=1e-3)
    b.observe([1.0, 1.0])
    model = ProbabilisticModel([b])
    inference.perform_inference(model, 200, inference_method=inference.MaximumLikelihood, lr=0.1, **QUIET)
    assert model.get_mean(100).loc["b", "value"] == pytest.approx(1.0, abs=0.05)


def test_bias_leaves_numbers_and_what_is_not_learned_alone() -> None:
    assert set(NormalVariable(0.0, 1.0, "a", has_bias=True, learnable=True).parameters) == {"loc", "scale"}
    a = NormalVariable(0.0, 1.0, "a")
    assert NormalVariable(a, 1.0, "b", has_bias=True).arguments["loc"] is a


def test_beta_posterior_is_found_by_plain_gradient_steps() -> None:
    """As in the old beta-binomial example: steps of 0.1, from Beta(1, 1)."""
    p = BetaVariable(1.0, 1.0, "p")
    k = BinomialVariable(1, probs=p, name="k")
    k.observe([1] * 24 + [0] * 6)
    model = ProbabilisticModel([k])
    model.set_posterior_model(ProbabilisticModel([BetaVariable(1.0, 1.0, "p", learnable=True)]))
    inference.perform_inference(model, 400, 100, optimizer="SGD", lr=0.1, **QUIET)
    draws = model.get_posterior_sample(50_000, seed=0)["p"]
    exact = torch.distributions.Beta(25.0, 7.0)
    assert draws.mean() == pytest.approx(float(exact.mean), abs=0.015)
    assert draws.std() == pytest.approx(float(exact.stddev), rel=0.1)


def test_expansion_at_means_of_discrete_variables() -> None:
    z1, z2 = BernoulliVariable(logits=0.0, name="z1"), BernoulliVariable(logits=0.0, name="z2")
    y = NormalVariable(2 * z1 + z2, 1.0, "y")
    y.observe(np.array([2.1, 1.8, 2.3, 2.0, 1.7]))
    model = ProbabilisticModel([y])
    posterior = [BernoulliVariable(logits=0.0, name=n, learnable=True) for n in ("z1", "z2")]
    method = inference.ReverseKL(Taylor1Estimator)
    inference.perform_inference(
        model, 200, 20, inference_method=method, posterior_model=posterior, lr=0.1, **QUIET
    )
    draws = model.get_posterior_sample(2000, seed=0)
    assert draws["z1"].mean() > 0.95 and draws["z2"].mean() < 0.3


def test_silent_variable_of_the_posterior_is_mixed_over() -> None:
    """The bound given the values of a mixing variable stays below the evidence, and correlates the rest."""
    a, b = NormalVariable(0.0, 1.0, "a"), NormalVariable(0.0, 1.0, "b")
    y = NormalVariable(a + b, 0.1, "y")
    y.observe(1.0)
    model = ProbabilisticModel([y])
    common = MultivariateNormalVariable(
        np.array([0.5, 0.5]), covariance_matrix=0.4 * np.array([[1.0, -0.9], [-0.9, 1.0]]), name="common"
    )
    posterior = [NormalVariable(common[0], 0.3, "a"), NormalVariable(common[1], 0.3, "b")]
    with pytest.raises(GuideError, match=r"'common'.*common\.silence_density\(\)"):
        model.set_posterior_model(posterior)
    common.silence_density()
    model.set_posterior_model(posterior)
    evidence = float(torch.distributions.Normal(0.0, 2.01**0.5).log_prob(torch.tensor(1.0)))
    assert model.estimate_log_model_evidence(4000, seed=0) < evidence
    draws = model.get_posterior_sample(4000, seed=0)
    assert draws["a"].corr(draws["b"]) < -0.5
    assert list(draws) == ["a", "b", "y"]


def test_truncation_by_statistics() -> None:
    mu = NormalVariable(0.0, 1.0, "mu")
    x = NormalVariable(mu, 0.1, "x")
    model = ProbabilisticModel([x])
    kept = truncate_model(model, lambda a: (a > 0.5) & (a < 0.6), lambda draws: draws[x].data)
    assert kept.get_sample(50, seed=0)["x"].between(0.5, 0.6).all()
    assert plot_density(kept, variables=["mu", "x"], number_samples=200) is not None
    with pytest.raises(SiteTypeError, match="rule as a function of model_statistics"):
        truncate_model(model, x > 0, lambda draws: draws[x])


def test_picture_of_some_variables_draws_no_others() -> None:
    a = NormalVariable(0.0, 1.0, "a")
    x = NormalVariable(BF.exp(1000.0 * a), 1.0, "x")  # infinite for half of the prior's draws
    x.observe(1.0)
    model = ProbabilisticModel([x])
    model.set_posterior_model([NormalVariable(-1.0, 0.01, "a")])
    assert plot_posterior(model, variables=["a"], number_samples=100) is not None


# Processes


def walk(**options: Any) -> MarkovProcess:
    return MarkovProcess(
        NormalVariable(0.0, 0.5, "x_0"), lambda t, x: NormalVariable(x, 0.2, f"x_{t}"), **options
    )


def test_process_called_with_times_is_a_model_of_them() -> None:
    process = walk()
    part = process(range(6))
    assert [v.name for v in part.temporal_variables] == [f"x_{t}" for t in range(6)]
    assert part.get_timeseries_sample(3).shape == (6, 3)
    assert len(process()) == 6  # without, it runs as the function that it is
    assert process.active_submodel is process


def test_input_values_of_series() -> None:
    b = BetaVariable(1.0, 1.0, "b")
    process = MarkovProcess(DeterministicVariable(1.0, "x_0"), lambda t, x: NormalVariable(b * x, 1e-5, "x"))
    frame = process.get_timeseries_sample(2, query_points=4, input_values={b: 0.5}, seed=0)
    np.testing.assert_allclose(frame[0].astype(float), [1.0, 0.5, 0.25, 0.125], atol=1e-3)


def test_data_at_query_points() -> None:
    process = walk()
    process.observe(walk().get_timeseries_sample(1, 5), query_points=[0, 1, 2, 7, 8])
    assert [v.name for v in process.observed_variables] == ["x_0", "x_1", "x_2", "x_7", "x_8"]
    with pytest.raises(SiteError, match="one value for each of 3 query_points, got 2"):
        process.observe([1.0, 2.0], query_points=3)


def test_variable_of_a_process_is_the_series_of_its_measurements() -> None:
    process = walk()
    seen = NormalVariable(process, 1.0, "y")
    assert isinstance(seen, LatentTimeSeriesModel)
    seen.observe(seen.get_timeseries_sample(1, query_points=8, seed=0), range(8))
    posterior = [NormalVariable(0.0, 0.5, "x_0", learnable=True)]
    for t in range(1, 8):
        posterior.append(NormalVariable(posterior[-1], 0.25, f"x_{t}", has_bias=True, learnable=True))
    inference.perform_inference(
        seen, number_iterations=20, number_samples=10, posterior_model=ProbabilisticModel(posterior), **QUIET
    )
    assert seen.get_posterior_timeseries_sample(20, query_points=10).shape == (10, 20)


def test_process_as_posterior_has_the_data_and_fills_the_gaps() -> None:
    b = BetaVariable(1.0, 1.0, "b")
    process = MarkovProcess(
        NormalVariable(0.0, 1.0, "x_0"), lambda t, x: NormalVariable(b * x, 0.1, f"x_{t}")
    )
    process.observe([1.0, 0.8, 0.64, 0.41], query_points=[0, 1, 2, 4])
    Qb = BetaVariable(8.0, 2.0, "b", learnable=True)
    QX = MarkovProcess(
        NormalVariable(0.0, 1.0, "x_0"), lambda t, x: NormalVariable(Qb * x, 0.1, f"x_{t}", learnable=True)
    )
    process.set_posterior_model(process=QX, parameters=[Qb])
    inference.perform_inference(process, 100, 20, lr=0.05, **QUIET)
    frame = process.get_posterior_timeseries_sample(2000, query_points=6, seed=0)
    assert (frame.loc[4] == np.float32(0.41)).all()
    assert frame.loc[3].mean() == pytest.approx(0.51, abs=0.05)


def test_rule_that_takes_other_variables_error() -> None:
    with pytest.raises(SiteTypeError, match=r"time and 2 variables before it.*write lambda t, x0, x1"):
        MarkovProcess([NormalVariable(0.0, 1.0, n) for n in "ab"], lambda x: NormalVariable(x, 1.0, "x"))


def test_jitter_is_noise_of_the_measurements() -> None:
    inputs = np.array([0.0, 1.0, 1.0])
    plain, jittered = SquaredExponentialCovariance(2.0), SquaredExponentialCovariance(2.0, jitter=0.1)

    def matrix(covariance: Any, *others: Any) -> torch.Tensor:
        model = ProbabilisticModel([DeterministicVariable(covariance(inputs, *others), "K")])
        return model._get_sample(1)["K"][0, 0]

    torch.testing.assert_close(matrix(jittered), matrix(plain) + 0.1 * torch.eye(3))
    torch.testing.assert_close(matrix(jittered, inputs), matrix(plain, inputs))  # other measurements
    with pytest.raises(SiteError, match="jitter >= 0, got -1"):
        SquaredExponentialCovariance(2.0, jitter=-1)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.spread = nn.Linear(2, 4), nn.Linear(2, 1)

    def __call__(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mean": self.mean(z), "sd": self.spread(z).exp()}


def test_named_outputs_of_a_network_are_cells_of_their_kind() -> None:
    decoder = Decoder()
    z = NormalVariable(np.zeros(2), np.ones(2), "z")
    output = DeterministicVariable(BF.BrancherFunction(decoder)(z), "output")
    x = NormalVariable(output["mean"], output["sd"], "x")
    model = ProbabilisticModel([x])
    point = np.array([1.0, -1.0])
    table = model.get_sample(3, input_values={z: point})
    assert list(table) == ["z", "output", "x"]
    expected = decoder(torch.tensor(point).float())
    np.testing.assert_allclose(table["output"].values[0]["mean"], expected["mean"].detach(), rtol=1e-5)
    assert table["output"][2]["sd"] == pytest.approx(expected["sd"].item(), rel=1e-5)
    draws = model._get_sample(3)
    assert draws[output]["mean"].shape == (3, 1, 4) and draws["output.sd"].shape == (3, 1, 1)
    assert len(model.calculate_log_probability(table)) == 3
    model.observe(model.get_sample(5)[["x"]])
    inference.perform_inference(model, 2, 2, **QUIET)
    assert model.get_posterior_sample(4)["output"][0]["mean"].shape == (4,)


@pytest.mark.parametrize("as_rows", [True, False])
@pytest.mark.parametrize("column", [True, False])
def test_vectors_of_classes_are_observed_by_their_numbers(as_rows: bool, column: bool) -> None:
    """As old categorical variables, whose draws are averaged to probabilities."""
    labels = np.array([0, 2, 1, 2])
    given = labels[:, None] if column else labels
    source = EmpiricalVariable(given, name="labels", is_observed=True) if as_rows else given
    probs = np.array([0.2, 0.3, 0.5])
    k = OneHotCategoricalVariable(probs=probs, name="k")
    k.observe(source)
    model = ProbabilisticModel([k])
    assert model.calculate_log_probability() == pytest.approx(np.log(probs[labels]).sum(), rel=1e-5)
    mean = model._get_sample(4000, seed=0)["k"].numpy().mean(0).reshape(-1)[:3]
    np.testing.assert_allclose(mean, probs, atol=5 * 0.5 / 4000**0.5)


def test_vectors_of_classes_are_observed_as_they_are() -> None:
    k = OneHotCategoricalVariable(probs=[0.2, 0.8], name="k")
    k.observe([[0, 1], [1, 0], [0, 1]])
    found = ProbabilisticModel([k]).calculate_log_probability()
    assert found == pytest.approx(np.log(0.2 * 0.8**2), rel=1e-5)


def test_column_of_labels_is_data_of_a_matrix_of_one_entry() -> None:
    rows = np.array([[[1.0], [2.0]], [[0.5], [-1.0]], [[0.0], [1.0]]])
    weights = NormalVariable(np.zeros((1, 2)), 0.5, "weights")
    x = RootVariable(rows, "x", is_observed=True)
    k = BinomialVariable(1, logits=BF.matmul(weights, x), name="k")
    k.observe(np.array([[1.0], [0.0], [1.0]]))
    model = ProbabilisticModel([k])
    found = model.calculate_log_probability({"weights": [[0.3, -0.2]]})
    logits = (np.array([[0.3, -0.2]]) @ rows)[:, 0, 0]
    expected = -np.log1p(np.exp(np.array([-1.0, 1.0, -1.0]) * logits)).sum()
    prior = torch.distributions.Normal(0.0, 0.5).log_prob(torch.tensor([0.3, -0.2])).sum()
    assert found == pytest.approx(expected + float(prior), rel=1e-5)


def test_learned_value_stays_in_its_range() -> None:
    sd = DeterministicVariable(1.0, "sd", learnable=True, variable_range=geometric_ranges.RightHalfLine(0.0))
    y = NormalVariable(0.0, sd, "y")
    y.observe([0.1, -0.1, 0.1, -0.1])
    model = ProbabilisticModel([y])
    inference.perform_inference(model, 300, inference_method=inference.MaximumLikelihood, lr=0.1, **QUIET)
    assert float(sd.value) == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (geometric_ranges.UnboundedRange(), -3.0),
        (geometric_ranges.Interval(-1.0, 2.0), 1.5),
        (geometric_ranges.RightHalfLine(1.0), 2.0),
        (geometric_ranges.LeftHalfLine(1.0), -2.0),
        (geometric_ranges.Simplex(), [0.2, 0.8]),
        (geometric_ranges.PositiveDefiniteMatrix(), [[1.0, 0.2], [0.2, 1.0]]),
    ],
)
def test_ranges_keep_the_first_value(given: Any, value: Any) -> None:
    learned = DeterministicVariable(value, "x", learnable=True, variable_range=given)
    torch.testing.assert_close(learned.value, torch.tensor(value))


def test_value_outside_its_range_error() -> None:
    with pytest.raises(ParamError, match=r"x\.value.*-1"):
        DeterministicVariable(-1.0, "x", learnable=True, variable_range=geometric_ranges.RightHalfLine(0.0))
    with pytest.raises(SiteTypeError, match="'x': expected variable_range as a constraint, got str"):
        DeterministicVariable(1.0, "x", learnable=True, variable_range="positive")
