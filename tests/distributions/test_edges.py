"""Densities, distribution functions and quantiles where textbook formulas cancel or overflow.

Every expected value comes from mpmath with 60 digits.
"""

from __future__ import annotations

from typing import Any

import mpmath as mp
import pytest
import torch

import brancher.distributions as dist

mp.mp.dps = 60
M = mp.mpf


def normal(x: Any, loc: Any, scale: Any) -> Any:
    z = (M(x) - M(loc)) / M(scale)
    return -z * z / 2 - mp.log(M(scale)) - mp.log(2 * mp.pi) / 2


def student(x: Any, df: Any) -> Any:
    x, n = M(x), M(df)
    half = (n + 1) / 2
    constant = mp.loggamma(half) - mp.loggamma(n / 2) - mp.log(n * mp.pi) / 2
    return constant - half * mp.log(1 + x * x / n)


def gamma(x: Any, a: Any, b: Any) -> Any:
    x, a, b = M(x), M(a), M(b)
    return a * mp.log(b) + (a - 1) * mp.log(x) - b * x - mp.loggamma(a)


def beta(x: Any, a: Any, b: Any) -> Any:
    x, a, b = M(x), M(a), M(b)
    constant = mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b)
    return constant + (a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x)


def poisson(k: Any, rate: Any) -> Any:
    return M(k) * mp.log(M(rate)) - M(rate) - mp.loggamma(M(k) + 1)


def binomial(k: Any, n: Any, p: Any) -> Any:
    k, n, p = M(k), M(n), M(p)
    choose = mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
    return choose + k * mp.log(p) + (n - k) * mp.log1p(-p)


def negative_binomial(k: Any, r: Any, p: Any) -> Any:
    k, r, p = M(k), M(r), M(p)
    choose = mp.loggamma(k + r) - mp.loggamma(k + 1) - mp.loggamma(r)
    return choose + k * mp.log(p) + r * mp.log1p(-p)


def von_mises(x: Any, k: Any) -> Any:
    k = M(k)
    return k * mp.cos(M(x)) - mp.log(2 * mp.pi * mp.besseli(0, k))


def fisher(x: Any, d1: Any, d2: Any) -> Any:
    x, a, b = M(x), M(d1) / 2, M(d2) / 2
    y = a * x / (a * x + b)
    constant = mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b)
    return constant + a * mp.log(y) + b * mp.log1p(-y) - mp.log(x)


def relaxed_bernoulli(x: Any, temperature: Any) -> Any:
    odds = (x / (1 - x)) ** -M(temperature)
    return mp.log(M(temperature) * odds / (1 + odds) ** 2 / x / (1 - x))


def continuous_bernoulli(x: Any, logit: Any) -> Any:
    h = M(logit) / 2
    return 2 * h * (M(x) - M("0.5")) - mp.log(mp.sinh(h) / h)


def kumaraswamy(x: Any, a: Any, b: Any) -> Any:
    x, a, b = M(x), M(a), M(b)
    return mp.log(a) + mp.log(b) + (a - 1) * mp.log(x) + (b - 1) * mp.log(1 - x**a)


def weibull(x: Any, k: Any) -> Any:
    x, k = M(x), M(k)
    return mp.log(k) + (k - 1) * mp.log(x) - x**k


def halves(p: Any) -> Any:
    return mp.sqrt(2) * mp.erfinv(2 * M(p) - 1)


def quantile(p: str) -> Any:
    """Standard normal quantile by Newton's method on the logarithm of the tail."""
    target = mp.log(M(p))
    z = -mp.sqrt(-2 * target)
    for _ in range(60):
        tail = mp.erfc(-z / mp.sqrt(2)) / 2
        z -= (mp.log(tail) - target) * tail / (mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi))
    return z


