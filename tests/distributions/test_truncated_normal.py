from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from brancher.distributions import TruncatedNormal, biject_to, constraints
from brancher.errors import DistributionError

mpmath = pytest.importorskip("mpmath")

INF = math.inf
CASES = [
    (0.0, 1.0, -INF, INF),
    (1.0, 2.0, -3.0, 4.0),
    (0.0, 1.0, 0.0, INF),
    (0.0, 1.0, 30.0, INF),
    (0.0, 1.0, -INF, -30.0),
    (0.0, 1.0, 100.0, 101.0),
    (0.0, 1.0, 5.0, 5.0001),
    (0.0, 1.0, -0.01, 0.02),
    (0.0, 1.0, 2.0, 2.06),
]


def tensors(*values: float, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=dtype) for v in values]


def mass(loc: float, scale: float, low: float, high: float) -> Any:
    a, b = (mpmath.mpf(low) - loc) / scale, (mpmath.mpf(high) - loc) / scale
    return mpmath.ncdf(-a) - mpmath.ncdf(-b) if a > 0 else mpmath.ncdf(b) - mpmath.ncdf(a)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-13), (torch.float32, 2e-3)])
def test_log_prob_in_the_tails(case: tuple[float, ...], dtype: torch.dtype, atol: float) -> None:
    # float32 is as good as its arguments: a width of 1e-4 at 5 has three digits
    mpmath.mp.dps = 50
    loc, scale, low, high = case
    d = TruncatedNormal(*tensors(*case, dtype=dtype))
    x = d.icdf(torch.tensor([0.1, 0.5, 0.9], dtype=dtype))
    total = mass(loc, scale, low, high)
    expected = [
        float(mpmath.log(mpmath.npdf((mpmath.mpf(v) - loc) / scale) / scale / total)) for v in x.tolist()
    ]
    torch.testing.assert_close(d.log_prob(x), torch.tensor(expected, dtype=dtype), rtol=1e-6, atol=atol)


@pytest.mark.parametrize("case", CASES)
def test_cdf_in_the_tails(case: tuple[float, ...]) -> None:
    mpmath.mp.dps = 50
    loc, scale, low, high = case
    d = TruncatedNormal(*tensors(*case))
    x = d.icdf(torch.tensor([1e-10, 0.1, 0.5, 0.9], dtype=torch.float64))
    expected = [float(mass(loc, scale, low, v) / mass(loc, scale, low, high)) for v in x.tolist()]
    torch.testing.assert_close(d.cdf(x), torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("case", [c for c in CASES if c[3] - c[2] > 0.01])
def test_icdf_inverts_cdf(case: tuple[float, ...]) -> None:
    d = TruncatedNormal(*tensors(*case))
    u = torch.tensor([0.01, 0.3, 0.5, 0.9, 0.999], dtype=torch.float64)
    # near a far bound the quantile itself is rounded: 100 * 1e-16 * its density
    torch.testing.assert_close(d.cdf(d.icdf(u)), u, rtol=1e-11, atol=1e-11)


def test_draws_stay_inside() -> None:
    d = TruncatedNormal(torch.tensor(0.0), 1.0, 1e4, 1e4 + 1e-2)
    x = d.sample(torch.Size([1000]))
    assert bool(((x >= d.low) & (x <= d.high)).all())


@pytest.mark.parametrize("case", [c for c in CASES if all(map(math.isfinite, c))])
def test_gradients_of_draw_and_density(case: tuple[float, ...]) -> None:
    inputs = [t.requires_grad_() for t in tensors(*case)]
    u = torch.tensor([0.2, 0.7], dtype=torch.float64)
    x = TruncatedNormal(*tensors(*case)).icdf(u)

    def draw(*args: torch.Tensor) -> torch.Tensor:
        return TruncatedNormal(*args, validate_args=False).icdf(u)

    def density(*args: torch.Tensor) -> torch.Tensor:
        return TruncatedNormal(*args, validate_args=False).log_prob(x)

    for function in (draw, density):
        assert torch.autograd.gradcheck(function, inputs, eps=1e-7, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bound", ["low", "high"])
def test_gradient_is_finite_with_a_missing_bound(bound: str) -> None:
    loc, scale = (torch.tensor(v, requires_grad=True) for v in (0.0, 1.0))
    d = TruncatedNormal(loc, scale, **{bound: 0.0})
    loss = (d.rsample(torch.Size([5])) + d.mean + d.variance).sum()
    assert all(g.isfinite() for g in torch.autograd.grad(loss, [loc, scale]))


def test_half_normal_when_cut_at_loc() -> None:
    d = TruncatedNormal(*tensors(0.0, 2.0), low=0.0)
    half = torch.distributions.HalfNormal(torch.tensor(2.0, dtype=torch.float64))
    x = torch.tensor([0.0, 0.5, 8.0], dtype=torch.float64)
    torch.testing.assert_close(d.log_prob(x), half.log_prob(x))
    torch.testing.assert_close((d.mean, d.variance), (half.mean, half.variance))


def test_gradient_of_loc_at_the_bound_is_one_sided_limit() -> None:
    def slope(loc: float) -> torch.Tensor:
        at = torch.tensor(loc, dtype=torch.float64, requires_grad=True)
        value = TruncatedNormal(at, 1.0, low=0.0).log_prob(torch.tensor(0.5, dtype=torch.float64))
        return torch.autograd.grad(value, at)[0]

    torch.testing.assert_close(slope(0.0), slope(1e-9), rtol=1e-7, atol=0.0)
    torch.testing.assert_close(slope(0.0), slope(-1e-9), rtol=1e-7, atol=0.0)


def test_entropy_of_the_whole_line() -> None:
    d = TruncatedNormal(*tensors(0.0, 3.0))
    normal = torch.distributions.Normal(*tensors(0.0, 3.0))
    torch.testing.assert_close(d.entropy(), normal.entropy())


def test_empty_interval_error() -> None:
    with pytest.raises(DistributionError, match="low < high"):
        TruncatedNormal(0.0, 1.0, low=2.0, high=1.0)


@pytest.mark.parametrize("bounds", [{}, {"low": 1.0}, {"high": 1.0}, {"low": 0.0, "high": 1.0}])
def test_support_has_a_finite_bijection(bounds: dict[str, float]) -> None:
    d = TruncatedNormal(torch.tensor(0.0), 1.0, **bounds)
    x = biject_to(d.support)(torch.tensor([-1.0, 0.5]))
    assert bool(d.support.check(x).all()) and bool(x.isfinite().all())


def test_support_without_bounds_is_real() -> None:
    assert TruncatedNormal(0.0, 1.0).support is constraints.real
