"""Where a learned value lies, under the names of Brancher 0.3; each gives a constraint.

Example:
    >>> from brancher.symbolic import DeterministicVariable
    >>> from brancher.symbolic.geometric_ranges import RightHalfLine
    >>> DeterministicVariable(2.0, "rate", learnable=True, variable_range=RightHalfLine(0.0)).value
    tensor(2.)
"""

from __future__ import annotations

from torch.distributions.constraints import Constraint

from brancher.distributions import constraints


def UnboundedRange() -> Constraint:
    """All real numbers."""
    return constraints.real


def Interval(lower_bound: float, upper_bound: float) -> Constraint:
    """Numbers between two bounds."""
    found: Constraint = constraints.interval(lower_bound, upper_bound)
    return found


def RightHalfLine(lower_bound: float) -> Constraint:
    """Numbers above a bound."""
    found: Constraint = constraints.positive if lower_bound == 0 else constraints.greater_than(lower_bound)
    return found


def LeftHalfLine(upper_bound: float) -> Constraint:
    """Numbers below a bound."""
    found: Constraint = constraints.less_than(upper_bound)
    return found


def Simplex() -> Constraint:
    """Vectors of numbers >= 0 with sum 1."""
    return constraints.simplex


def PositiveDefiniteMatrix() -> Constraint:
    """Symmetric matrices whose eigenvalues are > 0."""
    return constraints.positive_definite
