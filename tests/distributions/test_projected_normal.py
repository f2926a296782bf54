from __future__ import annotations

import math

import pytest
import torch

from brancher.distributions import ProjectedNormal
from brancher.distributions.projected_normal import _log_radial_ratio

mpmath = pytest.importorskip("mpmath")


def log_ratio(t: float, n: int) -> float:
    mpmath.mp.dps = 40

    def parabolic(k: int) -> object:
        return mpmath.gamma(k + 1) * mpmath.pcfu(k + mpmath.mpf(1) / 2, -t)

    return float(mpmath.log(parabolic(n - 1) / parabolic(0)))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("t", [-1e3, -30.0, -5.0, -1.6, -1.4, -0.5, 0.0, 0.5, 3.0, 30.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_radial_integral(n: int, t: float, dtype: torch.dtype, tolerance: float) -> None:
    # the upward recurrence loses two digits at -1.4 in twelve dimensions
    actual = _log_radial_ratio(torch.tensor(t, dtype=dtype), n).item()
    assert actual == pytest.approx(log_ratio(t, n), rel=tolerance, abs=tolerance)


def test_density_on_the_circle_integrates_to_one() -> None:
    angle = torch.arange(2000, dtype=torch.float64) * (2 * math.pi / 2000)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    d = ProjectedNormal(torch.tensor([0.5, -3.0], dtype=torch.float64))
    assert d.log_prob(circle).exp().mean().item() * 2 * math.pi == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("n", "area"), [(2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2)])
def test_zero_concentration_is_uniform(n: int, area: float) -> None:
    d = ProjectedNormal(torch.zeros(n, dtype=torch.float64))
    assert d.log_prob(d.sample()).item() == pytest.approx(-math.log(area), abs=1e-12)


def test_mean_of_no_direction_lies_on_the_sphere() -> None:
    assert ProjectedNormal(torch.zeros(3)).mean.tolist() == [1.0, 0.0, 0.0]


def test_gradient_is_finite_facing_and_averted() -> None:
    concentration = torch.tensor([[40.0, 0.0], [0.0, 0.0]], requires_grad=True)
    value = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
    log_prob = ProjectedNormal(concentration).log_prob(value)
    assert bool(torch.autograd.grad(log_prob.sum(), concentration)[0].isfinite().all())
