"""Special functions against mpmath."""

from __future__ import annotations

import mpmath as mp
import pytest
import torch

from brancher.distributions import special

mp.mp.dps = 50
M = mp.mpf


def double(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def assert_close(got: torch.Tensor, expected: mp.mpf, tolerance: float = 1e-13) -> None:
    assert abs(M(float(got)) - expected) <= tolerance * max(abs(expected), M(1))


@pytest.mark.parametrize("x", [0.0, 1e-10, 0.5, 1.0, 5.0, 39.9, 40.0, 100.0, 1e4, 1e8, 1e15])
def test_stirling_remainder(x: float) -> None:
    expected = mp.loggamma(M(x) + 1) - (M(x) * mp.log(M(x)) if x else 0) + M(x)
    assert_close(special.stirling_remainder(*double(x)), expected)


@pytest.mark.parametrize("x", [1e-10, 0.5, 1.0, 5.0, 39.9, 40.0, 100.0, 1e4, 1e8, 1e15])
def test_log_gamma_half_ratio(x: float) -> None:
    assert_close(special.log_gamma_half_ratio(*double(x)), mp.loggamma(M(x) + M("0.5")) - mp.loggamma(M(x)))


@pytest.mark.parametrize("x", [1e-10, 0.5, 1.0, 5.0, 39.9, 40.0, 100.0, 1e4, 1e8, 1e15])
def test_log_minus_digamma(x: float) -> None:
    got, expected = special.log_minus_digamma(*double(x)), mp.log(M(x)) - mp.digamma(M(x))
    # relative: the difference is 1 / (2 x) for large x, and log(x) loses log2(2 x log x) bits below 40
    assert abs(M(float(got)) - expected) <= M("1e-13") * expected


@pytest.mark.parametrize(
    ("x", "m"),
    [(0.0, 3.0), (1e-8, 1e-30), (3.0, 2.9), (5.0, 5.0001), (1e8, 1e8 + 1), (1e8, 1.02e8), (1e8, 2e8)],
)
def test_deviance(x: float, m: float) -> None:
    expected = (M(x) * mp.log(M(x) / M(m)) if x else 0) + M(m) - M(x)
    assert_close(special.deviance(*double(x, m)), expected)
    log_m = torch.tensor(float(mp.log(M(m))), dtype=torch.float64)
    assert_close(special.deviance(*double(x, m), log_m), expected, 1e-10)


@pytest.mark.parametrize("x", [-1e-300, -1e-20, -0.5, -0.7, -1.0, -50.0, -800.0])
def test_log1mexp(x: float) -> None:
    got = special.log1mexp(*double(x))
    expected = mp.log(-mp.expm1(M(x)))
    assert abs(M(float(got)) - expected) <= M("1e-15") * abs(expected) or x == -800.0


@pytest.mark.parametrize("x", [0.0, 1e-10, 1.0, 1e8, 1e10, 1e200])
def test_log1p_square(x: float) -> None:
    expected = mp.log1p(M(x) ** 2)
    got = special.log1p_square(*double(x))
    assert abs(M(float(got)) - expected) <= M("1e-15") * abs(expected)


def test_weights_of_zero_silence_logarithms_and_their_gradients() -> None:
    x, y = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    for value in (special.xlogy(x, y), special.xlog1py(x, y - 1)):
        grads = torch.autograd.grad(value, (x, y))
        assert float(value.detach()) == 0
        assert all(bool(g.isfinite()) for g in grads)


@pytest.mark.parametrize(
    "function",
    [
        special.stirling_remainder,
        special.log_gamma_half_ratio,
        special.log1p_square,
        special.normal_cdf,
        lambda x: special.log1mexp(-x),
        lambda x: special.deviance(x, x.flip(0)),
        lambda x: special.log_gamma_kernel(x, x.flip(0)),
        lambda x: special.log_dirichlet_kernel(x, torch.softmax(x.flip(0) / 50, -1)),
        lambda x: special.log_binomial_kernel(x, torch.softmax(x.flip(0) / 50, -1)),
        lambda x: special.log_beta_kernel(x, x.flip(0), torch.sigmoid(x), torch.sigmoid(-x)),
    ],
)
def test_gradients_equal_finite_differences(function: object) -> None:
    x = torch.tensor([0.3, 2.0, 55.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, [x])
