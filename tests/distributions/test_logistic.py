from __future__ import annotations

import pytest
import torch

from brancher.distributions import AsymmetricLaplace, Laplace, Logistic, SkewLogistic, SoftAsymmetricLaplace

FAR = torch.tensor([-800.0, -50.0, 0.0, 50.0, 800.0], dtype=torch.float64)


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_logistic_tails_are_linear() -> None:
    torch.testing.assert_close(Logistic(double(0.0), 1.0).log_prob(FAR)[[0, 1, 3, 4]], -FAR[[4, 3, 3, 4]])


def test_symmetric_skew_logistic_is_logistic() -> None:
    skew, plain = SkewLogistic(double(0.3), 2.0, 1.0), Logistic(double(0.3), 2.0)
    torch.testing.assert_close(skew.log_prob(FAR), plain.log_prob(FAR))


def test_skew_logistic_left_tail_has_its_own_rate() -> None:
    # asymmetry 1e-3: the two linear terms near -800 differ by a thousandth
    d = SkewLogistic(double(0.0), 1.0, 1e-3)
    torch.testing.assert_close(d.log_prob(double(-800.0)), double(1e-3).log() - 0.8)


@pytest.mark.parametrize("u", [1e-300, 1e-10, 0.5, 1.0 - 1e-10])
def test_skew_logistic_icdf_inverts_cdf(u: float) -> None:
    d = SkewLogistic(double(0.0), 1.0, 3.0)
    torch.testing.assert_close(d.cdf(d.icdf(double(u))), double(u), rtol=1e-9, atol=0.0)


def test_symmetric_asymmetric_laplace_is_laplace() -> None:
    ours, plain = AsymmetricLaplace(double(0.3), 2.0, 1.0), Laplace(double(0.3), 2.0)
    torch.testing.assert_close(ours.log_prob(FAR), plain.log_prob(FAR))


def test_soft_laplace_without_softness_is_sharp() -> None:
    soft, sharp = SoftAsymmetricLaplace(double(0.0), 1.0, 2.0, 1e-9), AsymmetricLaplace(double(0.0), 1.0, 2.0)
    x = torch.tensor([-700.0, -1.0, 1.0, 700.0], dtype=torch.float64)
    torch.testing.assert_close(soft.log_prob(x), sharp.log_prob(x))


def test_soft_laplace_gradient_is_finite_in_the_tails() -> None:
    x = FAR.clone().requires_grad_()
    log_prob = SoftAsymmetricLaplace(double(0.0), 1.0, 2.0, 0.1).log_prob(x)
    (slope,) = torch.autograd.grad(log_prob.sum(), x)
    torch.testing.assert_close(slope[[0, 4]], torch.tensor([0.5, -2.0], dtype=torch.float64))
