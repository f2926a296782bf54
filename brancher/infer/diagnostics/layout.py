"""Draws as one table: float64, chains and draws first, every event entry a column."""

from __future__ import annotations

import torch
from torch import Tensor

from brancher.errors import InferenceError, InferenceTypeError


def as_draws(draws: Tensor, chain_dim: int = 0, sample_dim: int = 1, at_least: int = 4) -> Tensor:
    """Return ``draws`` in float64 with chains at dim 0 and draws at dim 1.

    Raises:
        InferenceTypeError: not a tensor.
        InferenceError: no chain and draw dimension, or fewer than ``at_least`` draws.
    """
    check_tensor(draws)
    if draws.dim() < 2:
        raise InferenceError(
            f"diagnostics 'draws': expected shape (chains, draws, ...), got {tuple(draws.shape)}; "
            "add a chain dimension with draws[None]"
        )
    table = draws.detach().to(torch.float64).movedim((chain_dim, sample_dim), (0, 1))
    if table.shape[1] < at_least or table.shape[0] < 1:
        raise InferenceError(
            f"diagnostics 'draws': expected at least 1 chain of {at_least} draws, "
            f"got {table.shape[0]} of {table.shape[1]}; draw more"
        )
    return table


def check_tensor(draws: object) -> None:
    """Refuse what is not a tensor."""
    if not isinstance(draws, Tensor):
        raise InferenceTypeError(
            f"diagnostics 'draws': expected a tensor, got {type(draws).__name__}; use torch.as_tensor"
        )


def columns(table: Tensor) -> Tensor:
    """Flatten ``(C, N, *event)`` to ``(C, N, K)``."""
    return table.reshape(table.shape[0], table.shape[1], -1)


def split_chains(table: Tensor) -> Tensor:
    """Cut each chain into its first and last half; an odd middle draw is left out."""
    half = table.shape[1] // 2
    return torch.cat([table[:, :half], table[:, table.shape[1] - half :]], dim=0)


def pooled(table: Tensor) -> Tensor:
    """Put all chains end to end: ``(C, N, *event)`` to ``(C*N, *event)``."""
    return table.reshape(-1, *table.shape[2:])
