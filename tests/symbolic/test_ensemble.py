"""Ensembles of normal models, whose mixtures and evidences are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from brancher.errors import InferenceError, SiteError, SiteTypeError, UnknownNameError
from brancher.symbolic import Ensemble, NormalVariable, ProbabilisticModel, RootVariable

DATA = np.array([1.0, 1.5, 2.0])


def plain(loc: float) -> ProbabilisticModel:
    return ProbabilisticModel([NormalVariable(loc, 1.0, "x")])


def fitted(prior: float) -> ProbabilisticModel:
    """A normal mean under N(prior, 1) with unit noise, with its exact posterior set."""
    mu = NormalVariable(prior, 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    y.observe(DATA)
    model = ProbabilisticModel([y])
    model.set_posterior_model([NormalVariable((prior + DATA.sum()) / 4, 0.5, "mu")])
    return model


def evidence(prior: float) -> float:
    return float(stats.multivariate_normal(prior * np.ones(3), np.eye(3) + 1.0).logpdf(DATA))


def test_models_are_drawn_by_their_weights() -> None:
    draws = Ensemble([plain(-5.0), plain(5.0)], weights=[1.0, 3.0]).get_sample(10_000, seed=0)
    # Five standard errors of a share.
    assert (draws["model"] == "model_1").mean() == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 10_000) ** 0.5)
    assert ((draws["x"] > 0) == (draws["model"] == "model_1")).all()
    assert (draws["model"].to_numpy()[1:] != draws["model"].to_numpy()[:-1]).mean() > 0.3  # mixed, not sorted


def test_density_is_that_of_the_mixture() -> None:
    ensemble = Ensemble([plain(-1.0), plain(2.0)], weights=[1.0, 3.0])
    x = np.array([-1.0, 0.0, 2.0])
    expected = np.log(0.25 * stats.norm.pdf(x, -1) + 0.75 * stats.norm.pdf(x, 2))
    np.testing.assert_allclose(ensemble.calculate_log_probability({"x": x}), expected, rtol=1e-6)
    assert ensemble.calculate_log_probability({"x": 0.0}) == pytest.approx(expected[1])
    table = pd.DataFrame({"x": x}, index=["a", "b", "c"])
    assert list(ensemble.calculate_log_probability(table).index) == ["a", "b", "c"]


def test_evidence_weighs_models() -> None:
    ensemble = Ensemble({"near": fitted(1.0), "far": fitted(5.0)}, weights={"near": 0.2, "far": 0.8})
    table = ensemble.weigh_by_evidence(500, method="IS", seed=0)
    # Exact posteriors: every importance weight is the evidence.
    np.testing.assert_allclose(table["log_evidence"], [evidence(1.0), evidence(5.0)], atol=1e-4)
    odds = 0.2 / 0.8 * np.exp(evidence(1.0) - evidence(5.0))
    assert ensemble.weights["near"] == pytest.approx(odds / (1 + odds), rel=1e-3)


def test_posterior_moments_are_within_and_between() -> None:
    ensemble = Ensemble([fitted(1.0), fitted(5.0)], weights=[0.5, 0.5])
    low, high = (1.0 + DATA.sum()) / 4, (5.0 + DATA.sum()) / 4
    mean, variance = ensemble.get_posterior_mean(20_000, 0), ensemble.get_posterior_variance(20_000, 0)
    assert mean["mu"] == pytest.approx((low + high) / 2, abs=0.02)
    assert variance["mu"] == pytest.approx(0.25 + ((high - low) / 2) ** 2, rel=0.03)
    draws = ensemble.get_posterior_sample(20_000, seed=0)
    assert draws["mu"].var() == pytest.approx(variance["mu"], rel=0.05)
    assert draws["y"].var() == pytest.approx(variance["mu"] + 1.0, rel=0.05)


def test_models_may_have_other_variables() -> None:
    other = ProbabilisticModel([NormalVariable(NormalVariable(0.0, 1.0, "z"), 1.0, "x")])
    draws = Ensemble([plain(0.0), other]).get_sample(200, seed=0)
    assert draws["z"].isna().equals(draws["model"] == "model_0")


def test_inputs_reach_the_models_that_have_them() -> None:
    root = RootVariable(0.0, "r")
    models = [plain(0.0), ProbabilisticModel([NormalVariable(root, 0.1, "x")])]
    draws = Ensemble(models, weights=[0, 1]).get_sample(100, {"r": 50.0}, seed=0)
    assert (draws["x"] > 40).all()


def test_seed_gives_the_same_draws() -> None:
    ensemble = Ensemble([plain(0.0), plain(1.0)])
    pd.testing.assert_frame_equal(ensemble.get_sample(20, seed=3), ensemble.get_sample(20, seed=3))


def test_every_model_is_fitted() -> None:
    models = [fitted(1.0), fitted(2.0)]
    results = Ensemble(models).perform_inference(3, progress=False, compile=False)
    assert list(results) == ["model_0", "model_1"]
    assert all(len(model.diagnostics["loss curve"]) == 3 for model in models)


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0], "heavy"])
def test_weights_that_do_not_fit_error(weights: Any) -> None:
    with pytest.raises(SiteError, match="expected 2 weights"):
        Ensemble([plain(0.0), plain(1.0)], weights)


def test_weights_of_an_unknown_model_error() -> None:
    with pytest.raises(UnknownNameError, match="did you mean|near"):
        Ensemble({"near": plain(0.0)}, {"naer": 1.0})


def test_no_model_error() -> None:
    with pytest.raises(SiteError, match="at least one model"):
        Ensemble([])


def test_variables_in_place_of_models_error() -> None:
    with pytest.raises(SiteTypeError, match="expected ProbabilisticModels"):
        Ensemble([NormalVariable(0.0, 1.0, "x")])  # type: ignore[list-item]


def test_posterior_of_an_unfitted_model_error() -> None:
    with pytest.raises(InferenceError, match="got none of 'model_0'"):
        Ensemble([plain(0.0)]).get_posterior_sample(3)


def test_weights_stay_when_no_model_is_fitted() -> None:
    ensemble = Ensemble([plain(0.0), plain(1.0)], [1.0, 3.0])
    with pytest.raises(InferenceError):
        ensemble.weigh_by_evidence()
    torch.testing.assert_close(torch.tensor(ensemble.weights.to_numpy()), torch.tensor([0.25, 0.75]).double())