DENSITIES: list[tuple[str, Any, float, Any]] = [
    ("normal far", lambda: dist.Normal(0.0, 1e-3), 1e5, normal(1e5, 0, 1e-3)),
    ("normal tiny scale", lambda: dist.Normal(0.0, 1e-200), 1e-200, normal(1e-200, 0, 1e-200)),
    ("normal huge scale", lambda: dist.Normal(0.0, 1e200), 1e200, normal(1e200, 0, 1e200)),
    ("half normal at 0", lambda: dist.HalfNormal(1.0), 0.0, mp.log(2) + normal(0, 0, 1)),
    ("half cauchy at 0", lambda: dist.HalfCauchy(1.0), 0.0, mp.log(2 / mp.pi)),
    ("half cauchy far", lambda: dist.HalfCauchy(1.0), 1e200, mp.log(2 / mp.pi) - 2 * mp.log(M(1e200))),
    ("cauchy far", lambda: dist.Cauchy(0.0, 1.0), 1e200, -mp.log(mp.pi) - 2 * mp.log(M(1e200))),
    ("cauchy tiny scale", lambda: dist.Cauchy(0.0, 1e-200), 1.0, -mp.log(mp.pi) - mp.log(M(1e200))),
    ("student far", lambda: dist.StudentT(3.0), 1e200, student(1e200, 3)),
    ("student normal", lambda: dist.StudentT(1e8), 2.0, student(2, 1e8)),
    ("student huge df", lambda: dist.StudentT(1e14), 2.0, student(2, 1e14)),
    ("student tiny df", lambda: dist.StudentT(1e-3), 2.0, student(2, 1e-3)),
    (
        "lognormal small",
        lambda: dist.LogNormal(0.0, 1.0),
        1e-200,
        normal(mp.log(M(1e-200)), 0, 1) - mp.log(M(1e-200)),
    ),
    ("gamma 1e8", lambda: dist.Gamma(1e8, 1.0), 1e8, gamma(1e8, 1e8, 1)),
    ("gamma 1e8 off", lambda: dist.Gamma(1e8, 1.0), 1e8 + 3e4, gamma(1e8 + 3e4, 1e8, 1)),
    ("gamma 1e12", lambda: dist.Gamma(1e12, 2.0), 5e11, gamma(5e11, 1e12, 2)),
    ("gamma tiny", lambda: dist.Gamma(1e-8, 1.0), 1e-30, gamma(1e-30, 1e-8, 1)),
    ("gamma small value", lambda: dist.Gamma(3.0, 1.0), 1e-200, gamma(1e-200, 3, 1)),
    ("gamma one at 0", lambda: dist.Gamma(1.0, 2.0), 0.0, mp.log(2)),
    ("chi2 1e8", lambda: dist.Chi2(2e8), 2e8, gamma(2e8, 1e8, M("0.5"))),
    ("exponential at 0", lambda: dist.Exponential(2.0), 0.0, mp.log(2)),
    ("beta 1e8", lambda: dist.Beta(1e8, 1e8), 0.5, beta(0.5, 1e8, 1e8)),
    ("beta 1e8 off", lambda: dist.Beta(1e8, 1e8), 0.5001, beta(0.5001, 1e8, 1e8)),
    ("beta lopsided", lambda: dist.Beta(2.0, 1e8), 1e-8, beta(1e-8, 2, 1e8)),
    ("beta tiny", lambda: dist.Beta(1e-8, 1e-8), 0.3, beta(0.3, 1e-8, 1e-8)),
    ("beta small value", lambda: dist.Beta(2.0, 3.0), 1e-200, beta(1e-200, 2, 3)),
    ("beta uniform at 0", lambda: dist.Beta(1.0, 1.0), 0.0, M(0)),
    ("poisson 1e8", lambda: dist.Poisson(1e8), 1e8, poisson(1e8, 1e8)),
    ("poisson 1e8 off", lambda: dist.Poisson(1e8), 1e8 - 12345, poisson(1e8 - 12345, 1e8)),
    ("poisson 1e15", lambda: dist.Poisson(1e15), 1e15, poisson(1e15, 1e15)),
    ("poisson small rate", lambda: dist.Poisson(1e-30), 3.0, poisson(3, 1e-30)),
    ("poisson zero rate", lambda: dist.Poisson(0.0), 0.0, M(0)),
    ("binomial 1e8", lambda: dist.Binomial(1e8, 0.5), 5e7, binomial(5e7, 1e8, 0.5)),
    ("binomial 1e8 off", lambda: dist.Binomial(1e8, 0.3), 3e7 + 5000, binomial(3e7 + 5000, 1e8, 0.3)),
    ("binomial rare", lambda: dist.Binomial(1e8, 1e-8), 3.0, binomial(3, 1e8, 1e-8)),
    ("binomial none", lambda: dist.Binomial(10.0, 1e-20), 0.0, binomial(0, 10, 1e-20)),
    ("binomial unlikely", lambda: dist.Binomial(10.0, 1e-20), 2.0, binomial(2, 10, 1e-20)),
    ("binomial certain", lambda: dist.Binomial(10.0, 1.0), 10.0, M(0)),
    ("negative binomial 1e8", lambda: dist.NegativeBinomial(1e8, 0.5), 1e8, negative_binomial(1e8, 1e8, 0.5)),
    (
        "negative binomial rare",
        lambda: dist.NegativeBinomial(1e8, 1e-8),
        2.0,
        negative_binomial(2, 1e8, 1e-8),
    ),
    (
        "negative binomial small",
        lambda: dist.NegativeBinomial(1e-8, 0.5),
        2.0,
        negative_binomial(2, 1e-8, 0.5),
    ),
    ("bernoulli rare", lambda: dist.Bernoulli(1e-20), 1.0, mp.log(M(1e-20))),
    ("bernoulli sure", lambda: dist.Bernoulli(1e-20), 0.0, mp.log1p(-M(1e-20))),
    ("bernoulli zero", lambda: dist.Bernoulli(0.0), 0.0, M(0)),
    ("bernoulli logits", lambda: dist.Bernoulli(logits=100.0), 1.0, -mp.log1p(mp.exp(M(-100)))),
    ("bernoulli logits low", lambda: dist.Bernoulli(logits=-100.0), 0.0, -mp.log1p(mp.exp(M(-100)))),
    ("geometric rare", lambda: dist.Geometric(1e-20), 3.0, mp.log(M(1e-20)) + 3 * mp.log1p(-M(1e-20))),
    ("geometric late", lambda: dist.Geometric(1e-20), 1e20, mp.log(M(1e-20)) + M(1e20) * mp.log1p(-M(1e-20))),
    ("geometric sure", lambda: dist.Geometric(1.0), 0.0, M(0)),
    ("categorical rare", lambda: dist.Categorical(torch.tensor([1e-30, 1.0])), 0.0, mp.log(M(1e-30))),
    ("von mises sharp", lambda: dist.VonMises(0.0, 1e8), 1e-4, von_mises(1e-4, 1e8)),
    ("von mises flat", lambda: dist.VonMises(0.0, 1e-8), 3.0, von_mises(3, 1e-8)),
    ("fisher large", lambda: dist.FisherSnedecor(1e8, 1e8), 1.0, fisher(1, 1e8, 1e8)),
    ("fisher chi2", lambda: dist.FisherSnedecor(3.0, 1e8), 2.0, fisher(2, 3, 1e8)),
    ("laplace far", lambda: dist.Laplace(0.0, 1e-200), 1e100, -M(1e100) / M(1e-200) - mp.log(2 * M(1e-200))),
    (
        "continuous bernoulli flat",
        lambda: dist.ContinuousBernoulli(logits=1e-9),
        0.2,
        continuous_bernoulli(0.2, 1e-9),
    ),
    (
        "continuous bernoulli low",
        lambda: dist.ContinuousBernoulli(logits=-0.05),
        0.2,
        continuous_bernoulli(0.2, -0.05),
    ),
    (
        "continuous bernoulli steep",
        lambda: dist.ContinuousBernoulli(logits=900.0),
        1.0,
        continuous_bernoulli(1, 900),
    ),
    ("kumaraswamy near 1", lambda: dist.Kumaraswamy(2.0, 3.0), 1 - 1e-15, kumaraswamy(1 - 1e-15, 2, 3)),
    ("kumaraswamy near 0", lambda: dist.Kumaraswamy(1e-3, 3.0), 1e-200, kumaraswamy(1e-200, 1e-3, 3)),
    ("weibull small", lambda: dist.Weibull(1.0, 0.5), 1e-200, weibull(1e-200, 0.5)),
    ("weibull one at 0", lambda: dist.Weibull(2.0, 1.0), 0.0, -mp.log(2)),
    ("pareto light", lambda: dist.Pareto(1.0, 1e-8), 1e8, mp.log(M(1e-8)) - (1 + M(1e-8)) * mp.log(M(1e8))),
    ("uniform at its ends", lambda: dist.Uniform(0.0, 2.0), 2.0, -mp.log(2)),
    ("gumbel far", lambda: dist.Gumbel(0.0, 1.0), 700.0, -M(700) - mp.exp(M(-700))),
]

