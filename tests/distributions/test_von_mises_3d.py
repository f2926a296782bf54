from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats as st
import torch

from brancher.distributions import VonMises3D
from brancher.errors import DistributionError


@pytest.mark.parametrize("sharpness", [1e-8, 1e-4, 0.5, 30.0, 600.0])
def test_density_equals_scipy(sharpness: float) -> None:
    mean = np.array([0.6, 0.0, -0.8])
    d = VonMises3D(torch.tensor(sharpness * mean))
    x = d.sample(torch.Size([20]))
    expected = st.vonmises_fisher(mean, sharpness).logpdf(x.numpy())
    # scipy's normaliser loses digits as the sharpness vanishes
    np.testing.assert_allclose(d.log_prob(x).numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sharpness", [0.0, 1e-6, 2.0, 200.0])
def test_mean_of_draws(sharpness: float) -> None:
    # n = 20000, z < 4.5: false alarm 7e-6 an entry
    d = VonMises3D(sharpness * torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64))
    x = d.sample(torch.Size([20_000]))
    torch.testing.assert_close(torch.linalg.vector_norm(x, dim=-1), torch.ones(20_000).double())
    assert bool(((x.mean(0) - d.mean) / (x.std(0) / 20_000**0.5)).abs().max() < 4.5)


def test_gradient_at_no_concentration_is_the_value() -> None:
    concentration = torch.zeros(3, requires_grad=True)
    x = torch.tensor([0.0, 0.6, 0.8])
    (slope,) = torch.autograd.grad(VonMises3D(concentration).log_prob(x), concentration)
    torch.testing.assert_close(slope, x)


def test_density_near_the_mean_of_a_sharp_law_in_float32() -> None:
    d = VonMises3D(torch.tensor([1e8, 0.0, 0.0]))
    assert d.log_prob(torch.tensor([1.0, 0.0, 0.0])).item() == pytest.approx(math.log(1e8 / (2 * math.pi)))


def test_other_dimensions_error() -> None:
    with pytest.raises(DistributionError, match=r"\(\.\.\., 3\)"):
        VonMises3D(torch.zeros(2))
