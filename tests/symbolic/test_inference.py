"""Posteriors against closed forms, by every method; and what the posterior's names mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from brancher.errors import GuideError, InferenceError, InferenceTypeError, OptimError
from brancher.symbolic import (
    BF,
    BernoulliVariable,
    BetaVariable,
    CategoricalVariable,
    DeterministicVariable,
    EmpiricalVariable,
    GammaVariable,
    HalfNormalVariable,
    LogNormalVariable,
    NormalVariable,
    PoissonVariable,
    ProbabilisticModel,
    RootVariable,
    inference,
)

Y = [1.0, 1.5, 2.0, 2.5, 3.0]
MEAN, SD, EVIDENCE = 10.0 / 6.0, 6.0**-0.5, -8.407


def normal_normal(data: Any = Y) -> ProbabilisticModel:
    mu = NormalVariable(0.0, 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    y.observe(data)
    return ProbabilisticModel([y])


def fit(model: ProbabilisticModel, *stages: tuple[int, float], samples: int = 20, **options: Any) -> Any:
    for steps, lr in stages or ((150, 0.1), (150, 0.02), (100, 0.002)):
        result = inference.perform_inference(
            model, steps, samples, lr=lr, progress=False, compile=False, seed=0, **options
        )
    return result


def check_normal(model: ProbabilisticModel) -> None:
    draws = model.get_posterior_sample(100_000, seed=0)["mu"]
    assert draws.mean() == pytest.approx(MEAN, abs=0.01)
    assert draws.std() == pytest.approx(SD, rel=0.05)
    assert model.estimate_log_model_evidence(20_000, seed=0) == pytest.approx(EVIDENCE, abs=0.02)


def test_hidden_values_of_the_posterior_are_not_matched() -> None:
    """The prior's own location and scale stay what they are, though the posterior learns its own."""
    model = normal_normal()
    fit(model, posterior_model=ProbabilisticModel([NormalVariable(0.0, 1.0, "mu", learnable=True)]))
    check_normal(model)


def test_prior_may_be_learned_beside_a_posterior_of_its_name() -> None:
    mu = NormalVariable(0.0, 1.0, "mu", learnable=True)
    q = NormalVariable(5.0, 2.0, "mu", learnable=True)
    y = NormalVariable(mu, 1.0, "y")
    y.observe(Y)
    model = ProbabilisticModel([y])
    fit(model, (1, 0.01), posterior_model=[q])
    assert float(mu.parameters["loc"]) == pytest.approx(0.01, abs=1e-3)
    assert float(q.parameters["loc"]) == pytest.approx(4.99, abs=1e-3)


@pytest.mark.parametrize("automatic", ["mean-field", "structured"])
def test_posterior_is_built_by_itself(automatic: str) -> None:
    model = normal_normal()
    fit(model, inference_method=inference.ReverseKL(automatic=automatic))
    check_normal(model)


def test_structured_posterior_keeps_the_chain() -> None:
    x0 = NormalVariable(0.0, 1.0, "x0")
    x1 = NormalVariable(x0, 0.1, "x1")
    y = NormalVariable(x1, 1.0, "y")
    y.observe([1.0, 1.2])
    model = ProbabilisticModel([y])
    fit(model, inference_method=inference.ReverseKL(automatic="structured"))
    draws = model.get_posterior_sample(20_000, seed=0)
    assert draws["x0"].corr(draws["x1"]) > 0.9  # mean field would have none; exact .986
    assert model.estimate_log_model_evidence(20_000, seed=0) > -2.85 - 0.05


@pytest.mark.parametrize("estimator", ["pathwise", "score", "taylor"])
def test_gradient_estimators_find_the_posterior(estimator: str) -> None:
    model = normal_normal()
    q = NormalVariable(0.0, 1.0, "mu", learnable=True)
    stages = ((80, 0.1), (80, 0.02), (60, 0.004))
    fit(model, *stages, samples=100, posterior_model=[q], inference_method=inference.ReverseKL(estimator))
    assert float(q.parameters["loc"]) == pytest.approx(MEAN, abs=0.03)
    assert float(q.parameters["scale"]) == pytest.approx(SD, rel=0.1)


