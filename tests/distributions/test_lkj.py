"""LKJ laws: normalised, the right marginals, gradients of draws."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st
import torch

import brancher.distributions as dist
from brancher.errors import DistributionError


def correlation(r: torch.Tensor) -> torch.Tensor:
    one = torch.ones_like(r)
    return torch.stack([torch.stack([one, r], -1), torch.stack([r, one], -1)], -2)


@pytest.mark.parametrize("concentration", [0.7, 1.0, 5.0])
def test_two_by_two_is_a_stretched_beta(concentration: float) -> None:
    r = torch.linspace(-0.99, 0.99, 41, dtype=torch.float64)
    eta = torch.tensor(concentration, dtype=torch.float64)
    expected = st.beta(concentration, concentration, loc=-1, scale=2).logpdf(r.numpy())
    np.testing.assert_allclose(dist.LKJ(2, eta).log_prob(correlation(r)).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("family", [dist.LKJ, dist.LKJCholesky])
@pytest.mark.parametrize("concentration", [0.7, 3.0])
def test_density_integrates_to_one_by_importance(family: type, concentration: float) -> None:
    """E_q[p / q] = 1 for any q; n = 50,000, |z| < 5 in four tests: one false alarm in 4e5."""
    eta = torch.tensor(concentration, dtype=torch.float64)
    p, q = family(3, eta), family(3, torch.tensor(1.0, dtype=torch.float64))
    with dist.validation_enabled(False):  # draws stand within rounding of the constraint
        x = q.sample(torch.Size([50_000]))
        weight = (p.log_prob(x) - q.log_prob(x)).exp()
    z = (weight.mean() - 1) / (weight.std() / 50_000**0.5)
    assert abs(float(z)) < 5


def test_marginals_of_draws_are_stretched_betas() -> None:
    """An entry of a D x D matrix is Beta(eta - 1 + D/2) on (-1, 1); n = 5,000, p > 1e-5 three times."""
    x = dist.LKJ(3, 2.0).sample(torch.Size([5000]))
    law = st.beta(2.5, 2.5, loc=-1, scale=2)
    for i, j in ((1, 0), (2, 0), (2, 1)):
        assert st.kstest(x[:, i, j].numpy(), law.cdf).pvalue > 1e-5


def test_large_draws_lie_in_the_support_in_float32() -> None:
    x = dist.LKJCholesky(20, 1.0).sample(torch.Size([100]))
    assert bool(dist.constraints.corr_cholesky.check(x).all())


def test_draws_pass_gradients_to_the_concentration() -> None:
    eta = torch.tensor(2.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(dist.LKJCholesky(4, eta).rsample()[..., 1, 1], eta)
    assert bool(gradient.isfinite()) and float(gradient) > 0


def test_bijection_preserves_the_mass() -> None:
    """Integrate over the unconstrained number of a 2 x 2 matrix."""
    d = dist.LKJ(2, torch.tensor(1.5, dtype=torch.float64))
    u = torch.linspace(-30, 30, 20001, dtype=torch.float64).unsqueeze(-1)
    transform = dist.biject_to(d.support)
    with dist.validation_enabled(False):
        x = transform(u)
        density = (d.log_prob(x) + transform.log_abs_det_jacobian(u, x)).exp()
    total = torch.trapezoid(density.nan_to_num(0.0), u.squeeze(-1))
    assert float(total) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("family", [dist.LKJ, dist.LKJCholesky])
def test_dimension_error(family: type) -> None:
    with pytest.raises(DistributionError, match="'dim' as an int >= 2, got 1"):
        family(1, 1.0)
