"""Values at the ends of a support and beyond, and in tails where one minus a probability is one."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import pytest
import torch

import brancher.distributions as dist
from brancher.errors import DistributionError

INF = float("inf")


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def relative_error(got: torch.Tensor, expected: Any) -> float:
    return float(abs(mp.mpf(float(got)) - expected) / abs(expected))


@pytest.mark.parametrize("slope", [1e-4, 0.1, 3.0, 20.0, 200.0, 1e4])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("p", [1e-30, 1e-9, 0.3, 0.5, 0.9])
def test_continuous_bernoulli_quantile_keeps_its_digits(slope: float, sign: float, p: float) -> None:
    s = mp.mpf(sign * slope)
    with mp.workdps(6000):  # exp(1e4)
        expected = mp.log1p(mp.mpf(p) * mp.expm1(s)) / s
    got = dist.ContinuousBernoulli(logits=double(sign * slope)).icdf(double(p))
    # the quantile's own condition: p near the far end is a few units in the last place of one
    assert relative_error(got, expected) < 1e-11 + 1e-13 * abs(float(s * p / mp.expm1(s * expected)))


@pytest.mark.parametrize("slope", [-1e4, -20.0, 1e-9, 20.0, 1e4])
def test_continuous_bernoulli_quantiles_of_0_and_1_are_the_ends(slope: float) -> None:
    law = dist.ContinuousBernoulli(logits=slope)
    assert law.icdf(torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("slope", [-200.0, 20.0, 200.0])
def test_steep_continuous_bernoulli_draws_are_inside_and_have_gradients(slope: float) -> None:
    logits = torch.tensor(slope, requires_grad=True)
    x = dist.ContinuousBernoulli(logits=logits).rsample(torch.Size([100_000]))
    assert x.min().item() >= 0.0 and x.max().item() <= 1.0
    assert bool(torch.autograd.grad(x.sum(), logits)[0].isfinite())


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (dist.Bernoulli(logits=double(50.0)), mp.exp(-50)),
        (dist.Binomial(7.0, logits=double(50.0)), 7 * mp.exp(-50)),
    ],
)
def test_variance_of_near_certainty_is_not_zero(law: Any, expected: Any) -> None:
    assert relative_error(law.variance, expected) < 1e-14


def test_entropy_of_a_geometric_law_of_vanishing_successes() -> None:
    # -log p - (1 - p) log(1 - p) / p, which tends to 1 - log p
    assert dist.Geometric(logits=double(-1000.0)).entropy().item() == 1001.0


@pytest.mark.parametrize("asymmetry", [0.1, 1.0, 3.0])
def test_skew_logistic_gradient_at_its_location(asymmetry: float) -> None:
    x = double(0.0).requires_grad_()
    (slope,) = torch.autograd.grad(dist.SkewLogistic(0.0, 1.0, double(asymmetry)).log_prob(x), x)
    # d/dz [-z - (a + 1) softplus(-z)] at 0
    assert slope.item() == pytest.approx(0.5 * (asymmetry - 1.0), abs=1e-15)


def test_quantiles_of_0_and_1_of_a_far_truncated_normal_are_its_bounds() -> None:
    low, high = double(0.0).new_tensor([40.0, 1e3, -2e3]), double(0.0).new_tensor([INF, 2e3, -1e3])
    law = dist.TruncatedNormal(0.0, 1.0, low, high)
    assert law.icdf(double(0.0)).tolist() == low.tolist()
    assert law.icdf(double(1.0)).tolist() == high.tolist()


@pytest.mark.parametrize("concentration", [-0.5, 0.0, 0.5])
def test_generalized_pareto_is_nothing_beyond_its_ends(concentration: float) -> None:
    law = dist.GeneralizedPareto(double(1.0), 1.0, concentration, validate_args=False)
    outside = double(0.0).new_tensor([0.9, -5.0] + ([3.1, 50.0] if concentration < 0 else []))
    assert bool((law.log_prob(outside) == -INF).all())
    assert law.cdf(outside).tolist() == [0.0, 0.0, 1.0, 1.0][: len(outside)]
    assert law.icdf(double(1.0)).item() == (3.0 if concentration < 0 else INF)


def test_generalized_pareto_of_shape_minus_one_is_uniform_to_its_end() -> None:
    assert dist.GeneralizedPareto(0.0, 1.0, -1.0).log_prob(torch.tensor(1.0)).item() == 0.0


def test_generalized_pareto_far_tail_has_gradients() -> None:
    x = torch.tensor(1e10, requires_grad=True)
    (slope,) = torch.autograd.grad(dist.GeneralizedPareto(0.0, 1.0, 3.0).log_prob(x), x)
    assert slope.item() == pytest.approx(-4.0 / 3.0 * 1e-10, rel=1e-5)


def test_weibull_variance_that_overflows_is_infinite() -> None:
    assert dist.Weibull(1.0, 0.05).variance.item() == INF


def test_weibull_variance_of_a_narrow_law_keeps_digits() -> None:
    k = mp.mpf(10_000)
    with mp.workdps(50):
        expected = mp.gamma(1 + 2 / k) - mp.gamma(1 + 1 / k) ** 2
    assert relative_error(dist.Weibull(double(1.0), 1e4).variance, expected) < 1e-11


def test_pareto_has_no_mass_below_its_scale() -> None:
    assert (
        dist.Pareto(1.0, 2.0, validate_args=False).cdf(torch.tensor([-1.0, 0.0, 0.5])).tolist() == [0.0] * 3
    )


@pytest.mark.parametrize("base", [dist.Logistic, dist.Laplace, dist.Cauchy, dist.Normal])
def test_truncation_in_the_upper_tail_mirrors_that_in_the_lower(base: Any) -> None:
    loc, x = double(2.0), torch.tensor([30.0, 30.5, 33.0], dtype=torch.float64)
    upper = dist.TruncatedDistribution(base(loc, 1.0), 30.0, 33.0)
    lower = dist.TruncatedDistribution(base(loc, 1.0), -29.0, -26.0)
    torch.testing.assert_close(upper.log_prob(x), lower.log_prob(4.0 - x))
    torch.testing.assert_close(upper.cdf(x), 1.0 - lower.cdf(4.0 - x), rtol=1e-12, atol=1e-15)
    p = torch.tensor([0.0, 1e-3, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(upper.icdf(p), 4.0 - lower.icdf(1.0 - p))


def test_truncation_to_an_interval_whose_mass_can_not_be_told_error() -> None:
    with pytest.raises(DistributionError, match=r"some of the mass of Exponential, got 1 of 1.*float64"):
        dist.TruncatedDistribution(dist.Exponential(1.0), 60.0, 61.0)


def test_multinomial_of_no_trials() -> None:
    law = dist.Multinomial(0, torch.ones(2, 3))
    assert law.sample(torch.Size([4])).eq(torch.zeros(4, 2, 3)).all()
    assert law.log_prob(torch.zeros(2, 3)).tolist() == [0.0, 0.0]
    assert law.entropy().tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "law",
    [dist.Poisson(1e25), dist.GammaPoisson(1.0, 1e-30), dist.NegativeBinomial(3.0, logits=60.0)],
)
def test_counts_beyond_64_bits_are_not_negative(law: Any) -> None:
    draws = law.sample(torch.Size([100]))
    assert bool((draws > 1e18).all()) and bool(draws.isfinite().all())


@pytest.mark.parametrize("given", ["probs", "logits"])
def test_bernoulli_takes_truth_values(given: str) -> None:
    law = dist.Bernoulli(**{given: torch.tensor(0.3)})
    truth = torch.tensor([True, False])
    torch.testing.assert_close(law.log_prob(truth), law.log_prob(truth.float()))


def test_value_that_lies_in_one_of_the_intervals_it_meets() -> None:
    law = dist.Uniform(0.0, torch.tensor([[1.0], [3.0]]).expand(2, 2))
    assert law.log_prob(torch.tensor([0.5, 2.0])).isinf().tolist() == [[False, True], [False, False]]
    with pytest.raises(DistributionError, match=r"got 2 offending, the first 4.0 at index \(0, 1\)"):
        law.log_prob(torch.tensor([0.5, 4.0]))