def test_discrete_variables_get_a_posterior_by_themselves() -> None:
    """Two groups of observations: the indicator of each is certain, the level is the mean of what is left."""
    k = BernoulliVariable(0.5 * np.ones(4), "k")
    level = NormalVariable(0.0, 1.0, "level")
    y = NormalVariable(3.0 * k + level, 0.5, "y")
    y.observe([0.0, 3.0, 3.1, 0.2])
    model = ProbabilisticModel([y])
    fit(model, (250, 0.05), (60, 0.01), samples=50)
    draws = model.get_posterior_sample(4000, seed=0)
    np.testing.assert_allclose(np.stack(list(draws["k"])).mean(0), [0.0, 1.0, 1.0, 0.0], atol=0.03)
    # Precision 1 + 4 / .25, mean 4 * mean(0, 0, .1, .2) * 4 / 17.
    assert draws["level"].mean() == pytest.approx(1.2 / 17.0, abs=0.03)
    assert draws["level"].std() == pytest.approx(17.0**-0.5, rel=0.1)


def test_learned_deterministic_value_has_no_density() -> None:
    shift = DeterministicVariable(0.0, "shift", learnable=True)
    model = normal_normal()
    q = NormalVariable(shift, SD, "mu")
    fit(model, posterior_model=[q, shift])
    assert float(shift.parameters["value"]) == pytest.approx(MEAN, abs=0.01)
    assert model.estimate_log_model_evidence(20_000, seed=0) == pytest.approx(EVIDENCE, abs=0.02)


def test_evidence_estimates_agree() -> None:
    model = normal_normal()
    model.set_posterior_model([NormalVariable(1.5, 0.6, "mu")])
    elbo = model.estimate_log_model_evidence(4000, seed=0)
    assert elbo < EVIDENCE + 0.02
    for method in ("IS", "PSIS", "SMC"):
        assert model.estimate_log_model_evidence(4000, method, seed=0) == pytest.approx(EVIDENCE, abs=0.05)
    weighted = model.get_importance_weights(4000, seed=0)
    assert weighted["weight"].sum() == pytest.approx(1.0, abs=1e-4)
    assert (weighted["mu"] * weighted["weight"]).sum() == pytest.approx(MEAN, abs=0.03)


def test_coin() -> None:
    p = BetaVariable(1.0, 1.0, "p")
    y = BernoulliVariable(probs=p, name="y")
    y.observe([1] * 24 + [0] * 6)
    model = ProbabilisticModel([y])
    stages = ((150, 1.0), (100, 0.1), (60, 0.02))
    fit(model, *stages, posterior_model=[BetaVariable(8.0, 4.0, "p", learnable=True)], samples=50)
    draws = model.get_posterior_sample(100_000, seed=0)["p"]
    assert draws.mean() == pytest.approx(0.7812, abs=0.01)
    assert draws.std() == pytest.approx(0.0720, rel=0.1)
    assert model.estimate_log_model_evidence(20_000, seed=0) == pytest.approx(-16.728, abs=0.02)


@pytest.mark.parametrize("posterior", [None, RootVariable, DeterministicVariable])
def test_map_with_any_point_posterior(posterior: Any) -> None:
    model = normal_normal([1.0, 1.0, 1.0])
    given = None if posterior is None else [posterior(0.0, "mu", learnable=True)]
    fit(model, (300, 0.05), samples=1, posterior_model=given, inference_method=inference.MAP)
    assert model.get_posterior_mean(10)["mu"] == pytest.approx(0.75, abs=0.001)


def test_map_stays_inside_the_support() -> None:
    s = HalfNormalVariable(1.0, "s")
    y = NormalVariable(0.0, s, "y")
    y.observe([0.5, -0.5, 0.1])
    model = ProbabilisticModel([y])
    fit(model, (400, 0.05), inference_method=inference.MAP)
    # The root of -s - 3/s + .51/s^3 = 0.
    expected = np.sqrt((-3 + np.sqrt(9 + 4 * 0.51)) / 2)
    assert model.get_posterior_mean(5)["s"] == pytest.approx(expected, abs=0.002)


def test_maximum_likelihood_of_learned_arguments() -> None:
    y = NormalVariable(0.0, 1.0, "y", learnable=True)
    y.observe(Y)
    model = ProbabilisticModel([y])
    fit(model, (500, 0.05), samples=1, inference_method=inference.MaximumLikelihood)
    assert float(y.parameters["loc"]) == pytest.approx(2.0, abs=0.01)
    assert float(y.parameters["scale"]) == pytest.approx(np.std(Y), abs=0.01)