FUNCTIONS: list[tuple[str, Any, float, Any]] = [
    ("normal cdf -10", lambda x: dist.Normal(0.0, 1.0).cdf(x), -10.0, mp.ncdf(-10)),
    ("normal cdf -35", lambda x: dist.Normal(0.0, 1.0).cdf(x), -35.0, mp.erfc(35 / mp.sqrt(2)) / 2),
    ("normal icdf 1e-300", lambda x: dist.Normal(0.0, 1.0).icdf(x), 1e-300, quantile("1e-300")),
    ("normal icdf 1e-20", lambda x: dist.Normal(0.0, 1.0).icdf(x), 1e-20, quantile("1e-20")),
    ("half normal cdf", lambda x: dist.HalfNormal(1.0).cdf(x), 1e-20, mp.erf(M(1e-20) / mp.sqrt(2))),
    ("half normal icdf low", lambda x: dist.HalfNormal(1.0).icdf(x), 1e-20, mp.sqrt(2) * mp.erfinv(M(1e-20))),
    (
        "half normal icdf high",
        lambda x: dist.HalfNormal(1.0).icdf(x),
        1 - 1e-15,
        mp.sqrt(2) * mp.erfinv(M(1 - 1e-15)),
    ),
    ("cauchy cdf", lambda x: dist.Cauchy(0.0, 1.0).cdf(x), -1e20, mp.atan(1 / M(1e20)) / mp.pi),
    ("cauchy icdf", lambda x: dist.Cauchy(0.0, 1.0).icdf(x), 1e-20, -1 / mp.tan(mp.pi * M(1e-20))),
    (
        "cauchy icdf high",
        lambda x: dist.Cauchy(0.0, 1.0).icdf(x),
        1 - 1e-15,
        1 / mp.tan(mp.pi * (1 - M(1 - 1e-15))),
    ),
    ("half cauchy cdf", lambda x: dist.HalfCauchy(1.0).cdf(x), 1e-20, 2 * mp.atan(M(1e-20)) / mp.pi),
    ("half cauchy icdf", lambda x: dist.HalfCauchy(1.0).icdf(x), 1e-20, mp.tan(mp.pi * M(1e-20) / 2)),
    ("laplace cdf", lambda x: dist.Laplace(0.0, 1.0).cdf(x), -50.0, mp.exp(-50) / 2),
    ("laplace icdf", lambda x: dist.Laplace(0.0, 1.0).icdf(x), 1e-20, mp.log(2 * M(1e-20))),
    ("exponential cdf", lambda x: dist.Exponential(1.0).cdf(x), 1e-20, -mp.expm1(-M(1e-20))),
    ("exponential icdf", lambda x: dist.Exponential(1.0).icdf(x), 1e-20, -mp.log1p(-M(1e-20))),
    ("weibull cdf", lambda x: dist.Weibull(1.0, 2.0).cdf(x), 1e-10, -mp.expm1(-(M(1e-10) ** 2))),
    ("weibull icdf", lambda x: dist.Weibull(1.0, 2.0).icdf(x), 1e-20, mp.sqrt(-mp.log1p(-M(1e-20)))),
    ("pareto cdf", lambda x: dist.Pareto(1.0, 1e-10).cdf(x), 2.0, -mp.expm1(-M(1e-10) * mp.log(2))),
    (
        "kumaraswamy cdf",
        lambda x: dist.Kumaraswamy(2.0, 3.0).cdf(x),
        1e-10,
        -mp.expm1(3 * mp.log1p(-(M(1e-10) ** 2))),
    ),
    ("gumbel cdf", lambda x: dist.Gumbel(0.0, 1.0).cdf(x), -5.0, mp.exp(-mp.exp(5))),
    (
        "genpareto cdf",
        lambda x: dist.GeneralizedPareto(0.0, 1.0, 1e-9).cdf(x),
        1e-12,
        -mp.expm1(-mp.log1p(M(1e-21)) / M(1e-9)),
    ),
]


