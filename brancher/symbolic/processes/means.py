"""Mean functions of Gaussian processes, and their algebra."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from brancher.distributions import constraints
from brancher.errors import SiteTypeError
from brancher.symbolic.expressions import Expression, as_expression, operation
from brancher.symbolic.operators import Operators
from brancher.symbolic.parameters import learnable as as_learnable


class Mean(Operators):
    """A mean function; Python's operators join it with numbers, variables and other mean functions."""

    @abstractmethod
    def __call__(self, x: Expression) -> Expression:
        """Means at inputs of shape (N,) or (N, D): shape (N,), or () for one that all share."""

    def _operated(self, symbol: str, *operands: Any) -> Any:
        means = [as_mean(each) for each in operands]
        return MeanFunction(lambda x: operation(symbol, *[mean(x) for mean in means]))


class ConstantMean(Mean):
    """The same mean everywhere.

    Args:
        value: a number, variable or expression.
        learnable: whether a value given as a number is learned.
        name: of what is learned.
    """

    def __init__(self, value: Any = 0.0, learnable: bool = False, name: str = "mean") -> None:
        if learnable and not isinstance(value, Expression):
            self.value: Expression = as_learnable(name, "value", value, constraints.real)
        else:
            self.value = as_expression(value, "mean of a Gaussian process")

    def __call__(self, x: Expression) -> Expression:
        return self.value


class MeanFunction(Mean):
    """A mean function written by hand.

    Args:
        fn: makes the means of the inputs, which it gets as an expression of shape (N,) or (N, D).

    Example:
        >>> from brancher.symbolic import NormalVariable
        >>> from brancher.symbolic.processes import MeanFunction
        >>> slope = NormalVariable(0.0, 1.0, "slope")
        >>> line = MeanFunction(lambda x: slope * x)
    """

    def __init__(self, fn: Callable[[Expression], Expression]) -> None:
        self.fn = fn

    def __call__(self, x: Expression) -> Expression:
        return as_expression(self.fn(x), "mean of a Gaussian process")


def as_mean(value: Any) -> Mean:
    """Make a mean function of a number, an expression or a function of inputs.

    Raises:
        SiteTypeError: it is none of these.
    """
    if isinstance(value, Mean):
        return value
    if callable(value) and not isinstance(value, Expression):
        return MeanFunction(value)
    try:
        return ConstantMean(value)
    except SiteTypeError:
        raise SiteTypeError(
            f"Gaussian process: expected a mean as a number, variable or function of inputs, got "
            f"{type(value).__name__}"
        ) from None
