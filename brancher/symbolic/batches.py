"""Values with a batch on the left and data on the right, and how functions meet them.

A value of rank r has its data in the last r dimensions. All dimensions further left count
particles, chains and data points, and belong to nobody's data; they broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from brancher.distributions.shapes import broadcast
from brancher.errors import SiteError


class Value(NamedTuple):
    """A node's value.

    Attributes:
        tensor: shape batch + data; or a tuple, list or dict of values, where a function gave one.
        rank: number of data dimensions; 0 for a container.
    """

    tensor: Any
    rank: int

    @property
    def shape(self) -> torch.Size:
        """Shape of the data."""
        return torch.Size(self.tensor.shape[self.tensor.dim() - self.rank :])


def raised(value: Value, rank: int) -> torch.Tensor:
    """The tensor with dimensions of size 1 between batch and data, so that data have ``rank`` dimensions."""
    tensor: torch.Tensor = value.tensor
    missing, lead = rank - value.rank, tensor.dim() - value.rank
    if missing <= 0 or lead == 0:
        return tensor
    return tensor.reshape(tensor.shape[:lead] + (1,) * missing + tensor.shape[lead:])


def elementwise(fn: Callable[..., Any], values: Sequence[Value]) -> Value:
    """Apply a function of entries: data broadcast with data, batch with batch."""
    if len(values) == 1:
        return Value(fn(values[0].tensor), values[0].rank)
    ranks = [value.rank for value in values]
    rank = max(ranks)
    if min(ranks) == rank:
        return Value(fn(*[value.tensor for value in values]), rank)
    return Value(fn(*[raised(value, rank) for value in values]), rank)


def batch_of(values: Sequence[Value]) -> torch.Size:
    """The batch shape that values broadcast to."""
    return broadcast("batch", *[v.tensor.shape[: v.tensor.dim() - v.rank] for v in values])


def flattened(value: Value, batch: torch.Size) -> torch.Tensor:
    """The tensor with the batch in dimension 0; data without dimensions get one of size 1."""
    tensor: torch.Tensor = value.tensor
    data = value.shape
    if tensor.shape[: tensor.dim() - value.rank] != batch:
        tensor = tensor.expand(batch + data)
    return tensor.reshape((batch.numel(), *(data or (1,))))


def unflattened(result: Any, batch: torch.Size, name: str) -> Value:
    """What a function gave for a flattened batch, its batch dimensions put back.

    Data of one dimension of size 1 lose it: they are scalars.

    Raises:
        SiteError: dimension 0 is not the batch any more.
    """
    if isinstance(result, Mapping):
        return Value({key: unflattened(item, batch, name) for key, item in result.items()}, 0)
    if isinstance(result, (tuple, list)):
        return Value(tuple(unflattened(item, batch, name) for item in result), 0)
    if not isinstance(result, torch.Tensor):
        return Value(torch.as_tensor(result), 0)
    if result.dim() == 0 or result.shape[0] != batch.numel():
        raise SiteError(
            f"function '{name}': expected a result whose dimension 0 is the batch of "
            f"{batch.numel()}, got shape "
            f"{tuple(result.shape)}; dimension 0 of the arguments is the batch, data begin at dimension 1"
        )
    data = result.shape[1:]
    if data == (1,):
        data = torch.Size()
    return Value(result.reshape(batch + data), len(data))


def fitted(value: Value, shape: torch.Size) -> torch.Tensor:
    """A value as one of a variable with data of ``shape``: scalars and vectors of one entry are the same."""
    tensor: torch.Tensor = value.tensor
    rank = len(shape)
    if value.rank == rank + 1 and value.shape[-1] == 1:
        return tensor.squeeze(-1)
    if value.rank == rank - 1 and shape[-1] == 1:
        return tensor.unsqueeze(-1)
    return tensor
