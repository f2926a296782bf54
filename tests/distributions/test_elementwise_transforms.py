"""Maps of numbers: inverses, slopes, ends."""

from __future__ import annotations

import pytest
import torch

from brancher import distributions as dist
from brancher.distributions import transforms as T
from brancher.errors import DistributionError

MAPS = {
    "elu": T.elu(),
    "leaky relu": T.leaky_relu(),
    "leaky relu of 3": T.LeakyReLUTransform(3.0),
    "power": T.PositivePowerTransform(2.5),
    "root": T.PositivePowerTransform(torch.tensor(0.5)),
    "softplus": T.SoftplusTransform(),
}


@pytest.mark.parametrize("name", MAPS)
def test_slope_and_inverse(name):
    f = MAPS[name]
    x = torch.tensor([-3.0, -0.4, 0.2, 1.7, 30.0], dtype=torch.float64, requires_grad=True)
    y = f(x)
    slope = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    torch.testing.assert_close(f.log_abs_det_jacobian(x, y), slope.abs().log())
    torch.testing.assert_close(f.inv(y), x)
    assert bool(f.codomain.check(y).all()) and f.with_cache() == f and hash(f.with_cache()) == hash(f)


@pytest.mark.parametrize("name", MAPS)
def test_gradient_of_the_inverse_is_finite(name):
    y = torch.tensor([0.3, 2.0], requires_grad=True)
    assert bool(torch.autograd.grad(MAPS[name].inv(y).sum(), y)[0].isfinite().all())


def test_gradient_of_the_inverse_elu_at_large_values():
    y = torch.tensor([-0.5, 1e30], requires_grad=True)
    torch.testing.assert_close(torch.autograd.grad(T.elu().inv(y).sum(), y)[0], torch.tensor([2.0, 1.0]))


def test_law_through_a_power_integrates_to_one():
    law = dist.TransformedDistribution(dist.Normal(0.0, 1.0), [T.PositivePowerTransform(0.5)])
    grid = torch.linspace(-4, 4, 20001)
    assert float(torch.trapezoid(law.log_prob(grid + 1e-6).exp(), grid)) == pytest.approx(1.0, abs=1e-3)


def test_powers_take_the_shape_of_their_exponents():
    f = T.PositivePowerTransform(torch.tensor([1.0, 2.0]))
    assert f.forward_shape((3, 1)) == f.inverse_shape((3, 1)) == (3, 2)


def test_argument_errors():
    with pytest.raises(DistributionError, match="negative_slope > 0, got 0"):
        T.LeakyReLUTransform(0)
    with pytest.raises(DistributionError, match="exponent > 0"):
        T.PositivePowerTransform(-1.0)
