"""Quantiles and credible intervals of draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from brancher.errors import InferenceError
from brancher.infer.diagnostics.layout import check_tensor


def quantile(input: Tensor, probs: float | Sequence[float] | Tensor, dim: int = 0) -> Tensor:
    """Quantiles along ``dim``, interpolated linearly; ``dim`` then counts the probabilities.

    Example:
        >>> quantile(torch.arange(5.0), [0.25, 0.5])
        tensor([1., 2.])
    """
    check_tensor(input)
    p = torch.as_tensor(probs, dtype=input.dtype, device=input.device)
    if bool(((p < 0) | (p > 1)).any()):
        raise InferenceError(f"quantile 'probs': expected values in [0, 1], got {p.tolist()}")
    ordered = input.movedim(dim, 0).sort(0).values
    place = p * (ordered.shape[0] - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=ordered.shape[0] - 1)
    part = (place - low).reshape(p.shape + (1,) * (ordered.dim() - 1))
    value = torch.lerp(ordered[low], ordered[high], part)
    return value.movedim(0, dim) if p.dim() else value


def pi(input: Tensor, prob: float, dim: int = 0) -> Tensor:
    """Equal-tailed interval that holds ``prob`` of the draws; ``dim`` becomes (lower, upper)."""
    _check_prob(prob)
    return quantile(input, [(1 - prob) / 2, (1 + prob) / 2], dim)


def hpdi(input: Tensor, prob: float, dim: int = 0) -> Tensor:
    """Narrowest interval that holds ``prob`` of the draws; ``dim`` becomes (lower, upper).

    Source: Chen & Shao 1999, "Monte Carlo estimation of Bayesian credible and HPD intervals".

    Example:
        >>> hpdi(torch.tensor([0.0, 1.0, 1.1, 1.2, 9.0]), 0.5)
        tensor([1.0000, 1.2000])
    """
    check_tensor(input)
    _check_prob(prob)
    ordered = input.movedim(dim, 0).sort(0).values
    width = max(min(int(prob * ordered.shape[0]), ordered.shape[0] - 1), 1)
    gaps = ordered[width:] - ordered[:-width]
    start = gaps.argmin(0, keepdim=True)
    return torch.cat([ordered.gather(0, start), ordered.gather(0, start + width)]).movedim(0, dim)


def _check_prob(prob: float) -> None:
    if not 0 < prob < 1:
        raise InferenceError(f"interval 'prob': expected a number in (0, 1), got {prob}; 0.9 is usual")
