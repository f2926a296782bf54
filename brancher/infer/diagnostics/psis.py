"""Pareto smoothed importance sampling.

Sources: Vehtari, Simpson, Gelman, Yao, Gabry 2024, "Pareto smoothed importance sampling", JMLR 25(72);
Zhang & Stephens 2009, "A new and efficient estimation method for the generalized Pareto distribution".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from brancher.errors import InferenceError
from brancher.infer.diagnostics.layout import check_tensor


def psis(log_weights: Tensor, relative_ess: float = 1.0, normalize: bool = True) -> tuple[Tensor, Tensor]:
    """Smooth the largest importance weights with a generalised Pareto tail.

    Args:
        log_weights: log ratios in nats, shape ``(draws, *event)``; each column is smoothed alone.
        relative_ess: effective draws per draw; below 1 for correlated draws. It lengthens the tail.
        normalize: whether the smoothed weights of a column sum to one.

    Returns:
        Smoothed log weights, shape as given, and the tail's shape k-hat, shape ``event``: below
        ``min(1 - 1 / log10(draws), 0.7)`` the estimate can be trusted.

    Raises:
        InferenceError: no draws, or a log weight is NaN or +inf.

    Example:
        >>> x = torch.randn(4000, generator=torch.Generator().manual_seed(0))
        >>> smoothed, k = psis(-0.5 * x)
        >>> bool(k < 0.5), round(float(smoothed.exp().sum()), 6)
        (True, 1.0)
    """
    check_tensor(log_weights)
    _check_weights(log_weights)
    rows = log_weights.detach().to(torch.float64).reshape(log_weights.shape[0], -1).T
    rows = rows - rows.amax(-1, keepdim=True)
    ordered, order = rows.sort(-1)
    draws = rows.shape[-1]
    tail = math.ceil(min(draws / 5, 3 * math.sqrt(draws / relative_ess)))
    k = torch.full(rows.shape[:1], math.inf, dtype=rows.dtype, device=rows.device)
    if draws > tail:
        ordered, k = _smooth_rows(ordered, tail, k)
    smoothed = torch.empty_like(rows).scatter_(-1, order, ordered)
    if normalize:
        smoothed = smoothed - smoothed.logsumexp(-1, keepdim=True)
    return smoothed.T.reshape(log_weights.shape), k.reshape(log_weights.shape[1:])


def fit_generalized_pareto(x: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a generalised Pareto law to exceedances over a threshold.

    The profile posterior mean of Zhang & Stephens 2009, with the weak prior of Vehtari et al. 2024,
    appendix C, which draws the shape towards 0.5 with the weight of ten observations.

    Args:
        x: positive exceedances, shape ``(..., n)``, any order; n > 4.

    Returns:
        Shape ``k`` and scale ``sigma``, both of shape ``(...)``.
    """
    x = x.to(torch.float64).sort(-1).values
    n = x.shape[-1]
    grid_size = 30 + int(math.sqrt(n))
    grid = torch.arange(1, grid_size + 1, dtype=x.dtype, device=x.device)
    quartile = x[..., int(n / 4 + 0.5) - 1, None]
    b = (1 - (grid_size / (grid - 0.5)).sqrt()) / (3 * quartile) + 1 / x[..., -1:]
    k = torch.log1p(-b[..., None] * x[..., None, :]).mean(-1)
    profile = n * ((-b / k).log() - k - 1)
    weights = profile.softmax(-1)
    weights = torch.where(weights >= 10 * torch.finfo(x.dtype).eps, weights, torch.zeros_like(weights))
    b_mean = (b * weights).sum(-1) / weights.sum(-1)
    k_mean = torch.log1p(-b_mean[..., None] * x).mean(-1)
    sigma = -k_mean / b_mean
    return (n * k_mean + 5.0) / (n + 10.0), sigma


def _check_weights(log_weights: Tensor) -> None:
    bad = torch.isnan(log_weights) | (log_weights == math.inf)
    if log_weights.dim() == 0 or log_weights.shape[0] == 0:
        raise InferenceError(f"psis 'log_weights': expected (draws, ...), got {tuple(log_weights.shape)}")
    if bool(bad.any()):
        raise InferenceError(
            f"psis 'log_weights': expected numbers below infinity, got {int(bad.sum())} NaN or inf; "
            "look at the draws that gave them"
        )


def _smooth_rows(ordered: Tensor, tail: int, k: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth the tail of rows sorted upwards; rows are grouped by tail length, which ties can shorten."""
    cutoff = ordered[:, -tail - 1, None].clamp(min=math.log(torch.finfo(ordered.dtype).tiny))
    lengths = (ordered > cutoff).sum(-1)
    ordered, k = ordered.clone(), k.clone()
    for length in set(lengths.tolist()):
        if length <= 4:
            continue
        rows = (lengths == length).nonzero()[:, 0]
        base = cutoff[rows].exp()
        shape, scale = fit_generalized_pareto(ordered[rows, -length:].exp() - base)
        k[rows] = shape
        p = (torch.arange(length, dtype=ordered.dtype, device=ordered.device) + 0.5) / length
        quantiles = _pareto_quantile(p, shape[:, None], scale[:, None]) + base
        fitted = torch.isfinite(shape)[:, None]
        ordered[rows, -length:] = torch.where(fitted, quantiles.log().clamp(max=0), ordered[rows, -length:])
    return ordered, k


def _pareto_quantile(p: Tensor, k: Tensor, sigma: Tensor) -> Tensor:
    flat = k.abs() < torch.finfo(k.dtype).eps
    curved = torch.expm1(-k * torch.log1p(-p)) / torch.where(flat, torch.ones_like(k), k)
    return sigma * torch.where(flat, -torch.log1p(-p), curved)
