"""Indices that are random: every entry of the batch picks by its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from brancher.errors import SiteTypeError
from brancher.symbolic.batches import Value, batch_of


def picked(whole: Value, keys: Sequence[Any], indices: Sequence[Value]) -> Value:
    """Index data by whole numbers that are values of expressions, beside ints and slices.

    Args:
        whole: what is indexed.
        keys: a key a dimension of the data; expressions stand for the next of ``indices``.
        indices: whole numbers, with data of any shape.

    Raises:
        SiteTypeError: an index is no whole number, another key is neither int nor slice, or there are more
            keys than dimensions.
    """
    if len(keys) > whole.rank:
        raise SiteTypeError(
            f"index: expected at most {whole.rank} indices for data of shape {tuple(whole.shape)}, got "
            f"{len(keys)}"
        )
    batch = batch_of([whole, *indices])
    tensor = _in_batch(whole, batch)
    given = list(indices)
    # From the right: a dimension that vanishes leaves those before it where they are.
    for place in reversed(range(len(keys))):
        key, dim = keys[place], place + 1
        if isinstance(key, int):
            tensor = tensor.select(dim, key)
        elif isinstance(key, slice):
            tensor = tensor[(slice(None),) * dim + (key,)]
        elif hasattr(key, "parents"):
            tensor = _gathered(tensor, dim, _in_batch(given.pop(), batch))
        else:
            raise SiteTypeError(
                f"index: expected ints and slices beside an expression, got {type(key).__name__}"
            )
    return Value(tensor.reshape(batch + tensor.shape[1:]), tensor.dim() - 1)


def _in_batch(value: Value, batch: torch.Size) -> torch.Tensor:
    flat: torch.Tensor = value.tensor.expand(batch + value.shape).reshape(batch.numel(), *value.shape)
    return flat


def _gathered(tensor: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    if index.is_floating_point() or index.dtype == torch.bool:
        raise SiteTypeError(
            f"index: expected an expression of whole numbers, got dtype {index.dtype}; use BF.where or "
            "convert it"
        )
    index = torch.where(index < 0, index + tensor.shape[dim], index)
    flat = index.reshape(len(index), -1)
    before, after = tensor.shape[1:dim], tensor.shape[dim + 1 :]
    place = flat.reshape(len(index), *(1,) * len(before), flat.shape[1], *(1,) * len(after))
    found = tensor.gather(dim, place.expand(len(index), *before, flat.shape[1], *after))
    return found.reshape(len(index), *before, *index.shape[1:], *after)
