"""Decompositions of operations in place of Inductor's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor


def _bernoulli(probs: Tensor, *, generator: None = None) -> Tensor:
    """Draw the eager numbers for a probability of any dtype; Inductor's own rule draws in float32."""
    dtype = torch.float64 if probs.dtype == torch.float64 else torch.float32
    return (torch.rand_like(probs, dtype=dtype) < probs).to(probs.dtype)


def _matrix_by_vector(matrix: Tensor, vector: Tensor) -> Tensor:
    """Multiply by the library for large matrices; by a loop that others can be joined to for small ones."""
    if _is_for_library(matrix):
        return torch.mm(matrix, vector.unsqueeze(1)).squeeze(1)
    # The vector is computed beforehand, not once more for every row or column.
    realized: Tensor = torch.ops.prims.inductor_force_stride_order(vector, [1])
    return (matrix * realized).sum(dim=1)


def _is_for_library(matrix: Tensor) -> bool:
    """Whether a matrix does not fit into the cache, or has rows too short for a loop to be good at them."""
    size, row = matrix.numel(), matrix.shape[0] if matrix.stride(0) == 1 else matrix.shape[1]
    return matrix.is_floating_point() and (size >= 2**22 or (size >= 2**17 and 16 <= row < 128))


def _one_in_a_row(base: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """Add to one entry of every row, as the gradient of picking one does, by comparing places with it."""
    if base.dim() == 0 or index.shape[dim] != 1 or index.numel() * base.shape[dim] != base.numel():
        return NotImplemented  # type: ignore[no-any-return]
    places = [1] * base.dim()
    places[dim] = base.shape[dim]
    is_here = torch.arange(base.shape[dim], device=base.device).reshape(places) == index
    return torch.where(is_here, base + source.narrow(dim, 0, 1), base)


#: Rows this short are looked through entry by entry.
_SHORT = 16


def _pick(table: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """Pick one entry of every short row by comparing places; NaN where there is no such place."""
    few = table.dim() > 0 and table.is_floating_point() and table.shape[dim] <= _SHORT
    if not few or index.shape[dim] != 1 or index.numel() * table.shape[dim] != table.numel():
        return NotImplemented  # type: ignore[no-any-return]
    places = [1] * table.dim()
    places[dim] = table.shape[dim]
    is_here = torch.arange(table.shape[dim], device=table.device).reshape(places) == index
    picked = torch.where(is_here, table, 0.0).sum(dim, keepdim=True)
    return torch.where((index >= 0) & (index < table.shape[dim]), picked, torch.nan)


#: By dtype: from where on the series of the digamma function has all digits, and its terms B_2k / 2k.
_DIGAMMA_SERIES = {
    torch.float32: (5, (1 / 12, -1 / 120, 1 / 252, -1 / 240)),
    torch.float64: (10, (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)),
}


def _cotangent(x: Tensor) -> Tensor:
    """The cotangent from -pi/2 to pi/2 by the series of cosine and sine; half the time of the tangent."""
    square = x * x
    sine, cosine = torch.zeros_like(x), torch.zeros_like(x)
    for k in range(12 if x.dtype == torch.float32 else 22, -1, -2):
        sign = 1 - k % 4
        cosine = cosine * square + sign / math.factorial(k)
        sine = sine * square + sign / math.factorial(k + 1)
    return cosine / (x * sine)


def _digamma(x: Tensor) -> Tensor:
    """The digamma function in operations that fill vectors; Inductor's own goes entry by entry.

    Abramowitz and Stegun 1964: the asymptotic series, 6.3.18; small arguments by the recurrence, 6.3.6;
    negative ones by reflection, 6.3.7.
    """
    if x.dtype not in _DIGAMMA_SERIES:
        return NotImplemented  # type: ignore[no-any-return]
    start, terms = _DIGAMMA_SERIES[x.dtype]
    is_negative = x < 0
    positive = torch.where(is_negative, 1.0 - x, x)
    is_small = positive < start
    small = torch.where(is_small, positive, 1.0)
    # 1 / x + 1 / (x + 1) + ... as one fraction.
    top, bottom = torch.ones_like(small), small
    for k in range(1, start):
        top, bottom = top * (small + k) + bottom, bottom * (small + k)
    large = torch.where(is_small, positive + start, positive)
    r = large.reciprocal()
    s = r * r
    series = torch.full_like(s, terms[-1])
    for term in reversed(terms[:-1]):
        series = series * s + term
    value = large.log() - 0.5 * r - s * series - torch.where(is_small, top / bottom, 0.0)
    part = x - x.round()
    mirrored = value - torch.pi * _cotangent(torch.pi * part)
    return torch.where(is_negative, torch.where(part == 0, torch.nan, mirrored), value)


#: Decompositions in place of Inductor's.
OWN_RULES: dict[Any, Callable[..., Tensor]] = {
    torch.ops.aten.bernoulli.default: _bernoulli,
    torch.ops.aten.mv.default: _matrix_by_vector,
    torch.ops.aten.gather.default: _pick,
    torch.ops.aten.digamma.default: _digamma,
    torch.ops.aten.scatter_add.default: _one_in_a_row,
}
