"""Ranks of pooled draws on the normal scale (Vehtari et al. 2021, eq. 14)."""

from __future__ import annotations

import torch
from torch import Tensor

from brancher.infer.diagnostics.layout import pooled


def average_ranks(x: Tensor) -> Tensor:
    """Rank along dim 0 from 1; ties share their mean rank."""
    rows = x.reshape(x.shape[0], -1).T.contiguous()
    ordered = rows.sort(-1).values
    below = torch.searchsorted(ordered, rows, right=False)
    upto = torch.searchsorted(ordered, rows, right=True)
    return ((below + upto + 1).to(x.dtype) / 2).T.reshape(x.shape)


def rank_normalize(table: Tensor) -> Tensor:
    """Replace each draw by the normal quantile of its rank among all chains' draws."""
    ranks = average_ranks(pooled(table))
    z: Tensor = torch.special.ndtri((ranks - 0.375) / (ranks.shape[0] + 0.25))
    return z.reshape(table.shape)
