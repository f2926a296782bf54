"""One fixed, harmless point of a support: what a masked-out value is replaced by."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import transform_to

from brancher.distributions import constraints
from brancher.distributions.shapes import unconstrained_shape

Anchor = torch.Tensor | float


def anchor(support: Any, value: torch.Tensor) -> Anchor:
    """Return a point of ``support`` that broadcasts with ``value`` (a number where one will do).

    A number keeps an integer tensor's dtype when the support is discrete.

    Args:
        support: the constraint that a masked density is defined on.
        value: the value whose masked entries get replaced; gives shape, dtype and device.

    Example:
        >>> anchor(constraints.positive, torch.zeros(3))
        1.0
    """
    if hasattr(support, "anchor"):
        return support.anchor(value)  # type: ignore[no-any-return]
    if isinstance(support, constraints.independent):
        return anchor(support.base_constraint, value)
    if isinstance(support, constraints.MixtureSameFamilyConstraint):
        return _of_one_component(support.base_constraint, value)
    if isinstance(support, type(constraints.real)):
        return 0.0
    return _discrete(support, value) if support.is_discrete else _continuous(support, value)


def _of_one_component(base: Any, value: torch.Tensor) -> Anchor:
    """Bounds of a mixture's components carry a component dimension right of the batch."""
    point = anchor(base, value)
    if isinstance(point, torch.Tensor) and point.dim() > base.event_dim:
        return point.select(-1 - base.event_dim, 0)
    return point


def _discrete(support: Any, value: torch.Tensor) -> Anchor:
    if isinstance(support, type(constraints.one_hot)):
        return torch.eye(1, value.shape[-1], dtype=value.dtype, device=value.device)[0]
    if isinstance(support, constraints.multinomial):
        first = torch.eye(1, value.shape[-1], dtype=value.dtype, device=value.device)[0]
        total = support.upper_bound
        return first * (total.unsqueeze(-1) if isinstance(total, torch.Tensor) else total)
    lower: Anchor = getattr(support, "lower_bound", 0)
    return lower


def _continuous(support: Any, value: torch.Tensor) -> Anchor:
    lower: Any = getattr(support, "lower_bound", None)
    upper: Any = getattr(support, "upper_bound", None)
    if isinstance(support, constraints.extended_interval):
        return _inside(lower, upper)
    if lower is not None and upper is not None:
        return (lower + upper) / 2  # type: ignore[no-any-return]
    if lower is not None:
        return lower + 1.0  # type: ignore[no-any-return]
    if upper is not None:
        return upper - 1.0  # type: ignore[no-any-return]
    try:
        transform = transform_to(support)
        # Ones, since zero has no direction on a sphere.
        origin = torch.ones(
            unconstrained_shape(transform, value.shape), dtype=value.dtype, device=value.device
        )
        return transform(origin)  # type: ignore[no-any-return]
    except NotImplementedError:
        return 0.0  # a support nobody has described: zero is the best guess


def _inside(lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """Return a point between bounds that may be infinite."""
    start = torch.where(lower.isinf(), torch.where(upper.isinf(), -1.0, upper - 2.0), lower)
    end = torch.where(upper.isinf(), start + 2.0, upper)
    return 0.5 * (start + end)
