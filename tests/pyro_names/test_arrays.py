"""Small functions of series and matrices, against numpy, scipy and matrix algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brancher.ops.special import log_beta, log_binomial, safe_log
from scipy import fft, special

from brancher.errors import DistributionError
from brancher.ops import tensor_utils


@pytest.mark.parametrize("mode", ["full", "valid", "same"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (5, 2), (2, 5), (8, 3), (6, 6)])
def test_convolution_is_that_of_numpy(mode: str, m: int, n: int) -> None:
    a, b = torch.randn(m, dtype=torch.float64), torch.randn(n, dtype=torch.float64)
    expected = torch.from_numpy(np.convolve(a.numpy(), b.numpy(), mode))
    torch.testing.assert_close(tensor_utils.convolve(a, b, mode=mode), expected)


def test_convolution_of_an_unknown_mode_error() -> None:
    with pytest.raises(DistributionError, match=r"expected mode as one of .*, got 'half'"):
        tensor_utils.convolve(torch.ones(2), torch.ones(2), mode="half")


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cosines_of_a_dimension_and_back(dim: int) -> None:
    x = torch.randn(4, 5, dtype=torch.float64)
    expected = torch.from_numpy(fft.dct(x.numpy(), norm="ortho", axis=dim))
    torch.testing.assert_close(tensor_utils.dct(x, dim), expected)
    torch.testing.assert_close(tensor_utils.idct(expected, dim), x)


def test_fast_lengths_have_small_prime_factors() -> None:
    assert [tensor_utils.next_fast_len(n) for n in (1, 7, 11, 17, 31, 49)] == [1, 8, 12, 18, 32, 50]


def test_periodic_sums_and_repeats() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    assert tensor_utils.periodic_repeat(x, 5, 1).tolist() == [[0, 1, 2, 0, 1], [3, 4, 5, 3, 4]]
    assert tensor_utils.periodic_cumsum(torch.ones(5, 2), 2, 0)[:, 0].tolist() == [1, 1, 2, 2, 3]


def test_periodic_features_are_waves_of_each_period() -> None:
    waves = tensor_utils.periodic_features(6, max_period=6, min_period=2)
    t = 2 * torch.pi * torch.arange(6.0)
    expected = [(t / 6).cos(), (t / 3).cos(), -(t / 6).sin(), -(t / 3).sin()]
    torch.testing.assert_close(waves, torch.stack(expected, -1), atol=1e-5, rtol=0)
    assert tensor_utils.periodic_features(4, dtype=torch.float64).dtype == torch.float64


def test_blocks_stand_on_the_diagonal() -> None:
    blocks = torch.randn(2, 3, 2, 4)
    expected = torch.stack([torch.block_diag(*each) for each in blocks])
    torch.testing.assert_close(tensor_utils.block_diag_embed(blocks), expected)


def test_scale_of_a_precision_is_the_factor_of_its_inverse() -> None:
    root = torch.randn(2, 3, 3, dtype=torch.float64)
    precision = root @ root.mT + torch.eye(3, dtype=torch.float64)
    expected = torch.linalg.cholesky(torch.linalg.inv(precision))
    torch.testing.assert_close(tensor_utils.precision_to_scale_tril(precision), expected)
    torch.testing.assert_close(
        tensor_utils.safe_cholesky(precision[..., :1, :1]), precision[..., :1, :1].sqrt()
    )


def test_normalized_vectors_have_length_one_and_finite_gradients() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    unit = tensor_utils.safe_normalize(x)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [1.0, 0.0]]))
    (slope,) = torch.autograd.grad(unit.sum(), x)
    assert bool(slope.isfinite().all())


def test_safe_log_has_a_finite_slope_at_zero() -> None:
    x = torch.tensor([0.0, 2.0], requires_grad=True)
    y = safe_log(x)
    assert y.tolist() == pytest.approx([-np.inf, np.log(2.0)])
    (slope,) = torch.autograd.grad(y, x, torch.ones(2))
    assert slope.tolist() == pytest.approx([1 / torch.finfo(torch.float32).eps, 0.5])


def test_log_beta_and_log_binomial() -> None:
    a, b = torch.tensor([0.5, 3.0]), torch.tensor([2.0, 7.0])
    torch.testing.assert_close(log_beta(a, b), torch.tensor(special.betaln(a.numpy(), b.numpy())))
    assert float(log_binomial(torch.tensor(7.0), torch.tensor(3.0)).exp()) == pytest.approx(35.0, rel=1e-5)
