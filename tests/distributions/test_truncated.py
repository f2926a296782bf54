from __future__ import annotations

import pytest
import torch

from brancher.distributions import (
    Cauchy,
    Exponential,
    FoldedDistribution,
    Normal,
    Poisson,
    TruncatedDistribution,
    TruncatedNormal,
    biject_to,
)
from brancher.errors import DistributionError


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_normal_base_agrees_with_truncated_normal() -> None:
    ours = TruncatedDistribution(Normal(double(0.3), 2.0), -1.0, 0.5)
    exact = TruncatedNormal(double(0.3), 2.0, -1.0, 0.5)
    x = exact.sample(torch.Size([20]))
    torch.testing.assert_close(ours.log_prob(x), exact.log_prob(x))
    torch.testing.assert_close(ours.cdf(x), exact.cdf(x))


def test_no_bound_is_the_base() -> None:
    base = Cauchy(double(0.0), 1.0)
    x = torch.tensor([-1e6, 0.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(TruncatedDistribution(base).log_prob(x), base.log_prob(x))


def test_bound_outside_the_base_support_is_narrowed() -> None:
    d = TruncatedDistribution(Exponential(double(1.0)), -5.0, 2.0)
    assert d.low.item() == 0.0
    assert d.cdf(double(2.0)).item() == 1.0


def test_half_bounded_support_has_a_finite_bijection() -> None:
    d = TruncatedDistribution(Normal(0.0, 1.0), high=0.0)
    assert bool(biject_to(d.support)(torch.tensor([-3.0, 3.0])).isfinite().all())


def test_gradient_with_one_bound_is_finite() -> None:
    loc = torch.tensor(0.0, requires_grad=True)
    x = TruncatedDistribution(Normal(loc, 1.0), low=0.5).rsample(torch.Size([10]))
    assert torch.autograd.grad(x.sum(), loc)[0].isfinite()


def test_discrete_base_error() -> None:
    with pytest.raises(DistributionError, match="continuous base"):
        TruncatedDistribution(Poisson(1.0), low=1.0)


def test_empty_interval_error() -> None:
    with pytest.raises(DistributionError, match="low < high"):
        TruncatedDistribution(Exponential(1.0), high=-1.0)


def test_folding_a_symmetric_law_doubles_its_density() -> None:
    x = torch.tensor([0.0, 1.0, 40.0], dtype=torch.float64)
    base = Normal(double(0.0), 1.0)
    torch.testing.assert_close(FoldedDistribution(base).log_prob(x), base.log_prob(x) + double(2.0).log())


def test_folding_a_positive_law_error() -> None:
    with pytest.raises(DistributionError, match="real support"):
        FoldedDistribution(Exponential(1.0))
