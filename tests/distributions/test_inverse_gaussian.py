from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st
import torch

from brancher.distributions import (
    AffineBeta,
    Beta,
    InverseGaussian,
    LogNormalNegativeBinomial,
    NegativeBinomial,
)
from brancher.errors import DistributionError


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("loc", "concentration"), [(1.0, 1e-3), (1.0, 1e4), (50.0, 0.1)])
def test_cdf_equals_scipy_where_its_terms_are_extreme(loc: float, concentration: float) -> None:
    d = InverseGaussian(double(loc), concentration)
    x = d.sample(torch.Size([20]))
    expected = st.invgauss(loc / concentration, scale=concentration).cdf(x.numpy())
    np.testing.assert_allclose(d.cdf(x).numpy(), expected, rtol=1e-9)


def test_affine_beta_on_the_unit_interval_is_beta() -> None:
    x = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    ours, plain = AffineBeta(double(1.0), 2.0, 0.0, 1.0), Beta(double(1.0), 2.0)
    torch.testing.assert_close(ours.log_prob(x), plain.log_prob(x))


def test_little_noise_is_the_negative_binomial() -> None:
    x = torch.arange(6, dtype=torch.float64)
    noisy = LogNormalNegativeBinomial(double(3.0), -0.5, 1e-6)
    torch.testing.assert_close(noisy.log_prob(x), NegativeBinomial(double(3.0), logits=-0.5).log_prob(x))


def test_moments_follow_from_the_masses() -> None:
    d = LogNormalNegativeBinomial(double(3.0), -0.5, 0.4, num_quad_points=32)
    x = torch.arange(2000, dtype=torch.float64)
    mass = d.log_prob(x).exp()
    mean = (mass * x).sum()
    torch.testing.assert_close((mean, (mass * (x - mean) ** 2).sum()), (d.mean, d.variance))


def test_no_quadrature_point_error() -> None:
    with pytest.raises(DistributionError, match="num_quad_points"):
        LogNormalNegativeBinomial(1.0, 0.0, 0.1, num_quad_points=0)