def close(got: torch.Tensor, expected: Any, tolerance: float) -> bool:
    difference = abs(M(float(got)) - expected)
    return bool(difference <= tolerance * max(abs(expected), M("1e-300")))


@pytest.mark.parametrize(
    ("build", "value", "expected"), [row[1:] for row in DENSITIES], ids=[r[0] for r in DENSITIES]
)
def test_log_prob_in_float64(build: Any, value: float, expected: Any) -> None:
    torch.set_default_dtype(torch.float64)
    got = build().log_prob(torch.tensor(value))
    # 1e-12 relative, or absolute below one nat: the last digits of exp and log of inexact arguments
    assert abs(M(float(got)) - expected) <= M("1e-12") * max(abs(expected), M(1)) or got == expected
    assert close(got, expected, 1e-9)


@pytest.mark.parametrize(
    ("function", "value", "expected"), [row[1:] for row in FUNCTIONS], ids=[r[0] for r in FUNCTIONS]
)
def test_distribution_functions_in_float64(function: Any, value: float, expected: Any) -> None:
    torch.set_default_dtype(torch.float64)
    assert close(function(torch.tensor(value)), expected, 1e-12)


FLOAT32: list[tuple[str, Any, float, Any]] = [
    ("normal cdf", lambda x: dist.Normal(0.0, 1.0).cdf(x), -10.0, mp.ncdf(-10)),
    ("bernoulli", lambda x: dist.Bernoulli(torch.tensor(1e-20)).log_prob(x), 1.0, mp.log(M(1e-20))),
    ("student far", lambda x: dist.StudentT(3.0).log_prob(x), 1e30, student(1e30, 3)),
    ("student normal", lambda x: dist.StudentT(1e8).log_prob(x), 2.0, student(2, 1e8)),
    ("gamma", lambda x: dist.Gamma(1e8, 1.0).log_prob(x), 1e8, gamma(1e8, 1e8, 1)),
    ("beta", lambda x: dist.Beta(1e8, 1e8).log_prob(x), 0.5, beta(0.5, 1e8, 1e8)),
    ("poisson", lambda x: dist.Poisson(1e8).log_prob(x), 1e8, poisson(1e8, 1e8)),
    ("binomial", lambda x: dist.Binomial(1e8, 0.5).log_prob(x), 5e7, binomial(5e7, 1e8, 0.5)),
    (
        "negative binomial",
        lambda x: dist.NegativeBinomial(1e8, 0.5).log_prob(x),
        1e8,
        negative_binomial(1e8, 1e8, 0.5),
    ),
    ("von mises", lambda x: dist.VonMises(0.0, 1e8).log_prob(x), 0.0, von_mises(0, 1e8)),
    ("laplace cdf", lambda x: dist.Laplace(0.0, 1.0).cdf(x), -50.0, mp.exp(-50) / 2),
    (
        "cauchy far",
        lambda x: dist.Cauchy(0.0, 1e-20).log_prob(x),
        1e20,
        mp.log(M(1e-20) / (mp.pi * M(1e20) ** 2)),
    ),
    (
        "gamma at a tiny product",
        lambda x: dist.Gamma(50.0, 1e-10).log_prob(x),
        1e-30,
        gamma(1e-30, 50, 1e-10),
    ),
    (
        "inverse gamma near 0",
        lambda x: dist.InverseGamma(50.0, 1e5).log_prob(x),
        1e-30,
        gamma(1e30, 50, 1e5) - 2 * mp.log(M(1e-30)),
    ),
    (
        "relaxed bernoulli near 1",
        lambda x: dist.RelaxedBernoulli(2.0, logits=0.0).log_prob(x),
        1 - 2.0**-24,
        relaxed_bernoulli(1 - M(2) ** -24, 2),
    ),
    (
        "pareto quantile",
        lambda p: dist.Pareto(1.0, 1e-5).icdf(p),
        1e-10,
        mp.exp(-mp.log1p(-M(1e-10)) / M(1e-5)),
    ),
]