class Net(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.spread = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mean": self.layer(x), "sd": nn.functional.softplus(self.spread(x))}


def test_networks_learn_wherever_they_stand() -> None:
    """In a leaf's own arguments, behind a deterministic variable and in the posterior; dicts of results."""
    data = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    leaf, hidden, encoder = Net(2, 5), nn.Linear(2, 2), Net(5, 2)
    z = NormalVariable(np.zeros(2), np.ones(2), "z")
    h = DeterministicVariable(BF.BrancherFunction(hidden)(z), "h")
    out = BF.BrancherFunction(leaf)(h)
    x = NormalVariable(out["mean"], out["sd"], "x")
    model = ProbabilisticModel([x])
    Qx = EmpiricalVariable(data, batch_size=20, name="x", is_observed=True)
    code = BF.BrancherFunction(encoder)(Qx)
    Qz = NormalVariable(code["mean"], code["sd"], "z")
    nets = [leaf, hidden, encoder]
    before = [p.detach().clone() for net in nets for p in net.parameters()]
    fit(model, (1, 0.01), samples=3, posterior_model=[Qx, Qz])
    after = [p.detach() for net in nets for p in net.parameters()]
    assert all(bool((a != b).any()) for a, b in zip(after, before, strict=True))
    result = fit(model, (300, 0.01), samples=3)
    assert result.losses.iloc[-20:].mean() < 0.8 * result.losses.iloc[:5].mean()
    assert model._get_posterior_sample(2)["z"].shape == (2, 20, 2)


@pytest.mark.parametrize("prior", [0.0, [0.0]])
@pytest.mark.parametrize("guess", [0.0, [0.0]])
def test_numbers_and_vectors_of_one_entry_are_matched(prior: Any, guess: Any) -> None:
    mu = NormalVariable(prior, 1.0, "mu")
    y = NormalVariable(BF.sum(mu), 1.0, "y")
    y.observe(Y)
    model = ProbabilisticModel([y])
    model.set_posterior_model([NormalVariable(guess, 1.0, "mu", learnable=True)])
    fit(model, (100, 0.1), (100, 0.01))
    assert model._get_posterior_sample(5)["mu"].shape == (5, 1, 1)
    assert float(model._get_posterior_sample(20_000, seed=0)["mu"].mean()) == pytest.approx(MEAN, abs=0.03)


def test_encoder_of_a_code_of_one_entry() -> None:
    z = NormalVariable(np.zeros(1), np.ones(1), "z")
    x = NormalVariable(BF.BrancherFunction(nn.Linear(1, 2))(z), 0.5, "x")
    model = ProbabilisticModel([x])
    encoder = nn.Linear(2, 1)
    before = encoder.weight.detach().clone()
    Qx = EmpiricalVariable(np.ones((10, 2)), name="x", is_observed=True)
    fit(model, (1, 0.1), posterior_model=[Qx, NormalVariable(BF.BrancherFunction(encoder)(Qx), 0.5, "z")])
    assert bool((encoder.weight.detach() != before).all())


def test_posterior_that_looks_at_the_data_through_the_model() -> None:
    """An encoder of the model's own observed variable."""
    z = NormalVariable(0.0, 1.0, "z")
    x = NormalVariable(z, 1.0, "x")
    data = np.array([1.0, -1.0, 2.0])
    x.observe(data)
    slope = RootVariable(0.0, "slope", learnable=True)
    model = ProbabilisticModel([x])
    fit(model, posterior_model=[NormalVariable(slope * x, 0.5**0.5, "z")])
    assert float(slope.parameters["value"]) == pytest.approx(0.5, abs=0.02)
    assert model._get_posterior_sample(4)["z"].shape == (4, 3, 1)


def test_particles_of_stein_and_wasserstein() -> None:
    model = normal_normal()
    fit(model, (400, 0.05), inference_method=inference.SteinVariationalGradientDescent(40))
    stein = model.get_posterior_sample(20_000, seed=0)["mu"]
    assert (stein.mean(), stein.std()) == pytest.approx((MEAN, SD), abs=0.06)
    model = normal_normal()
    fit(model, (300, 0.05), inference_method=inference.WassersteinVariationalGradientDescent(12))
    cells = model.get_posterior_sample(20_000, seed=0)["mu"]
    assert (cells.mean(), cells.std()) == pytest.approx((MEAN, SD), abs=0.08)
    assert model.diagnostics["particle weights"].sum() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(InferenceError, match="posterior with a density"):
        model.estimate_log_model_evidence(10)


def test_nuts_by_the_same_call() -> None:
    model = normal_normal()
    torch.manual_seed(0)
    method = inference.NUTS(num_chains=4, warmup_steps=60)
    result = inference.perform_inference(model, 300, progress=False, compile=False, inference_method=method)
    draws = model.get_posterior_sample(10_000, seed=0)["mu"]
    # 1200 draws, at least 100 effective: three standard errors.
    assert draws.mean() == pytest.approx(MEAN, abs=3 * SD / 100**0.5)
    assert "r_hat" in model.diagnostics["mcmc"] and "mu" in repr(result)


def test_nuts_draws_the_discrete_variables_that_it_sums_out() -> None:
    # A rate changes after one of five moments. The weights of the moments come from sums over a grid.
    counts, moments = np.array([1.0, 2.0, 1.0, 7.0, 9.0, 6.0]), np.arange(6.0)
    rate, last = GammaVariable(2.0, 0.5, "rate"), CategoricalVariable(probs=[0.2] * 5, name="last")
    time = RootVariable(moments, "time", is_observed=True)
    seen = PoissonVariable(BF.where(time <= last, rate, 4.0 * rate), "seen")
    seen.observe(counts)
    model = ProbabilisticModel([seen])
    method = inference.NUTS(num_chains=4, warmup_steps=100)
    inference.perform_inference(model, 300, progress=False, compile=False, seed=0, inference_method=method)
    draws = model.get_posterior_sample(4000, seed=0)["last"].astype(int)

    grid = np.linspace(0.01, 12.0, 2000)
    slopes = np.where(moments <= np.arange(5.0)[:, None], 1.0, 4.0)
    log_joint = np.log(grid) - 0.5 * grid + (counts * np.log(slopes)).sum(1)[:, None]
    log_joint = log_joint + counts.sum() * np.log(grid) - slopes.sum(1)[:, None] * grid
    weights = np.exp(log_joint - log_joint.max()).sum(1)
    # At least 300 effective draws: five standard errors of a half are 0.14.
    assert np.bincount(draws, minlength=5) / 4000 == pytest.approx(weights / weights.sum(), abs=0.14)


def test_log_normal_and_linear_regression() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = x @ [1.0, -1.0] + 0.5 * rng.normal(size=60)
    regressors = RootVariable(x, "x", is_observed=True)
    w = NormalVariable(np.zeros(2), 1.0, "w")
    target = NormalVariable(regressors @ w, 0.5, "y")
    target.observe(y)
    model = ProbabilisticModel([target])
    fit(model)
    precision = np.eye(2) + x.T @ x / 0.25
    exact = np.linalg.solve(precision, x.T @ y / 0.25)
    np.testing.assert_allclose(model.get_posterior_mean(20_000, seed=0)["w"], exact, atol=0.02)
    level = LogNormalVariable(0.0, 1.0, "level")
    seen = NormalVariable(BF.log(level), 1.0, "seen")
    seen.observe(Y)
    model = ProbabilisticModel([seen])
    fit(model)
    logs = np.log(model.get_posterior_sample(50_000, seed=0)["level"])
    assert (logs.mean(), logs.std()) == pytest.approx((MEAN, SD), abs=0.02)


def test_losses_are_noted_once() -> None:
    model = normal_normal()
    result = fit(model, (25, 0.05))
    losses = model.diagnostics["loss curve"]
    assert isinstance(losses, pd.Series) and len(losses) == 25 and losses is result.losses
    fit(model, (10, 0.05))
    assert len(model.diagnostics["loss curve"]) == 10


def test_pretraining_leaves_the_model_alone() -> None:
    mu = NormalVariable(3.0, 1.0, "mu", learnable=True)
    y = NormalVariable(mu, 1.0, "y")
    y.observe(Y)
    model = ProbabilisticModel([y])
    model.set_posterior_model([NormalVariable(0.0, 1.0, "mu", learnable=True)])
    fit(model, (1, 0.05), pretraining_iterations=20)
    assert float(mu.parameters["loc"]) == pytest.approx(2.95, abs=1e-3)
    assert len(model.diagnostics["loss curve"]) == 21


def test_posterior_name_that_matches_nothing_error() -> None:
    model = normal_normal()
    with pytest.raises(GuideError, match="'muu'.*did you mean 'mu'"):
        model.set_posterior_model([NormalVariable(0.0, 1.0, "muu", learnable=True)])


def test_posterior_that_lacks_a_variable_error() -> None:
    a = NormalVariable(0.0, 1.0, "a")
    b = NormalVariable(0.0, 1.0, "b")
    y = NormalVariable(a + b, 1.0, "y")
    y.observe(1.0)
    model = ProbabilisticModel([y])
    with pytest.raises(GuideError, match=r"add \['b'\]"):
        fit(model, (1, 0.01), posterior_model=[NormalVariable(0.0, 1.0, "a", learnable=True)])


def test_what_tells_nothing_about_the_data_needs_no_posterior() -> None:
    model = normal_normal()
    mu = model.get_variable("mu")
    model.add_variables([NormalVariable(mu, 1.0, "forecast")])
    fit(model, posterior_model=[NormalVariable(0.0, 1.0, "mu", learnable=True)])
    draws = model.get_posterior_sample(50_000, seed=0)["forecast"]
    assert draws.std() == pytest.approx((1 + SD**2) ** 0.5, rel=0.03)


def test_expansion_without_a_mean_error() -> None:
    p = BetaVariable(1.0, 1.0, "p")
    y = BernoulliVariable(p, "y")
    y.observe([1, 0, 1])
    with pytest.raises(InferenceError, match="known mean.*'taylor'.*variable 'p'"):
        fit(ProbabilisticModel([y]), (2, 0.1), inference_method=inference.ReverseKL("taylor"))


def test_bad_arguments_error() -> None:
    model = normal_normal()
    with pytest.raises(InferenceError, match="number_iterations.*0"):
        inference.perform_inference(model, 0)
    with pytest.raises(InferenceError, match="number_samples"):
        inference.perform_inference(model, 1, 0)
    with pytest.raises(OptimError, match="'Adm'.*did you mean 'Adam'"):
        inference.perform_inference(model, 1, optimizer="Adm")
    with pytest.raises(OptimError, match="-1"):
        inference.perform_inference(model, 1, lr=-1.0)
    with pytest.raises(InferenceTypeError, match="ProbabilisticModel"):
        inference.perform_inference(lambda: None, 1)
    with pytest.raises(InferenceError, match="expected a posterior"):
        model.get_posterior_sample(1)
    with pytest.raises(InferenceError, match="'XYZ'"):
        fit(model, (1, 0.1))
        model.estimate_log_model_evidence(10, "XYZ")


def test_optimizer_as_class_or_instance() -> None:
    model = normal_normal()
    fit(model, (3, 0.05), optimizer=torch.optim.SGD)
    from brancher import optim

    inference.perform_inference(model, 3, optimizer=optim.Adam({"lr": 0.1}), progress=False, compile=False)
    with pytest.raises(InferenceError, match="instance"):
        inference.perform_inference(model, 3, optimizer=optim.Adam({"lr": 0.1}), lr=0.3)


def test_result_prints_as_a_table() -> None:
    result = fit(normal_normal(), (50, 0.1))
    assert "mu" in repr(result) and "loss" in repr(result)
    assert "<table" in result._repr_html_()


def test_calls_alike_share_their_steps() -> None:
    """Optimizer and history begin anew; the model's, the posterior's or the data's change makes new steps."""
    model = normal_normal()
    q = [NormalVariable(0.0, 1.0, "mu", learnable=True)]
    fit(model, (5, 0.05), posterior_model=q)
    (first,) = model._pair().runs.values()
    result = fit(model, (7, 0.1))
    assert list(model._pair().runs.values()) == [first]
    assert len(result.losses) == 7 == first.steps
    fit(model, (3, 0.1), samples=4)
    assert len(model._pair().runs) == 2
    model.get_variable("y").observe([5.0])  # type: ignore[attr-defined]
    fit(model, (200, 0.1), (150, 0.01))
    assert first not in model._pair().runs.values()
    assert model.get_posterior_mean(20_000, seed=0)["mu"] == pytest.approx(2.5, abs=0.05)


def test_posterior_given_again_is_the_same() -> None:
    model = normal_normal()
    posterior = ProbabilisticModel([NormalVariable(0.0, 1.0, "mu", learnable=True)])
    fit(model, (2, 0.05), posterior_model=posterior)
    pair = model._pair()
    fit(model, (2, 0.05), posterior_model=posterior)
    assert model._pair() is pair


@pytest.mark.slow
def test_calls_alike_compile_once() -> None:
    def losses(compiled: bool) -> tuple[ProbabilisticModel, Any]:
        model = normal_normal()
        model.set_posterior_model([NormalVariable(0.0, 1.0, "mu", learnable=True)])
        found = []
        for lr in (0.1, 0.01):
            found += inference.perform_inference(
                model, 20, 5, lr=lr, seed=0, progress=False, compile=compiled
            ).losses.tolist()
        return model, found

    model, compiled = losses(True)
    (svi,) = model._pair().runs.values()
    assert svi.compile_counters.traces <= 2 and svi.compile_counters.fallbacks == 0
    np.testing.assert_allclose(compiled, losses(False)[1], rtol=1e-3)
