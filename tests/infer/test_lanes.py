from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from brancher import deterministic, handlers, plate, sample
from brancher import distributions as dist
from brancher.infer import Importance, Predictive, log_likelihood

X = torch.tensor([[1.0, 0.0], [0.0, 10.0], [3.0, 3.0]])


def regression(x: torch.Tensor, y: Any = None) -> None:
    w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with plate("row", len(x)):
        sample("y", dist.Normal(x @ w, 1e-4), obs=y)


def test_matrix_products_run_in_lanes() -> None:
    predictive = Predictive(regression, num_samples=30)
    draws = predictive(X)
    assert predictive.vectorized is True and "batch: fails" in str(predictive.reason)
    assert torch.allclose(draws["y"], draws["w"] @ X.T, atol=1e-2)


def test_each_lane_draws_its_own() -> None:
    draws = Predictive(regression, num_samples=30)(X)
    assert len(draws["w"].unique(dim=0)) == 30
    assert len((draws["y"] - draws["w"] @ X.T).unique(dim=0)) > 25


def test_lanes_come_in_chunks() -> None:
    w = torch.randn(50, 2)
    draws = Predictive(regression, {"w": w}, batch_size=20)(X)
    assert torch.allclose(draws["y"], w @ X.T, atol=1e-2)


def test_the_model_runs_a_few_times_only() -> None:
    runs = []

    def model(x: torch.Tensor) -> None:
        runs.append(None)
        regression(x)

    predictive = Predictive(model, {"w": torch.randn(500, 2)})
    predictive(X)
    assert len(runs) < 12


@pytest.mark.parametrize("few", [5, 30])
def test_sums_over_a_plate_are_right(few: int) -> None:
    def model() -> None:
        with plate("row", 4):
            x = sample("x", dist.Normal(0.0, 1.0))
        deterministic("total", x.sum())

    predictive = Predictive(model, num_samples=few)
    draws = predictive()
    assert predictive.vectorized is (few == 30)
    assert torch.allclose(draws["total"], draws["x"].sum(-1), atol=1e-5)


LAWS = {
    "normal": lambda m: dist.Normal(m, 1e-4),
    "event": lambda m: dist.Normal(m, 1e-4).to_event(1),
    "masked": lambda m: dist.Normal(m, 1e-4).mask(torch.tensor([True, False, True])),
    "masked event": lambda m: dist.Normal(m, 1e-4).to_event(1).mask(torch.tensor(True)),
    "foreign": lambda m: torch.distributions.Normal(m, 1e-4),
    "expanded": lambda m: dist.Normal(m, 1e-4).expand([2, 3]),
    "gamma": lambda m: dist.Gamma(1e8 * m.abs(), 1e8),
    "uniform": lambda m: dist.Uniform(m - 1e-4, m + 1e-4),
    "multivariate": lambda m: dist.MultivariateNormal(m, scale_tril=1e-4 * torch.eye(3)),
    "transformed": lambda m: torch.distributions.TransformedDistribution(
        dist.Normal(m, 1e-4), [torch.distributions.AffineTransform(0.0, 2.0)]
    ),
    "counts": lambda m: dist.Poisson(1e8 * m.abs()),
}
MEANS = {"gamma": torch.abs, "transformed": lambda m: 2 * m, "counts": lambda m: 1e8 * m.abs()}


@pytest.mark.parametrize("law", list(LAWS))
def test_laws_are_drawn_with_the_arguments_of_their_lane(law: str) -> None:
    def model() -> None:
        w = sample("w", dist.Normal(torch.full((3,), 5.0), 1.0).to_event(1))
        sample("y", LAWS[law](torch.mv(torch.eye(3), w)))

    predictive = Predictive(model, num_samples=25)
    draws = predictive()
    assert predictive.vectorized is True, predictive.reason
    expected = MEANS.get(law, lambda m: m)(draws["w"])
    got = draws["y"].reshape(25, -1, 3)
    torch.testing.assert_close(got, expected[:, None].expand_as(got), rtol=2e-3, atol=2e-3)


def test_random_numbers_from_elsewhere_are_found_out() -> None:
    # One draw of numpy's would serve all lanes.
    def model() -> None:
        w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        deterministic("noise", X @ w + float(np.random.uniform()))

    predictive = Predictive(model, num_samples=30)
    draws = predictive()
    assert predictive.vectorized is False
    assert len((draws["noise"] - draws["w"] @ X.T)[:, 0].round(decimals=3).unique()) > 20


def test_subsampled_plates_run_in_a_loop() -> None:
    def model(x: torch.Tensor) -> None:
        w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with plate("row", 3, subsample_size=2) as rows:
            sample("y", dist.Normal(x[rows] @ w, 1.0))

    predictive = Predictive(model, num_samples=30)
    assert predictive(X)["y"].shape == (30, 2)
    assert predictive.vectorized is False and "subsampled plate" in str(predictive.reason)


def test_other_handlers_are_respected() -> None:
    with handlers.condition(data={"w": torch.tensor([1.0, 1.0])}):
        draws = Predictive(regression, num_samples=30)(X)
    assert torch.allclose(draws["y"], X.sum(1).expand(30, 3), atol=1e-2)


def test_log_likelihood_in_lanes_is_exact() -> None:
    w, y = torch.randn(40, 2), torch.randn(3)
    found = log_likelihood(regression, {"w": w}, X, y)["y"]
    torch.testing.assert_close(found, dist.Normal(w @ X.T, 1e-4).log_prob(y))


def test_importance_in_lanes_weighs_by_the_likelihood() -> None:
    def model(y: torch.Tensor) -> None:
        w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        sample("y", dist.Normal(X @ w, 10.0).to_event(1), obs=y)

    result = Importance(model, num_samples=40).run(torch.ones(3))
    expected = dist.Normal(result.samples["w"] @ X.T, 10.0).log_prob(torch.ones(3)).sum(1)
    assert result.vectorized is True
    torch.testing.assert_close(result.log_weights, expected, rtol=1e-4, atol=1e-4)
