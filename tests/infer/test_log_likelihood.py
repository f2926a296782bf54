from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from brancher import deterministic, plate, sample
from brancher import distributions as dist
from brancher.errors import InferenceError
from brancher.infer import log_likelihood

NAMES = ["Choate", "Deerfield", "Exeter"]


def schools(y: Any = None) -> torch.Tensor:
    mu = sample("mu", dist.Normal(0.0, 5.0))
    with plate("school", 3, coords=NAMES):
        theta = sample("theta", dist.Normal(mu, 2.0))
        deterministic("twice", 2 * theta)
        return sample("y", dist.Normal(theta, 1.0), obs=y)


@pytest.mark.parametrize("parallel", [None, True, False])
def test_log_likelihood_is_pointwise(parallel: bool | None) -> None:
    theta, y = torch.randn(5, 3), torch.randn(3)
    found = log_likelihood(schools, {"mu": torch.zeros(5), "theta": theta}, y, parallel=parallel)
    assert list(found) == ["y"]
    torch.testing.assert_close(found["y"], dist.Normal(theta, 1.0).log_prob(y))


def test_log_likelihood_sums_over_events() -> None:
    def model(y: torch.Tensor) -> None:
        mu = sample("mu", dist.Normal(0.0, 1.0))
        with plate("row", 4):
            sample("y", dist.Normal(mu, 1.0).expand([4, 2]).to_event(1), obs=y)

    assert log_likelihood(model, {"mu": torch.zeros(3)}, torch.zeros(4, 2))["y"].shape == (3, 4)


def test_log_likelihood_leaves_the_scale_of_subsamples_out() -> None:
    def model() -> None:
        mu = sample("mu", dist.Normal(0.0, 1.0))
        with plate("row", 10, subsample=torch.tensor([0, 1])):
            sample("y", dist.Normal(mu, 1.0), obs=torch.zeros(2))

    found = log_likelihood(model, {"mu": torch.zeros(3)})
    torch.testing.assert_close(found["y"], torch.full((3, 2), -0.5 * math.log(2 * math.pi)))


def test_log_likelihood_keeps_chains_and_labels() -> None:
    given = {"mu": torch.zeros(2, 5), "theta": torch.zeros(2, 5, 3)}
    found = log_likelihood(schools, given, torch.zeros(3), batch_ndims=2, batch_size=4)
    assert found["y"].shape == (2, 5, 3)
    assert list(found.to_frame()) == ["y[Choate]", "y[Deerfield]", "y[Exeter]"]


def test_log_likelihood_needs_every_latent_error() -> None:
    with pytest.raises(InferenceError, match=r"none of \['theta'\]"):
        log_likelihood(schools, {"mu": torch.zeros(3)}, torch.zeros(3))


def test_log_likelihood_needs_data_error() -> None:
    with pytest.raises(InferenceError, match=r"none of \['y'\]"):
        log_likelihood(schools, {"mu": torch.zeros(3), "theta": torch.zeros(3, 3)})
