"""Entropies and divergences at shapes where the textbook formulas subtract large numbers, against mpmath."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import mpmath as mp
import pytest
import torch

import brancher.distributions as dist

mp.mp.dps = 50
M = mp.mpf

SHAPES = (1e-5, 0.3, 1.0, 50.0, 1e5, 1e8)


def log_beta(a: Sequence[Any]) -> Any:
    return sum(mp.loggamma(x) for x in a) - mp.loggamma(sum(a))


def gamma_entropy(a: Any, b: Any) -> Any:
    return a - mp.log(b) + mp.loggamma(a) + (1 - a) * mp.digamma(a)


def inverse_gamma_entropy(a: Any, b: Any) -> Any:
    return a + mp.log(b) + mp.loggamma(a) - (1 + a) * mp.digamma(a)


def dirichlet_entropy(*a: Any) -> Any:
    total = sum(a)
    inner = sum((x - 1) * mp.digamma(x) for x in a)
    return log_beta(a) + (total - len(a)) * mp.digamma(total) - inner


def student_entropy(n: Any, scale: Any) -> Any:
    step = mp.digamma((n + 1) / 2) - mp.digamma(n / 2)
    return (n + 1) / 2 * step + mp.log(n) / 2 + log_beta((n / 2, M(1) / 2)) + mp.log(scale)


ENTROPIES: dict[str, tuple[Any, Any]] = {
    "gamma": (lambda a, b: dist.Gamma(a, b), gamma_entropy),
    "inverse gamma": (lambda a, b: dist.InverseGamma(a, b), inverse_gamma_entropy),
    "beta": (lambda a, b: dist.Beta(a, b), dirichlet_entropy),
    "student": (lambda a, b: dist.StudentT(a, 0.0, b), student_entropy),
    "dirichlet": (
        lambda a, b: dist.Dirichlet(torch.stack([a, b, a])),
        lambda a, b: dirichlet_entropy(a, b, a),
    ),
}


def gamma_divergence(a: Any, b: Any, c: Any, d: Any) -> Any:
    shapes = (a - c) * mp.digamma(a) - mp.loggamma(a) + mp.loggamma(c)
    return shapes + c * (mp.log(b) - mp.log(d)) + a * (d - b) / b


def dirichlet_divergence(a: Sequence[Any], b: Sequence[Any]) -> Any:
    inner = sum((x - y) * (mp.digamma(x) - mp.digamma(sum(a))) for x, y in zip(a, b, strict=True))
    return log_beta(b) - log_beta(a) + inner


DIVERGENCES: dict[str, tuple[Any, Any]] = {
    "gamma": (lambda a, b: dist.Gamma(a, b), gamma_divergence),
    "inverse gamma": (lambda a, b: dist.InverseGamma(a, b), gamma_divergence),
    "beta": (lambda a, b: dist.Beta(a, b), lambda a, b, c, d: dirichlet_divergence((a, b), (c, d))),
    "dirichlet": (
        lambda a, b: dist.Dirichlet(torch.stack([a, b, a])),
        lambda a, b, c, d: dirichlet_divergence((a, b, a), (c, d, c)),
    ),
    "poisson": (
        lambda a, b: dist.Poisson(a * b),
        lambda a, b, c, d: a * b * mp.log(a * b / c / d) - a * b + c * d,
    ),
}

#: Of the larger of result and one nat. In float64 shapes of 1e8 that differ by 1e4 leave the rounding of 1e4
#: in the deviance, 1e-12; in float32 the worst seen is 1e-4.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-4}


def check(got: torch.Tensor, expected: Any, dtype: torch.dtype) -> None:
    assert got.dtype == dtype
    assert abs(M(float(got)) - expected) <= TOLERANCE[dtype] * max(abs(expected), M(1))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", ENTROPIES)
def test_entropy(name: str, dtype: torch.dtype) -> None:
    build, exact = ENTROPIES[name]
    for a, b in itertools.product(SHAPES, (1e-3, 1.0, 1e5)):
        given = torch.tensor([a, b], dtype=dtype)
        check(build(*given).entropy(), exact(*(M(x) for x in given.tolist())), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergence(name: str, dtype: torch.dtype) -> None:
    build, exact = DIVERGENCES[name]
    for a, b, c, d in itertools.product(SHAPES, (1e-3, 1.0), (*SHAPES, 1.0001e8), (1e-3, 1.0)):
        given = torch.tensor([a, b, c, d], dtype=dtype)
        expected = exact(*(M(x) for x in given.tolist()))
        check(dist.kl_divergence(build(*given[:2]), build(*given[2:])), expected, dtype)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergence_from_itself_is_zero(name: str) -> None:
    build, _ = DIVERGENCES[name]
    for a in SHAPES:
        law = build(torch.tensor(a), torch.tensor(2.0))
        # units in the last place of the largest term, D(a) a ~ 1 for large and ~ 1 for small shapes
        assert abs(float(dist.kl_divergence(law, law))) < 1e-4


def test_gradient_of_a_divergence() -> None:
    a = torch.tensor(1e8, dtype=torch.float64, requires_grad=True)
    given = [torch.tensor(x, dtype=torch.float64) for x in (1.0, 1.00001e8, 1.0)]
    divergence = dist.kl_divergence(dist.Gamma(a, given[0]), dist.Gamma(given[1], given[2]))
    (gradient,) = torch.autograd.grad(divergence, a)
    expected = mp.diff(lambda t: gamma_divergence(t, M(1), M("1.00001e8"), M(1)), M(1e8))
    assert abs(M(float(gradient)) - expected) < M("1e-7") * abs(expected)
