"""Do the chains agree? Potential scale reduction in its old and its rank-normalised form.

Sources: Gelman & Rubin 1992; Vehtari et al. 2021, Bayesian Analysis 16(2), eq. 1-4 and section 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from brancher.infer.diagnostics.layout import as_draws, pooled, split_chains
from brancher.infer.diagnostics.ranks import rank_normalize


def gelman_rubin(input: Tensor, chain_dim: int = 0, sample_dim: int = 1) -> Tensor:
    """Potential scale reduction over whole chains; needs at least two of them.

    Args:
        input: draws, shape ``(chains, draws, *event)`` or as the dims say.
        chain_dim: the dimension of chains.
        sample_dim: the dimension of draws.

    Returns:
        Shape ``event``; 1 when the chains agree.
    """
    return _scale_reduction(as_draws(input, chain_dim, sample_dim, at_least=2))


def split_gelman_rubin(input: Tensor, chain_dim: int = 0, sample_dim: int = 1) -> Tensor:
    """Potential scale reduction over half chains, so that a drift inside a chain shows too."""
    return _scale_reduction(split_chains(as_draws(input, chain_dim, sample_dim)))


def r_hat(draws: Tensor) -> Tensor:
    """Rank-normalised split R-hat: the larger one of bulk and folded (tail) R-hat.

    Args:
        draws: shape ``(chains, draws, *event)``; one chain is compared with itself, by halves.

    Returns:
        Shape ``event``; below 1.01 is good, NaN where a draw is not finite or all are equal.

    Example:
        >>> draws = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
        >>> bool(r_hat(draws) < 1.01), bool(r_hat(draws + 9 * torch.arange(4.0)[:, None]) > 1.5)
        (True, True)
    """
    halves = split_chains(as_draws(draws))
    folded = (halves - _median(pooled(halves))).abs()
    bulk = _scale_reduction(rank_normalize(halves))
    tail = _scale_reduction(rank_normalize(folded))
    finite = torch.isfinite(pooled(halves)).all(0)
    return torch.where(finite, torch.maximum(bulk, tail), torch.full_like(bulk, math.nan))


def _median(x: Tensor) -> Tensor:
    ordered = x.sort(0).values
    return (ordered[(x.shape[0] - 1) // 2] + ordered[x.shape[0] // 2]) / 2


def _scale_reduction(table: Tensor) -> Tensor:
    draws = table.shape[1]
    between = draws * table.mean(1).var(0)
    within = table.var(1).mean(0)
    return ((between / within + draws - 1) / draws).sqrt()
