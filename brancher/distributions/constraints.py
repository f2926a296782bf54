"""Regions of values: torch's constraints, and those that models need besides.

The names of torch are here unchanged. Added are ``ordered``, ``positive_ordered`` (also with the
suffix ``_vector``), ``softplus_positive``, ``softplus_lower_cholesky``, ``unit_lower_cholesky``,
``corr_matrix``, ``sphere``, ``integer``, ``left_open_interval``,
``extended_interval`` and ``half_open``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions.constraints import (
    Constraint,
    MixtureSameFamilyConstraint,
    boolean,
    cat,
    corr_cholesky,
    dependent,
    dependent_property,
    greater_than,
    greater_than_eq,
    half_open_interval,
    independent,
    integer_interval,
    interval,
    is_dependent,
    less_than,
    lower_cholesky,
    lower_triangular,
    multinomial,
    nonnegative,
    nonnegative_integer,
    one_hot,
    positive,
    positive_definite,
    positive_integer,
    positive_semidefinite,
    real,
    real_vector,
    simplex,
    square,
    stack,
    symmetric,
    unit_interval,
)

__all__ = [
    "Constraint",
    "MixtureSameFamilyConstraint",
    "boolean",
    "cat",
    "corr_cholesky",
    "corr_matrix",
    "dependent",
    "dependent_property",
    "extended_interval",
    "greater_than",
    "greater_than_eq",
    "half_open",
    "half_open_interval",
    "independent",
    "integer",
    "integer_interval",
    "interval",
    "is_dependent",
    "left_open_interval",
    "less_than",
    "lower_cholesky",
    "lower_triangular",
    "multinomial",
    "nonnegative",
    "nonnegative_integer",
    "one_hot",
    "ordered",
    "ordered_vector",
    "positive",
    "positive_definite",
    "positive_integer",
    "positive_ordered",
    "positive_ordered_vector",
    "positive_semidefinite",
    "real",
    "real_vector",
    "same_constraint",
    "simplex",
    "softplus_lower_cholesky",
    "softplus_positive",
    "sphere",
    "square",
    "stack",
    "symmetric",
    "unit_interval",
    "unit_lower_cholesky",
]


def same_constraint(first: object, second: object) -> bool:
    """Tell whether two constraints mean the same region; torch's objects compare by identity only.

    Example:
        >>> same_constraint(interval(0.0, 1.0), interval(0.0, 1.0))
        True
        >>> same_constraint(positive, nonnegative)
        False
    """
    if first is second:
        return True
    if not isinstance(first, Constraint) or type(first) is not type(second):
        return False
    return same_value(vars(first), vars(second))


def same_value(first: Any, second: Any) -> bool:
    """Compare the parts of constraints and transforms: containers and tensors by value."""
    if isinstance(first, Constraint):
        return same_constraint(first, second)
    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        a, b = torch.as_tensor(first), torch.as_tensor(second)
        return a.shape == b.shape and bool((a == b.to(a.device)).all())
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_value(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same_value, first, second))
    return bool(first == second)


class _ByValue(Constraint):
    """A constraint that equals its copies, as an unpickled one is."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and same_value(vars(self), vars(other))

    def __hash__(self) -> int:
        return hash(type(self))


class _Integer(_ByValue):
    """All integers."""

    is_discrete = True

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return value % 1 == 0


class _LeftOpenInterval(_ByValue):
    """From ``lower_bound``, excluded, to ``upper_bound``, included."""

    def __init__(self, lower_bound: float | torch.Tensor, upper_bound: float | torch.Tensor) -> None:
        self.lower_bound = lower_bound
        self.upper_bound = upper_bound
        super().__init__()

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return (self.lower_bound < value) & (value <= self.upper_bound)

    def __repr__(self) -> str:
        return f"LeftOpenInterval(lower_bound={self.lower_bound}, upper_bound={self.upper_bound})"


class _ExtendedInterval(type(unit_interval)):  # type: ignore[misc]
    """From ``lower_bound`` to ``upper_bound``, tensors that may be infinite, entry by entry."""

    def __init__(self, lower_bound: torch.Tensor, upper_bound: torch.Tensor) -> None:
        super().__init__(lower_bound, upper_bound)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and same_value(vars(self), vars(other))

    def __hash__(self) -> int:
        return hash(type(self))


class _Ordered(_ByValue):
    """Vectors that strictly increase."""

    event_dim = 1

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return (value[..., 1:] > value[..., :-1]).all(-1) & (value == value).all(-1)


class _PositiveOrdered(_Ordered):
    """Positive vectors that strictly increase."""

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return super().check(value) & (value[..., :1] > 0).all(-1)


class _SoftplusPositive(type(positive)):  # type: ignore[misc]
    """Positive numbers, reached by softplus instead of exp."""

    def __init__(self) -> None:
        super().__init__(lower_bound=0.0)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class _SoftplusLowerCholesky(type(lower_cholesky), _ByValue):  # type: ignore[misc]
    """Lower-triangular matrices with a positive diagonal, reached by softplus instead of exp."""


class _UnitLowerCholesky(_ByValue):
    """Lower-triangular matrices with ones on the diagonal."""

    event_dim = 2

    def check(self, value: torch.Tensor) -> torch.Tensor:
        is_lower = (value.tril() == value).all(-1).all(-1)
        return is_lower & (value.diagonal(dim1=-2, dim2=-1) == 1).all(-1)


class _CorrMatrix(_ByValue):
    """Positive definite matrices with ones on the diagonal."""

    event_dim = 2

    def check(self, value: torch.Tensor) -> torch.Tensor:
        tolerance = 10 * torch.finfo(value.dtype).eps * value.shape[-1]
        is_unit = ((value.diagonal(dim1=-2, dim2=-1) - 1).abs() <= tolerance).all(-1)
        is_symmetric = torch.isclose(value, value.mT, atol=1e-6).all(-1).all(-1)
        valid: torch.Tensor = is_unit & is_symmetric & (torch.linalg.cholesky_ex(value).info == 0)
        return valid


class _Sphere(_ByValue):
    """Vectors of unit length."""

    event_dim = 1

    def check(self, value: torch.Tensor) -> torch.Tensor:
        tolerance = 10 * torch.finfo(value.dtype).eps * value.shape[-1] ** 0.5
        valid: torch.Tensor = (torch.linalg.vector_norm(value, dim=-1) - 1).abs() <= tolerance
        return valid


integer = _Integer()
extended_interval = _ExtendedInterval
left_open_interval = _LeftOpenInterval
half_open = half_open_interval
ordered = ordered_vector = _Ordered()
positive_ordered = positive_ordered_vector = _PositiveOrdered()
softplus_positive = _SoftplusPositive()
softplus_lower_cholesky = _SoftplusLowerCholesky()
unit_lower_cholesky = _UnitLowerCholesky()
corr_matrix = _CorrMatrix()
sphere = _Sphere()
