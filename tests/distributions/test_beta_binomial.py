from __future__ import annotations

import pytest
import torch

from brancher.distributions import BetaBinomial, Binomial, DirichletMultinomial, GammaPoisson, Poisson
from brancher.errors import DistributionError

mpmath = pytest.importorskip("mpmath")


def beta_binomial(k: float, n: float, a: float, b: float) -> float:
    mpmath.mp.dps = 60
    k, n, a, b = (mpmath.mpf(v) for v in (k, n, a, b))
    gamma = mpmath.loggamma
    choose = gamma(n + 1) - gamma(k + 1) - gamma(n - k + 1)
    return float(
        choose + gamma(k + a) + gamma(n - k + b) - gamma(n + a + b) - gamma(a) - gamma(b) + gamma(a + b)
    )


def gamma_poisson(k: float, a: float, b: float) -> float:
    mpmath.mp.dps = 60
    k, a, b = (mpmath.mpf(v) for v in (k, a, b))
    rest = mpmath.loggamma(a + k) - mpmath.loggamma(a) - mpmath.loggamma(k + 1)
    return float(rest + a * mpmath.log(b / (1 + b)) - k * mpmath.log(1 + b))


# One rounding of the largest term that is left, a logarithm of about 20.
PRECISIONS = [(torch.float64, 1e-13), (torch.float32, 1e-5)]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(
    "case",
    [
        (3, 10, 1e8, 1e8),
        (3, 10, 1e-3, 1e-3),
        (4e8, 1e9, 2.0, 3.0),
        (5e7, 1e8, 1e8, 1e8),
        (0, 0, 1.0, 1.0),
        (16777, 33554, 1e6, 1e6),
        (0, 5, 0.5, 2.0),
        (5, 5, 0.5, 2.0),
    ],
)
def test_beta_binomial_at_large_counts(case: tuple[float, ...], dtype: torch.dtype, tolerance: float) -> None:
    k, n, a, b = (torch.tensor(float(v), dtype=dtype) for v in case)
    actual = BetaBinomial(a, b, n).log_prob(k).item()
    assert actual == pytest.approx(beta_binomial(*case), rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(
    "case", [(3, 1e8, 1e8), (0, 0.1, 1e-8), (1e8, 1e8, 1.0), (1e9, 2.0, 1e-9), (5, 1e-6, 1.0), (3, 2.0, 1e30)]
)
def test_gamma_poisson_at_large_counts(case: tuple[float, ...], dtype: torch.dtype, tolerance: float) -> None:
    k, a, b = (torch.tensor(float(v), dtype=dtype) for v in case)
    actual = GammaPoisson(a, b).log_prob(k).item()
    assert actual == pytest.approx(gamma_poisson(*case), rel=tolerance, abs=tolerance)


def test_certain_probability_gives_the_binomial() -> None:
    k = torch.arange(6, dtype=torch.float64)
    d = BetaBinomial(torch.tensor(3e14, dtype=torch.float64), 7e14, 5)
    exact = Binomial(5, torch.tensor(0.3).double()).log_prob(k)
    torch.testing.assert_close(d.log_prob(k), exact, rtol=1e-7, atol=1e-7)


def test_certain_rate_gives_the_poisson() -> None:
    k = torch.arange(6, dtype=torch.float64)
    d = GammaPoisson(torch.tensor(3e14, dtype=torch.float64), 1e14)
    torch.testing.assert_close(d.log_prob(k), Poisson(torch.tensor(3.0).double()).log_prob(k))


def test_two_categories_are_the_beta_binomial() -> None:
    k = torch.arange(5, dtype=torch.float64)
    d = DirichletMultinomial(torch.tensor([0.5, 2.0], dtype=torch.float64), 4)
    both = d.log_prob(torch.stack([k, 4 - k], -1))
    torch.testing.assert_close(both, BetaBinomial(torch.tensor(0.5).double(), 2.0, 4).log_prob(k))


def test_gradient_at_the_ends_is_finite() -> None:
    a, b = (torch.tensor(v, requires_grad=True) for v in (0.5, 2.0))
    log_prob = BetaBinomial(a, b, 3).log_prob(torch.tensor([0.0, 3.0]))
    assert all(g.isfinite() for g in torch.autograd.grad(log_prob.sum(), [a, b]))


def test_enumeration_over_unequal_totals_error() -> None:
    with pytest.raises(DistributionError, match="one total_count"):
        BetaBinomial(1.0, 1.0, torch.tensor([2.0, 3.0])).enumerate_support()


def test_totals_may_differ_in_a_batch_of_multinomials() -> None:
    d = DirichletMultinomial(torch.ones(3, 4), torch.tensor([0, 5, 40]))
    assert d.sample(torch.Size([7])).sum(-1).tolist() == [[0.0, 5.0, 40.0]] * 7


def test_counts_that_miss_the_total_are_impossible() -> None:
    d = DirichletMultinomial(torch.ones(2), 3, validate_args=False)
    assert d.log_prob(torch.tensor([1.0, 1.0])).item() == -torch.inf


def test_concentration_without_categories_error() -> None:
    with pytest.raises(DistributionError, match="concentration"):
        DirichletMultinomial(torch.tensor(1.0), 3)
