"""Functions of series and matrices, under Pyro's names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from brancher.distributions import series_transforms
from brancher.distributions.series_transforms import haar_transform, inverse_haar_transform
from brancher.errors import DistributionError

__all__ = [
    "block_diag_embed",
    "convolve",
    "dct",
    "haar_transform",
    "idct",
    "inverse_haar_transform",
    "log_beta",
    "log_binomial",
    "next_fast_len",
    "periodic_cumsum",
    "periodic_features",
    "periodic_repeat",
    "precision_to_scale_tril",
    "safe_cholesky",
    "safe_log",
    "safe_normalize",
]


def dct(x: Tensor, dim: int = -1) -> Tensor:
    """The orthonormal DCT-II of one dimension."""
    return _along(series_transforms.dct, x, dim)


def idct(x: Tensor, dim: int = -1) -> Tensor:
    """The inverse of :func:`dct`."""
    return _along(series_transforms.idct, x, dim)


def _along(function: Callable[[Tensor], Tensor], x: Tensor, dim: int) -> Tensor:
    return function(x.movedim(dim, -1)).movedim(-1, dim)


def next_fast_len(size: int) -> int:
    """The smallest number not below ``size`` without prime factors above five, fast in Fourier transforms."""
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0 and rest > 1:
                rest //= factor
        if rest <= 1:
            return size
        size += 1


def convolve(signal: Tensor, kernel: Tensor, mode: str = "full") -> Tensor:
    """Convolve series over their last dimension, as ``numpy.convolve`` does.

    Args:
        signal: shape (..., m).
        kernel: shape (..., n).
        mode: "full", "valid" or "same".

    Raises:
        DistributionError: the mode is another one.
    """
    m, n = signal.shape[-1], kernel.shape[-1]
    lengths = {"full": m + n - 1, "valid": max(m, n) - min(m, n) + 1, "same": max(m, n)}
    if mode not in lengths:
        raise DistributionError(f"convolve: expected mode as one of {sorted(lengths)}, got {mode!r}")
    whole, wanted = lengths["full"], lengths[mode]
    size = next_fast_len(whole)
    product = torch.fft.rfft(signal, n=size) * torch.fft.rfft(kernel, n=size)
    start = (whole - wanted) // 2
    found: Tensor = torch.fft.irfft(product, n=size)[..., start : start + wanted]
    return found


def periodic_repeat(tensor: Tensor, size: int, dim: int) -> Tensor:
    """Repeat one dimension until it has ``size`` entries.

    Example:
        >>> from brancher.ops.tensor_utils import periodic_repeat
        >>> periodic_repeat(torch.tensor([1, 2, 3]), 5, dim=0)
        tensor([1, 2, 3, 1, 2])
    """
    return tensor.index_select(dim, torch.arange(size, device=tensor.device) % tensor.shape[dim])


def periodic_cumsum(tensor: Tensor, period: int, dim: int) -> Tensor:
    """Add up one dimension, each entry to those whole periods before it.

    Example:
        >>> from brancher.ops.tensor_utils import periodic_cumsum
        >>> periodic_cumsum(torch.ones(5), 2, dim=0)
        tensor([1., 1., 2., 2., 3.])
    """
    x = tensor.movedim(dim, -1)
    size = x.shape[-1]
    rounds = math.ceil(size / period)
    padded = torch.nn.functional.pad(x, (0, rounds * period - size))
    sums = padded.reshape(*x.shape[:-1], rounds, period).cumsum(-2).flatten(-2)
    return sums[..., :size].movedim(-1, dim)


def periodic_features(
    duration: int, max_period: float | None = None, min_period: float | None = None, **options: Any
) -> Tensor:
    """Cosines and sines of periods from ``max_period`` down to ``min_period``.

    Args:
        duration: number of time steps.
        max_period: the longest period; ``duration`` for None.
        min_period: the shortest one is longer than this; 2 for None.
        **options: dtype and device.

    Returns:
        Shape (duration, 2 * ceil(max_period / min_period) - 2).
    """
    longest = duration if max_period is None else max_period
    shortest = 2 if min_period is None else min_period
    frequency = torch.arange(1.0, longest / shortest, **options) / longest
    angles = 2 * math.pi * torch.arange(float(duration), **options).unsqueeze(-1) * frequency
    return torch.cat([angles.cos(), -angles.sin()], -1)


def block_diag_embed(mat: Tensor) -> Tensor:
    """Matrices (..., B, M, N) as the blocks of block-diagonal ones (..., B * M, B * N)."""
    count, rows, columns = mat.shape[-3:]
    spread = mat.unsqueeze(-2) * torch.eye(count, dtype=mat.dtype, device=mat.device)[:, None, :, None]
    return spread.reshape(*mat.shape[:-3], count * rows, count * columns)


def safe_cholesky(x: Tensor) -> Tensor:
    """Cholesky factors; square roots for one entry."""
    return x.sqrt() if x.shape[-1] == 1 else torch.linalg.cholesky(x)


def precision_to_scale_tril(P: Tensor) -> Tensor:
    """The Cholesky factor of the inverse of a positive definite matrix."""
    upside_down = torch.linalg.cholesky(P.flip((-2, -1)))
    turned = upside_down.flip((-2, -1)).mT
    eye = torch.eye(P.shape[-1], dtype=P.dtype, device=P.device)
    found: Tensor = torch.linalg.solve_triangular(turned, eye.expand_as(P), upper=False)
    return found


def safe_normalize(x: Tensor, *, p: float = 2) -> Tensor:
    """Vectors of length one in the ``p``-norm; the zero vector becomes the first axis."""
    norm = torch.linalg.vector_norm(x, ord=p, dim=-1, keepdim=True)
    axis = torch.zeros_like(x)
    axis[..., 0] = 1.0
    return torch.where(norm > 0, x / norm.clamp(min=torch.finfo(x.dtype).tiny), axis)


class _SafeLog(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.log()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return grad / x.clamp(min=torch.finfo(x.dtype).eps)


def safe_log(x: Tensor) -> Tensor:
    """The logarithm, with a finite slope at zero."""
    found: Tensor = _SafeLog.apply(x)  # type: ignore[no-untyped-call]
    return found


def log_beta(x: Tensor, y: Tensor, tol: float = 0.0) -> Tensor:
    """Log of the beta function; ``tol`` is there for programs that pass it."""
    return torch.lgamma(x) + torch.lgamma(y) - torch.lgamma(x + y)


def log_binomial(n: Tensor, k: Tensor, tol: float = 0.0) -> Tensor:
    """Log of the binomial coefficient; ``tol`` is there for programs that pass it."""
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
