"""Shape arithmetic with errors that name the parameter and the shapes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

import torch
from torch.distributions import AffineTransform, ComposeTransform, Transform
from torch.distributions import Distribution as TorchDistribution

from brancher.errors import DistributionError, DistributionTypeError

Size: TypeAlias = torch.Size | Sequence[int]


def broadcast_shapes(*shapes: Size) -> torch.Size:
    """What ``torch.broadcast_shapes`` gives, ten times faster; its first call imports SymPy, half a second.

    Raises:
        RuntimeError: they do not fit.

    Example:
        >>> from brancher.distributions.shapes import broadcast_shapes
        >>> broadcast_shapes((3, 1), (2,))
        torch.Size([3, 2])
    """
    sizes = []
    for column in zip_longest(*map(reversed, shapes), fillvalue=1):
        size = 1
        for candidate in column:
            if candidate != 1:
                if size not in (1, candidate):
                    listed = ", ".join(str(tuple(shape)) for shape in shapes)
                    raise RuntimeError(f"expected shapes that broadcast together, got {listed}")
                size = candidate
        sizes.append(size)
    return torch.Size(reversed(sizes))


def broadcast(name: str, *shapes: Size) -> torch.Size:
    """Broadcast shapes together.

    Raises:
        DistributionError: they do not fit; the text names ``name`` and the shapes.

    Example:
        >>> from brancher.distributions.shapes import broadcast
        >>> broadcast("mask", (3, 1), (2,))
        torch.Size([3, 2])
    """
    try:
        return broadcast_shapes(*shapes)
    except RuntimeError as error:
        raise DistributionError(
            f"parameter '{name}': {error}; reshape one of them, with [..., None] for a new dimension on "
            "the right"
        ) from None


def unconstrained_shape(transform: Transform, shape: Size) -> torch.Size:
    """``transform.inverse_shape``, without torch's own broadcasting where the transform is affine.

    Example:
        >>> from brancher.distributions import biject_to, constraints
        >>> unconstrained_shape(biject_to(constraints.simplex), (2, 3))
        torch.Size([2, 2])
    """
    if isinstance(transform, ComposeTransform):
        for part in reversed(transform.parts):
            shape = unconstrained_shape(part, shape)
    elif isinstance(transform, AffineTransform):
        return broadcast_shapes(
            shape, getattr(transform.loc, "shape", ()), getattr(transform.scale, "shape", ())
        )
    else:
        shape = transform.inverse_shape(torch.Size(shape))
    return torch.Size(shape)


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
        DistributionTypeError: the value is no tensor.
        DistributionError: the text names family, shapes expected and shape got.
    """
    if not isinstance(value, torch.Tensor):
        raise DistributionTypeError(
            f"{type(distribution).__name__}: expected a value as a tensor, got {type(value).__name__}; "
            "convert it with torch.as_tensor"
        )
    event, batch = distribution.event_shape, distribution.batch_shape
    joint: torch.Size | None
    try:
        joint = broadcast("value", value.shape, batch + event)
    except DistributionError:
        joint = None
    if joint is None or (event and value.shape[-len(event) :] != event):
        raise DistributionError(
            f"{type(distribution).__name__}: expected a value that broadcasts with batch shape "
            f"{tuple(batch)} and ends in event shape {tuple(event)}, got shape {tuple(value.shape)}; reshape "
            "the value"
        )


def words(constraint: Any) -> str:
    """Name a constraint with its bounds, long tensors by their shape.

    Example:
        >>> words(torch.distributions.constraints.greater_than(torch.zeros(2, 3)))
        'GreaterThan(lower_bound=tensor of shape (2, 3))'
    """
    name = type(constraint).__name__.lstrip("_")
    if hasattr(constraint, "base_constraint"):
        inner = words(constraint.base_constraint)
        depth = getattr(constraint, "reinterpreted_batch_ndims", None)
        return f"{name}({inner})" if depth is None else f"{inner} in each of the last {depth} dimensions"
    parts = []
    for key, value in vars(constraint).items():
        if isinstance(value, torch.Tensor):
            value = value.item() if value.numel() == 1 else f"tensor of shape {tuple(value.shape)}"
        parts.append(f"{key}={value}")
    return f"{name}({', '.join(parts)})" if parts else name


def remedy(constraint: Any) -> str:
    """Say how a value is usually brought inside a constraint.

    Example:
        >>> remedy(torch.distributions.constraints.positive)
        'make it so with exp or softplus'
    """
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    bound = getattr(constraint, "lower_bound", 0)
    if type(constraint).__name__.lstrip("_") == "GreaterThan" and not (
        isinstance(bound, (int, float)) and bound == 0
    ):
        return "make it larger, with its lower bound plus exp or softplus"
    return _REMEDIES.get(type(constraint).__name__.lstrip("_"), "correct it where it is computed")


_REMEDIES = {
    "Real": "look for what makes it NaN: a root or logarithm of a negative number, 0 / 0, inf - inf",
    "GreaterThan": "make it so with exp or softplus",
    "GreaterThanEq": "make it so with exp or softplus",
    "Interval": "make it so with sigmoid",
    "HalfOpenInterval": "make it so with sigmoid",
    "Simplex": "make it so with softmax, or divide by the sum",
    "PositiveDefinite": "add a small multiple of the identity, or pass scale_tril",
    "LowerCholesky": "make it so with torch.linalg.cholesky",
    "CorrCholesky": "draw it from LKJCholesky, or take the factor of a correlation matrix",
    "IntegerGreaterThan": "give whole numbers >= the bound",
    "IntegerInterval": "give whole numbers inside the bounds",
    "Boolean": "give zeros and ones",
    "Ordered": "sort it",
}


def offenders(value: torch.Tensor, valid: torch.Tensor, event_dim: int) -> str:
    """Say how many events offend, and show the first with its index.

    Args:
        value: what was checked, shape ... + E.
        valid: the result, of the shape that the left part of ``value`` broadcasts to.
        event_dim: number of dimensions in E.

    Example:
        >>> x = torch.tensor([1.0, -2.0])
        >>> offenders(x, x > 0, 0)
        '1 offending, the first -2.0 at index (1,)'
    """
    event = value.shape[value.dim() - event_dim :]
    left = broadcast_shapes(value.shape[: value.dim() - event_dim], valid.shape)
    bad = (~valid.expand(left)).nonzero()
    first = tuple(bad[0].tolist())
    shown = value.detach().expand(left + event)[first].tolist()
    where = f" at index {first}" if first else ""
    return f"{len(bad)} offending, the first {shown}{where}"
