"""Arguments that are partly learned: a convex combination of what a model says and a free value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from brancher.distributions import constraints, transform_to
from brancher.symbolic.batches import Value, elementwise
from brancher.symbolic.expressions import Constant, Expression
from brancher.symbolic.parameters import Parameter, base_constraint, smooth

#: First weight of the argument itself beside a bias: the sigmoid of 5.
BIAS_WEIGHT = 0.9933


class Blend(Expression):
    """``weight * given + (1 - weight) * free``.

    Args:
        given: an argument of a variable.
        free: the learned value.
        weight: learned, within the unit interval.
    """

    def __init__(self, given: Expression, free: Parameter, weight: Parameter) -> None:
        super().__init__((given, free, weight))
        self.label = "blend"

    def evaluate(self, values: Sequence[Value]) -> Value:
        return elementwise(lambda given, free, weight: weight * given + (1.0 - weight) * free, values)

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        known = [rank for rank in ranks if rank is not None]
        return max(known) if len(known) == len(ranks) else None


def with_bias(owner: str, argument: str, given: Expression, constraint: Any) -> Expression:
    """An argument mixed with a learned value; as it is where it is a number, or its space is not convex.

    Args:
        owner: name of the variable.
        argument: which argument of it.
        given: the argument.
        constraint: where it lies.
    """
    base = base_constraint(constraint)
    if isinstance(given, (Constant, Parameter)) or base.event_dim:
        return given
    first = transform_to(base)(torch.zeros(()))
    free = Parameter(owner, f"{argument}_bias", first, smooth(base, argument))
    weight = Parameter(owner, f"{argument}_mixing", torch.tensor(BIAS_WEIGHT), constraints.unit_interval)
    return Blend(given, free, weight)