@pytest.mark.parametrize(
    ("function", "value", "expected"), [row[1:] for row in FLOAT32], ids=[r[0] for r in FLOAT32]
)
def test_values_in_float32(function: Any, value: float, expected: Any) -> None:
    got = function(torch.tensor(value, dtype=torch.float32))
    assert got.dtype == torch.float32
    assert close(got, expected, 2e-5)  # a few units in the last place of values around ten


@pytest.mark.parametrize("family", [dist.HalfNormal, dist.HalfCauchy, dist.Exponential])
def test_density_below_zero_is_zero_when_unvalidated(family: Any) -> None:
    assert family(1.0, validate_args=False).log_prob(torch.tensor(-1.0)) == -torch.inf


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda p: dist.Bernoulli(probs=p), 0.0),
        (lambda p: dist.Binomial(5.0, probs=p), 0.0),
        (lambda p: dist.NegativeBinomial(5.0, probs=p), 0.0),
        (lambda p: dist.Poisson(p), 0.0),
        (lambda p: dist.Categorical(probs=torch.stack([p, 1 - p])), 1.0),
    ],
)
def test_gradient_at_a_probability_of_zero_is_finite(build: Any, value: float) -> None:
    p = torch.tensor(0.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(build(p).log_prob(torch.tensor(value)), p)
    assert bool(gradient.isfinite())


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda a: dist.Gamma(a, 2.0), 0.0),
        (lambda _: dist.Gamma(1.0, 2.0), 0.0),
        (lambda a: dist.Weibull(2.0, a), 0.0),
        (lambda a: dist.Beta(a, 3.0), 0.0),
        (lambda a: dist.Beta(3.0, a), 1.0),
        (lambda _: dist.Beta(1.0, 3.0), 0.0),
        (lambda a: dist.Kumaraswamy(a, 3.0), 0.0),
        (lambda a: dist.Kumaraswamy(3.0, a), 1.0),
        (lambda a: dist.RelaxedBernoulli(a, logits=0.0), 1.0),
        (lambda a: dist.Exponential(a), 0.0),
        (lambda a: dist.Pareto(a, 2.0), 1.0),
        (lambda a: dist.GeneralizedPareto(0.0, a, 0.0), 2.0),
        (lambda a: dist.Cauchy(0.0, a * 1e-20), 1e20),
    ],
)
def test_gradients_where_the_density_is_finite_are_finite(build: Any, value: float) -> None:
    a = torch.tensor(1.0, requires_grad=True)
    x = torch.tensor(value, requires_grad=True)
    density = build(a).log_prob(x)
    gradients = torch.autograd.grad(density, [a, x], allow_unused=True)
    assert bool(density.isfinite()) and all(g is None or bool(g.isfinite()) for g in gradients)


