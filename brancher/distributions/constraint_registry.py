"""From constraints to transforms: torch's two registries, completed.

``transform_to`` gives any differentiable map onto the region, for optimisation; ``biject_to`` gives
a bijection with a log-determinant, for sampling and variational inference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.distributions import biject_to, transform_to

from brancher.distributions import constraints
from brancher.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    CorrCholeskyTransform,
    CorrMatrixTransform,
    ExpTransform,
    ExtendedIntervalTransform,
    LowerCholeskyVectorTransform,
    Normalize,
    OrderedTransform,
    PositiveDefiniteFromCholesky,
    SigmoidTransform,
    SoftplusLowerCholeskyTransform,
    SoftplusLowerCholeskyVectorTransform,
    SoftplusTransform,
    StereographicTransform,
    Transform,
    UnitLowerCholeskyTransform,
    UnitLowerCholeskyVectorTransform,
)

__all__ = ["biject_to", "transform_to"]

_Factory = Callable[[Any], Transform]


def _corr_matrix(constraint: Any) -> Transform:
    return ComposeTransform([CorrCholeskyTransform(), CorrMatrixTransform()])


def _positive_definite(constraint: Any) -> Transform:
    return ComposeTransform([LowerCholeskyVectorTransform(), PositiveDefiniteFromCholesky()])


def _positive_ordered(constraint: Any) -> Transform:
    return ComposeTransform([OrderedTransform(), ExpTransform()])


def _left_open_interval(constraint: Any) -> Transform:
    width = constraint.upper_bound - constraint.lower_bound
    return ComposeTransform([SigmoidTransform(), AffineTransform(constraint.lower_bound, width)])


def _extended_interval(constraint: Any) -> Transform:
    return ExtendedIntervalTransform(constraint.lower_bound, constraint.upper_bound)


def _only(transform: type[Transform]) -> _Factory:
    """A factory for a transform that takes nothing from the constraint."""
    return lambda constraint: transform()


_BOTH: list[tuple[Any, _Factory]] = [
    (constraints.corr_cholesky, _only(CorrCholeskyTransform)),
    (constraints.corr_matrix, _corr_matrix),
    (constraints.ordered, _only(OrderedTransform)),
    (constraints.positive_ordered, _positive_ordered),
    (constraints.softplus_positive, _only(SoftplusTransform)),
    (constraints.left_open_interval, _left_open_interval),
    (constraints.extended_interval, _extended_interval),
]
_BIJECTIVE: list[tuple[Any, _Factory]] = [
    (constraints.lower_cholesky, _only(LowerCholeskyVectorTransform)),
    (constraints.positive_definite, _positive_definite),
    (constraints.positive_semidefinite, _positive_definite),
    (constraints.softplus_lower_cholesky, _only(SoftplusLowerCholeskyVectorTransform)),
    (constraints.unit_lower_cholesky, _only(UnitLowerCholeskyVectorTransform)),
    (constraints.sphere, _only(StereographicTransform)),
    (constraints.MixtureSameFamilyConstraint, lambda mixture: biject_to(mixture.base_constraint)),
]
_ONTO: list[tuple[Any, _Factory]] = [
    (constraints.softplus_lower_cholesky, _only(SoftplusLowerCholeskyTransform)),
    (constraints.unit_lower_cholesky, _only(UnitLowerCholeskyTransform)),
    (constraints.sphere, _only(Normalize)),
    (constraints.MixtureSameFamilyConstraint, lambda mixture: transform_to(mixture.base_constraint)),
]

for _constraint, _factory in _BOTH + _BIJECTIVE:
    biject_to.register(_constraint, _factory)
for _constraint, _factory in _BOTH + _ONTO:
    transform_to.register(_constraint, _factory)
