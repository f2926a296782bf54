"""Autocovariance and effective sample sizes.

Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021, "Rank-normalization, folding, and localization:
an improved R-hat for assessing convergence of MCMC", Bayesian Analysis 16(2), section 3.2 (eq. 10-13), and
Geyer 1992 for the truncation of the autocorrelation sum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from brancher.infer.diagnostics.layout import as_draws, check_tensor, columns, pooled, split_chains
from brancher.infer.diagnostics.ranks import rank_normalize


def autocovariance(input: Tensor, dim: int = 0) -> Tensor:
    """Autocovariance at every lag, with divisor N, by the fast Fourier transform.

    Args:
        input: a series along ``dim``.
        dim: the dimension of time.

    Returns:
        A tensor of the same shape; index ``t`` along ``dim`` is lag ``t``.

    Example:
        >>> autocovariance(torch.tensor([0.0, 1.0, 0.0, 1.0]))
        tensor([ 0.2500, -0.1875,  0.1250, -0.0625])
    """
    check_tensor(input)
    series = input.movedim(dim, -1)
    n = series.shape[-1]
    size = 2 ** math.ceil(math.log2(max(2 * n, 2)))
    centred = (series - series.mean(-1, keepdim=True)).to(torch.float64)
    spectrum = torch.fft.rfft(centred, n=size)
    lags: Tensor = torch.fft.irfft(spectrum * spectrum.conj(), n=size)[..., :n] / n
    return lags.to(input.dtype).movedim(-1, dim)


def autocorrelation(input: Tensor, dim: int = 0) -> Tensor:
    """Autocorrelation at every lag; 1 at lag 0, and everywhere for a constant series.

    Example:
        >>> autocorrelation(torch.tensor([0.0, 1.0, 0.0, 1.0]))
        tensor([ 1.0000, -0.7500,  0.5000, -0.2500])
    """
    lags = autocovariance(input, dim)
    variance = lags.narrow(dim, 0, 1)
    constant = variance == 0
    return torch.where(constant, torch.ones_like(lags), lags / torch.where(constant, 1.0, variance))


def effective_sample_size(input: Tensor, chain_dim: int = 0, sample_dim: int = 1) -> Tensor:
    """Effective sample size for the mean, chains taken whole.

    Args:
        input: draws, shape ``(chains, draws, *event)`` or as the dims say.
        chain_dim: the dimension of chains.
        sample_dim: the dimension of draws.

    Returns:
        Shape ``event``; NaN where a draw is not finite.

    Example:
        >>> draws = torch.randn(4, 500, 3, generator=torch.Generator().manual_seed(0))
        >>> bool((effective_sample_size(draws) > 1500).all())
        True
    """
    return _ess(as_draws(input, chain_dim, sample_dim))


def ess_mean(draws: Tensor) -> Tensor:
    """Effective sample size for the mean, split chains; ``(C, N, *event) -> event``."""
    return _ess(split_chains(as_draws(draws)))


def ess_bulk(draws: Tensor) -> Tensor:
    """Bulk effective sample size: of the rank-normalised split chains (section 4.3).

    Args:
        draws: shape ``(chains, draws, *event)``.

    Returns:
        Shape ``event``.
    """
    halves = split_chains(as_draws(draws))
    return _ess(rank_normalize(halves), halves)


def ess_quantile(draws: Tensor, prob: float) -> Tensor:
    """Effective sample size for the ``prob`` quantile, through the indicator ``x <= q``."""
    table = as_draws(draws)
    return _ess(split_chains((table <= _quantile_of(table, prob)).to(table.dtype)), table)


def ess_tail(draws: Tensor, probs: tuple[float, float] = (0.05, 0.95)) -> Tensor:
    """Tail effective sample size: the smaller one of two quantiles' (section 4.3)."""
    return torch.minimum(ess_quantile(draws, probs[0]), ess_quantile(draws, probs[1]))


def ess_sd(draws: Tensor) -> Tensor:
    """Effective sample size for the standard deviation, through the squared deviations."""
    table = as_draws(draws)
    return _ess(split_chains((table - pooled(table).mean(0)).square()))


def _quantile_of(table: Tensor, prob: float) -> Tensor:
    ordered = pooled(table).sort(dim=0).values
    place = prob * (ordered.shape[0] - 1)
    low = min(int(place), ordered.shape[0] - 1)
    high = min(low + 1, ordered.shape[0] - 1)
    return torch.lerp(ordered[low], ordered[high], place - low)


def _ess(table: Tensor, finite_of: Tensor | None = None) -> Tensor:
    event = table.shape[2:]
    x = columns(table)
    chains, draws, _ = x.shape
    covariance = autocovariance(x, dim=1).mean(0)  # (N, K)
    within = covariance[0] * draws / (draws - 1)
    var_plus = covariance[0]
    if chains > 1:
        var_plus = var_plus + x.mean(1).var(0)
    rho = 1 - (within - covariance) / var_plus
    rho[0] = 1.0
    total = chains * draws
    size = total / _geyer_tau(rho).clamp(min=1 / math.log10(total))
    spread = pooled(x).amax(0) - pooled(x).amin(0)
    size = torch.where(spread < 1e-15, torch.full_like(size, float(total)), size)
    finite = torch.isfinite(pooled(x if finite_of is None else columns(finite_of))).all(0)
    return torch.where(finite, size, torch.full_like(size, math.nan)).reshape(event)


def _geyer_tau(rho: Tensor) -> Tensor:
    """Sum the initial monotone positive sequence of pairs; ``rho`` is (lags, K)."""
    last = max((rho.shape[0] - 3) // 2, 0)  # the last pair that may end the sum
    pairs = rho[0 : 2 * last + 2 : 2] + rho[1 : 2 * last + 2 : 2]
    kept = (pairs > 0).cummin(0).values
    count = kept.sum(0).clamp(max=last)
    inside = torch.arange(pairs.shape[0], device=rho.device)[:, None] < count
    monotone = torch.where(inside, pairs.cummin(0).values, torch.zeros_like(pairs)).sum(0)
    # The even lag that follows the last kept pair still lowers the bias, as long as it is positive itself.
    even, pair = rho.gather(0, 2 * count[None])[0], pairs.gather(0, count[None])[0]
    return -1 + 2 * monotone + torch.where(pair >= 0, even, even.clamp(min=0))
