"""Shape arithmetic with errors that name the parameter and the shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch.distributions import Distribution as TorchDistribution

from brancher.errors import DistributionError

Size: TypeAlias = torch.Size | Sequence[int]


def broadcast(name: str, *shapes: Size) -> torch.Size:
    """Broadcast shapes together.

    Raises:
        DistributionError: they do not fit; the text names ``name`` and the shapes.

    Example:
        >>> broadcast("mask", (3, 1), (2,))
        torch.Size([3, 2])
    """
    try:
        return torch.broadcast_shapes(*shapes)
    except RuntimeError:
        listed = ", ".join(str(tuple(shape)) for shape in shapes)
        raise DistributionError(
            f"parameter '{name}': expected shapes that broadcast together, got {listed}"
        ) from None


def sum_rightmost(value: torch.Tensor, ndims: int) -> torch.Tensor:
    """Sum out the ``ndims`` rightmost dimensions.

    Example:
        >>> sum_rightmost(torch.ones(2, 3, 4), 2)
        tensor([12., 12.])
    """
    if ndims == 1:
        return value.sum(-1)
    return value.sum(tuple(range(-ndims, 0))) if ndims else value


def check_event(distribution: TorchDistribution, value: torch.Tensor) -> None:
    """Refuse a value whose rightmost dimensions differ from the event shape, or can not broadcast.

    Raises:
        DistributionError: the text names family, shapes expected and shape got.
    """
    event, batch = distribution.event_shape, distribution.batch_shape
    joint: torch.Size | None
    try:
        joint = torch.broadcast_shapes(value.shape, batch + event)
    except RuntimeError:
        joint = None
    if joint is None or (event and value.shape[-len(event) :] != event):
        raise DistributionError(
            f"{type(distribution).__name__}: expected a value that broadcasts with batch shape "
            f"{tuple(batch)} and ends in event shape {tuple(event)}, got shape {tuple(value.shape)}"
        )
