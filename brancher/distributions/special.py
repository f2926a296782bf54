"""Special functions that stay accurate where the textbook formula cancels or overflows.

Everything here is branch-free (``torch.where``), differentiable and traceable; the branch that is
not taken is fed a harmless value so that it can not turn a gradient into NaN.
"""

from __future__ import annotations

import math

import torch

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
_LARGE = 40.0  # from here on Stirling's series is the more exact


def is_small(shape: object) -> bool:
    """Tell whether a shape parameter is a plain number for which ``lgamma`` itself is exact enough.

    Only numbers tell: looking into a tensor would tie the step to its value.
    """
    return isinstance(shape, (int, float)) and shape <= _LARGE


def xlogy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return ``x log(y)`` for ``x, y >= 0``; 0 where ``x`` is 0 even at ``y`` = 0.

    At ``y`` = 0 the gradient is 0, so that an impossible value that counts for nothing, as in a sum
    over all values, leaves the gradients of the others finite.

    Example:
        >>> xlogy(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0]))
        tensor([0., 0.])
    """
    at_edge = y <= 0
    return torch.where(at_edge & (x != 0), -math.inf, torch.xlogy(x, torch.where(at_edge, 1.0, y)))


def xlog1py(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return ``x log(1 + y)`` for ``x >= 0, y >= -1``; see :func:`xlogy`."""
    at_edge = y <= -1
    result: torch.Tensor = torch.special.xlog1py(x, torch.where(at_edge, 0.0, y))
    return torch.where(at_edge & (x != 0), -math.inf, result)


def log1mexp(x: torch.Tensor) -> torch.Tensor:
    """Return ``log(1 - exp(x))`` for ``x <= 0`` (Maechler 2012, eq. 7).

    Example:
        >>> log1mexp(torch.tensor(-1e-20, dtype=torch.float64))
        tensor(-46.0517, dtype=torch.float64)
    """
    near = x > -math.log(2.0)
    close = torch.where(near, x, -1.0)
    far = torch.where(near, -1.0, x)
    return torch.where(near, (-close.expm1()).log(), (-far.exp()).log1p())


def log1p_square(t: torch.Tensor) -> torch.Tensor:
    """Return ``log(1 + t**2)`` without overflow for ``|t|`` up to the largest number.

    Example:
        >>> log1p_square(torch.tensor(1e200, dtype=torch.float64))
        tensor(921.0340, dtype=torch.float64)
    """
    size = t.abs()
    is_large = size > 1e9
    small = torch.where(is_large, 1.0, t)
    large = torch.where(is_large, size, 1.0)
    return torch.where(is_large, 2.0 * large.log(), (small * small).log1p())


def normal_cdf(z: torch.Tensor) -> torch.Tensor:
    """Standard normal distribution function, accurate in the lower tail (``special.ndtr`` is 0 at -10)."""
    return 0.5 * torch.erfc(-z * _SQRT_HALF)


