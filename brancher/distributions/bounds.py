"""Closed regions of the real line whose bounds may be missing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.distributions import transforms

from brancher.distributions import constraints
from brancher.distributions.constraint_registry import biject_to, transform_to


class LessThanEq(constraints.Constraint):
    """Real numbers up to a bound, the bound included.

    Args:
        upper_bound: the largest number of the region.
    """

    def __init__(self, upper_bound: torch.Tensor | float) -> None:
        self.upper_bound = upper_bound

    def check(self, value: torch.Tensor) -> torch.Tensor:
        """Tell, entry by entry, which values lie in the region."""
        return torch.le(value, self.upper_bound)

    def __repr__(self) -> str:
        return f"LessThanEq(upper_bound={self.upper_bound})"


def _below(constraint: Any) -> Any:
    shift = transforms.AffineTransform(constraint.upper_bound, -1.0)
    return transforms.ComposeTransform([transforms.ExpTransform(), shift])


biject_to.register(LessThanEq, _below)
transform_to.register(LessThanEq, _below)


def between(low: torch.Tensor | float | None, high: torch.Tensor | float | None) -> Any:
    """Return the constraint ``low <= x <= high``, where None is no bound.

    A missing bound must not stand as an infinite one: maps onto an interval scale by its width.

    Example:
        >>> between(0.0, None)
        GreaterThanEq(lower_bound=0.0)
    """
    if low is not None and high is not None:
        return constraints.interval(low, high)
    if low is not None:
        return constraints.greater_than_eq(low)
    return constraints.real if high is None else LessThanEq(high)


def is_bound(value: Any) -> bool:
    """Tell whether an argument bounds anything, that is, is neither None nor an infinite number."""
    return value is not None and (isinstance(value, torch.Tensor) or not math.isinf(value))