@pytest.mark.parametrize("scale", [3.0, -3.0])
def test_tail_of_a_shifted_law_keeps_its_digits(scale: float) -> None:
    slope = torch.tensor(scale)
    law = dist.TransformedDistribution(dist.Normal(0.0, 1.0), dist.AffineTransform(0.0, slope))
    got = law.cdf(torch.tensor(-30.0))
    assert close(got, mp.ncdf(-10) if scale > 0 else 1 - mp.ncdf(10), 1e-5 if scale > 0 else 1.0)


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda a: dist.Gamma(a, 1.0), 1e8 + 1e4),
        (lambda a: dist.Poisson(a), 1e8 + 1e4),
        (lambda a: dist.StudentT(a), 1e8),
    ],
)
def test_gradient_at_1e8_equals_that_of_many_digits(build: Any, value: float) -> None:
    a = torch.tensor(1e8, dtype=torch.float64, requires_grad=True)
    d = build(a)
    (gradient,) = torch.autograd.grad(d.log_prob(torch.tensor(value, dtype=torch.float64)), a)
    reference = {"Gamma": lambda t: gamma(value, t, 1), "Poisson": lambda t: poisson(value, t)}.get(
        type(d).__name__, lambda t: student(value, t)
    )
    expected = mp.diff(reference, M(1e8))
    assert abs(M(float(gradient)) - expected) <= M("1e-7") * abs(expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_infinite_log_odds_are_certainty(sign: float) -> None:
    sure = torch.tensor(sign * float("inf"))
    certain, impossible = (1.0, 0.0) if sign > 0 else (0.0, 1.0)
    bernoulli = dist.Bernoulli(logits=sure)
    assert bernoulli.log_prob(torch.tensor(certain)) == 0.0
    assert bernoulli.log_prob(torch.tensor(impossible)) == -float("inf")
    assert bernoulli.entropy() == 0.0
    assert dist.Binomial(3, logits=sure).log_prob(torch.tensor(3 * certain)) == 0.0
    assert dist.Binomial(3, logits=sure).log_prob(torch.tensor(1.0)) == -float("inf")


def test_gradient_at_infinite_log_odds_is_finite() -> None:
    logits = torch.tensor([float("inf"), -float("inf"), 1.0], requires_grad=True)
    density = dist.Bernoulli(logits=logits).log_prob(torch.tensor([1.0, 0.0, 1.0])).sum()
    (slope,) = torch.autograd.grad(density, logits)
    torch.testing.assert_close(slope, torch.tensor([0.0, 0.0, 1.0 - torch.sigmoid(torch.tensor(1.0)).item()]))
