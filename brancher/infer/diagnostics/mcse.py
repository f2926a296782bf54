"""Monte Carlo standard errors (Vehtari et al. 2021, section 4.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from brancher.infer.diagnostics.correlation import ess_mean, ess_quantile
from brancher.infer.diagnostics.layout import as_draws, pooled

_ONE_SD = (0.158655253931457, 0.841344746068543)  # normal cdf at -1 and 1


def mcse_mean(draws: Tensor) -> Tensor:
    """Standard error of the posterior mean; ``(C, N, *event) -> event``.

    Example:
        >>> draws = torch.randn(4, 2500, generator=torch.Generator().manual_seed(0))
        >>> round(float(mcse_mean(draws)), 2)
        0.01
    """
    table = as_draws(draws)
    return pooled(table).std(0) / ess_mean(table).sqrt()


def mcse_sd(draws: Tensor) -> Tensor:
    """Standard error of the posterior standard deviation, without assuming normality."""
    table = as_draws(draws)
    squares = (table - pooled(table).mean(0)).square()
    variance = pooled(squares).mean(0)
    of_variance = (pooled(squares.square()).mean(0) - variance.square()) / ess_mean(squares)
    return (of_variance / variance / 4).sqrt()


def mcse_quantile(draws: Tensor, prob: float) -> Tensor:
    """Standard error of the ``prob`` quantile: half the width of its one-sd interval."""
    table = as_draws(draws)
    ordered = pooled(table).sort(0).values
    count = ordered.shape[0]
    size = ess_quantile(table, prob)
    low, high = (_beta_quantile(p, size * prob + 1, size * (1 - prob) + 1) for p in _ONE_SD)
    finite = torch.isfinite(size)
    first = torch.where(finite, (low * count - 1).floor().clamp(min=0), 0).long()
    last = torch.where(finite, (high * count - 1).ceil().clamp(max=count - 1), 0).long()
    width = ordered.gather(0, last[None])[0] - ordered.gather(0, first[None])[0]
    return torch.where(finite, width / 2, size)


def _beta_quantile(p: float, a: Tensor, b: Tensor) -> Tensor:
    """Newton's method from the normal approximation; for a, b >= 1 and p within one sd of the centre."""
    mean, total = a / (a + b), a + b
    sign = 1.0 if p > 0.5 else -1.0
    x = (mean + sign * (mean * (1 - mean) / (total + 1)).sqrt()).clamp(1e-6, 1 - 1e-6)
    log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(total)
    for _ in range(12):
        density = ((a - 1) * x.log() + (b - 1) * torch.log1p(-x) - log_beta).exp()
        x = torch.minimum(torch.maximum(x - (_beta_cdf(x, a, b, log_beta) - p) / density, x / 2), (1 + x) / 2)
    return x


def _beta_cdf(x: Tensor, a: Tensor, b: Tensor, log_beta: Tensor) -> Tensor:
    """Regularised incomplete beta function by its continued fraction (DLMF 8.17.22, Lentz's method)."""
    flip = x > (a + 1) / (a + b + 2)
    a, b, x = torch.where(flip, b, a), torch.where(flip, a, b), torch.where(flip, 1 - x, x)
    d = 1 / (1 - (a + b) * x / (a + 1))
    c, fraction = torch.ones_like(x), d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 / (1 + term * d), 1 + term / c
            fraction = fraction * d * c
        if bool(((d * c - 1).abs() < 1e-14).all()):
            break
    lower = (a * x.log() + b * torch.log1p(-x) - log_beta).exp() / a * fraction
    return torch.where(flip, 1 - lower, lower)