def lower_upper(p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split probabilities at one half: ``(is_lower, min(p, 1 - p), sign)`` for symmetric quantiles."""
    is_lower = p < 0.5
    return is_lower, torch.where(is_lower, p, 1.0 - p), torch.where(is_lower, -1.0, 1.0)


def cholesky(matrix: torch.Tensor) -> torch.Tensor:
    """Return the lower factor, NaN where the matrix is not positive definite.

    ``torch.linalg.cholesky`` looks at the outcome and raises, in the middle of a step; a NaN
    becomes a density that the algorithms know how to refuse.

    Example:
        >>> cholesky(torch.tensor([[4.0]])), cholesky(torch.tensor([[-1.0]]))
        (tensor([[2.]]), tensor([[nan]]))
    """
    factor, info = torch.linalg.cholesky_ex(matrix)
    return torch.where(info[..., None, None] == 0, factor, torch.nan)


def _stirling_series(x: torch.Tensor) -> torch.Tensor:
    """lgamma(x + 1) - [x log x - x + log(2 pi x) / 2]; below 4e-15 off for x >= 40."""
    r = x.reciprocal()
    s = r * r
    return r * (1.0 / 12.0 - s * (1.0 / 360.0 - s * (1.0 / 1260.0)))


def stirling_remainder(x: torch.Tensor) -> torch.Tensor:
    """Return ``lgamma(x + 1) - x log(x) + x`` for ``x >= 0``: what Stirling's leading terms leave.

    It grows only as ``log(2 pi x) / 2``, so densities written with it keep their digits at shapes
    where ``lgamma`` alone has lost them (Loader 2000).

    Example:
        >>> stirling_remainder(torch.tensor([0.0, 1.0, 1e8], dtype=torch.float64))
        tensor([ 0.0000,  1.0000, 10.1293], dtype=torch.float64)
    """
    large, small = x.clamp(min=_LARGE), x.clamp(max=_LARGE)
    series = 0.5 * large.log() + HALF_LOG_2PI + _stirling_series(large)
    # The slope of x log x at 0 is infinite; a count of 0 must not turn a gradient into NaN.
    leading = small * torch.where(small == 0, 1.0, small).log()
    return torch.where(x >= _LARGE, series, torch.lgamma(small + 1.0) - leading + small)


def log_minus_digamma(a: torch.Tensor) -> torch.Tensor:
    """Return ``log(a) - digamma(a)`` for ``a > 0``, about ``1 / (2 a)`` for large ``a``.

    Example:
        >>> log_minus_digamma(torch.tensor(1e8))
        tensor(5.0000e-09)
    """
    large, small = a.clamp(min=_LARGE), a.clamp(max=_LARGE)
    r = large.reciprocal()
    s = r * r
    tail = s * (1.0 / 12.0 - s * (1.0 / 120.0 - s * (1.0 / 252.0 - s * (1.0 / 240.0))))
    return torch.where(a >= _LARGE, 0.5 * r + tail, small.log() - torch.digamma(small))


def deviance(x: torch.Tensor, m: torch.Tensor, log_m: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``x log(x / m) + m - x`` for ``x, m >= 0``: small where ``x`` is close to ``m``.

    The logarithm is taken of 1 + t with t = (m - x) / x where that is near 1, so only the rounding
    of ``x t`` is left, the square root of ``x`` units in the last place at a typical draw.

    Args:
        x: count or shape; 0 gives ``m``.
        m: its mean.
        log_m: logarithm of ``m``, for a mean that underflows.

    Example:
        >>> deviance(torch.tensor([0.0, 2.0, 3.0]), torch.tensor([5.0, 2.0, 0.0]))
        tensor([5., 0., inf])
    """
    is_zero = x == 0
    count, mean = torch.where(is_zero, 1.0, x), torch.where(is_zero, 1.0, m)
    near = (mean - count).abs() < 0.5 * count
    t = torch.where(near, mean - count, 0.0) / count
    far = (mean / count).log() if log_m is None else torch.where(is_zero, 0.0, log_m) - count.log()
    return m - x - x * torch.where(near, t.log1p(), far)


def log_gamma_kernel(a: torch.Tensor, u: torch.Tensor, log_u: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``a log(u) - u - lgamma(a)`` for ``a, u > 0``: the gamma density of u in d log(u).

    Args:
        a: shape.
        u: value times rate.
        log_u: logarithm of ``u``, for a product that underflows or overflows.

    Example:
        >>> log_gamma_kernel(torch.tensor(1.0), torch.tensor(1.0))
        tensor(-1.0000)
    """
    return a.log() - deviance(a, u, log_u) - stirling_remainder(a)


def log_dirichlet_kernel(a: torch.Tensor, x: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Return ``sum(a log x) - log B(a)`` over a dimension, for ``a, x > 0`` and ``sum x = 1``.

    Example:
        >>> log_dirichlet_kernel(torch.ones(2), torch.tensor([0.5, 0.5]))
        tensor(-1.3863)
    """
    total = a.sum(dim, keepdim=True)
    remainder = stirling_remainder(torch.cat([a, total], dim))
    of_total, of_each = remainder.select(dim, -1), remainder.narrow(dim, 0, a.shape[dim])
    of_parts = a.log() - deviance(a, total * x)
    return of_parts.sum(dim) - total.squeeze(dim).log() + of_total - of_each.sum(dim)


def log_beta_kernel(a: torch.Tensor, b: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return ``a log x + b log y - log B(a, b)`` for ``y = 1 - x``."""
    a, b, x, y = torch.broadcast_tensors(a, b, x, y)
    return log_dirichlet_kernel(torch.stack([a, b]), torch.stack([x, y]), dim=0)


def log_gamma_half_ratio(a: torch.Tensor) -> torch.Tensor:
    """Return ``lgamma(a + 1/2) - lgamma(a)`` for ``a > 0``.

    Example:
        >>> log_gamma_half_ratio(torch.tensor(1e8, dtype=torch.float64))
        tensor(9.2103, dtype=torch.float64)
    """
    large, small = a.clamp(min=_LARGE), a.clamp(max=_LARGE)
    shift = large * (0.5 / large).log1p() - 0.5
    series = shift + 0.5 * large.log() + _stirling_series(large + 0.5) - _stirling_series(large)
    return torch.where(a >= _LARGE, series, torch.lgamma(small + 0.5) - torch.lgamma(small))


def log_binomial_kernel(
    counts: torch.Tensor, probs: torch.Tensor, log_probs: torch.Tensor | None = None, dim: int = -1
) -> torch.Tensor:
    """Return ``lgamma(n + 1) - sum lgamma(k + 1) + sum k log p`` over a dimension, n = sum k.

    Args:
        counts: k >= 0; need not be integer.
        probs: p, summing to one.
        log_probs: log p, for probabilities that underflow.
        dim: the dimension.

    Example:
        >>> log_binomial_kernel(torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.5])).exp()
        tensor(0.5000)
    """
    total = counts.sum(dim, keepdim=True)
    log_mean = None if log_probs is None else torch.where(total > 0, total, 1.0).log() + log_probs
    remainder = stirling_remainder(torch.cat([total, counts], dim))
    of_total, of_each = remainder.select(dim, 0), remainder.narrow(dim, 1, counts.shape[dim])
    spread = deviance(counts, total * probs, log_mean)
    return of_total - of_each.sum(dim) - spread.sum(dim)  # remainders of a certain count cancel exactly
