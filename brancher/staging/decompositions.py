"""Decompositions of operations in place of Inductor's own."""

from __future__ import annotations

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


#: Decompositions in place of Inductor's.
OWN_RULES: dict[Any, Callable[..., Tensor]] = {
    torch.ops.aten.bernoulli.default: _bernoulli,
    torch.ops.aten.mv.default: _matrix_by_vector,
    torch.ops.aten.gather.default: _pick,
    torch.ops.aten.scatter_add.default: _one_in_a_row,
}
