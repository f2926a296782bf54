"""Indexing that keeps batch dimensions on the left, whatever else is in the index."""

from __future__ import annotations

from typing import Any

import torch

from brancher.errors import SiteError


class Vindex:
    """Index a tensor so that index tensors broadcast into batch dimensions and slices stay on the right.

    In torch, ``x[i, :, j]`` puts the dimensions of ``i`` and ``j`` first or in the middle, as the other
    entries fall. Here they are always first. A leading ``...`` stands for batch dimensions of ``x``, which
    broadcast with those of the index. With it a model may pick parameters by enumerated values, in plates
    and under several particles.

    Args:
        tensor: what to index.

    Example:
        >>> from brancher.ops.indexing import Vindex
        >>> weights = torch.zeros(7, 3, 5)  # a batch of tables with 3 rows
        >>> z = torch.zeros(2, 1, dtype=torch.long)  # two values of a row's number
        >>> Vindex(weights)[..., z, :].shape
        torch.Size([2, 7, 5])
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __getitem__(self, index: Any) -> torch.Tensor:
        """The entries."""
        return vindex(self.tensor, index)


def vindex(tensor: torch.Tensor, index: Any) -> torch.Tensor:
    """See :class:`Vindex`.

    Args:
        tensor: what to index.
        index: one index or a tuple of ints, integer tensors, ``:`` and, on the left, ``...``.

    Returns:
        Entries of shape (broadcast batch, *sliced dimensions).

    Raises:
        SiteError: the index has another kind of entry, or one too many.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    if not parts or parts == [Ellipsis]:
        return tensor
    lead = 0
    if parts[0] is Ellipsis:
        lead = tensor.dim() - (len(parts) - 1)
        parts = parts[1:]
    parts += [slice(None)] * (tensor.dim() - lead - len(parts))
    if lead < 0 or lead + len(parts) > tensor.dim():
        raise SiteError(
            f"Vindex: expected at most {tensor.dim()} indices for shape {tuple(tensor.shape)}, got "
            f"{len(parts)}"
        )
    slices = sum(isinstance(part, slice) for part in parts)
    found = [_along(tensor, dim, lead - 1 - dim + slices) for dim in range(lead)]
    seen = 0
    for dim, part in enumerate(parts, lead):
        if isinstance(part, slice):
            if part != slice(None):
                raise SiteError(f"Vindex: expected ':' as a slice, got {part}; slice the result")
            seen += 1
            found.append(_along(tensor, dim, slices - seen))
        else:
            found.append(_as_index(tensor, part, slices))
    return tensor[tuple(found)]


def _along(tensor: torch.Tensor, dim: int, right: int) -> torch.Tensor:
    """All positions of a dimension, with as many dimensions to the right."""
    return torch.arange(tensor.shape[dim], device=tensor.device).reshape((-1,) + (1,) * right)


def _as_index(tensor: torch.Tensor, part: Any, right: int) -> torch.Tensor:
    index = torch.as_tensor(part, device=tensor.device)
    if index.is_floating_point() or index.dtype == torch.bool:
        raise SiteError(f"Vindex: expected integers, ':' or a leading '...', got {part!r}; use .long()")
    return index.reshape(index.shape + (1,) * right)
