"""Covariance functions of Gaussian processes, and their algebra.

A covariance function makes, of two sets of inputs, the expression of a matrix. Its settings are numbers,
random variables or learned values, like the arguments of a variable. Sums, products and scaled ones are
covariance functions again. Inputs have the shape (N,) or (N, D).

Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", chapter 4.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch

from brancher.errors import SiteError, SiteTypeError
from brancher.symbolic.batches import Value
from brancher.symbolic.calls import DataFunction
from brancher.symbolic.expressions import Expression, as_expression
from brancher.symbolic.operators import Operators
from brancher.symbolic.parameters import Parameter


class Covariance(Operators):
    """A covariance function: the base of :class:`SquaredExponentialCovariance` and its like.

    ``+`` and ``*`` join two of them; a number, variable or expression scales one by ``*``, and adds a
    constant by ``+``.
    """

    @abstractmethod
    def between(self, x: Expression, y: Expression, is_same: bool) -> Expression:
        """The matrix of covariances, N x M.

        Args:
            x: N inputs.
            y: M inputs.
            is_same: whether ``x`` and ``y`` are the same measurements, which have their noise in common.
        """

    def settings(self) -> Iterator[Expression]:
        """Everything that the covariance depends on besides the inputs."""
        return iter(())

    def __call__(self, x: Any, y: Any = None) -> Expression:
        """The matrix of covariances as an expression.

        Args:
            x: inputs of shape (N,) or (N, D).
            y: other inputs, or the same for None.
        """
        left = as_expression(x, "covariance, inputs")
        if y is None:
            return self.between(left, left, True)
        return self.between(left, as_expression(y, "covariance, inputs"), False)

    def _operated(self, symbol: str, *operands: Any) -> Any:
        if symbol not in ("+", "*") or len(operands) != 2:
            raise SiteTypeError(
                f"covariance: expected + or * with a covariance, number or variable, got '{symbol}'; other "
                "operations do not give covariances"
            )
        left, right = (each if isinstance(each, Covariance) else _Constant(each) for each in operands)
        return _Joint(symbol, left, right)


class _Constant(Covariance):
    """One number for all pairs of inputs."""

    def __init__(self, value: Any) -> None:
        self.value = as_expression(value, "covariance")

    def settings(self) -> Iterator[Expression]:
        yield self.value

    def between(self, x: Expression, y: Expression, is_same: bool) -> Expression:
        return self.value

    def __repr__(self) -> str:
        return str(self.value)


class _Joint(Covariance):
    """Sum or product of two covariance functions."""

    def __init__(self, symbol: str, left: Covariance, right: Covariance) -> None:
        self.symbol, self.left, self.right = symbol, left, right
        _check_labels(self.settings())

    def settings(self) -> Iterator[Expression]:
        yield from self.left.settings()
        yield from self.right.settings()

    def between(self, x: Expression, y: Expression, is_same: bool) -> Expression:
        left, right = self.left.between(x, y, is_same), self.right.between(x, y, is_same)
        return left + right if self.symbol == "+" else left * right

    def __repr__(self) -> str:
        parts = [
            f"({part!r})"
            if self.symbol == "*" and isinstance(part, _Joint) and part.symbol == "+"
            else repr(part)
            for part in (self.left, self.right)
        ]
        return f" {self.symbol} ".join(parts)


def _check_labels(settings: Iterator[Expression]) -> None:
    first: dict[str, Parameter] = {}
    for setting in settings:
        if isinstance(setting, Parameter) and first.setdefault(setting.label, setting) is not setting:
            raise SiteError(
                f"covariance '{setting.owner}': expected one learned '{setting.argument}' of this name, "
                "got two; give name="
            )


def as_points(inputs: Value) -> torch.Tensor:
    """Inputs as batch + (N, D).

    Raises:
        SiteError: they are neither a vector nor a matrix.
    """
    if inputs.rank not in (1, 2):
        raise SiteError(
            f"Gaussian process: expected inputs of shape (N,) or (N, D), got {tuple(inputs.shape)}; a "
            "RootVariable of inputs is made without is_observed"
        )
    tensor: torch.Tensor = inputs.tensor
    return tensor.unsqueeze(-1) if inputs.rank == 1 else tensor


class CovarianceFunction(Covariance):
    """A covariance function written by hand.

    Args:
        fn: makes the covariance of two inputs, given as expressions that broadcast against each other;
            it must be positive definite. Inputs are numbers.

    Example:
        >>> from brancher.symbolic import BF
        >>> from brancher.symbolic.processes import CovarianceFunction
        >>> k = CovarianceFunction(lambda x, y: BF.exp(-abs(x - y)))
        >>> print(k([0.0, 1.0]))
        exp(-abs(rows([0, 1]) - columns([0, 1])))
    """

    def __init__(self, fn: Callable[[Expression, Expression], Expression]) -> None:
        if not callable(fn):
            raise SiteTypeError(
                f"CovarianceFunction: expected a function of two inputs, got {type(fn).__name__}"
            )
        self.fn = fn

    def between(self, x: Expression, y: Expression, is_same: bool) -> Expression:
        return self.fn(DataFunction("rows", _as_column, [x]), DataFunction("columns", _as_row, [y]))


def _as_column(x: Value) -> Value:
    points = as_points(x)
    if points.shape[-1] != 1:
        raise SiteError(f"CovarianceFunction: expected inputs of shape (N,), got {tuple(x.shape)}")
    return Value(points, 2)


def _as_row(y: Value) -> Value:
    return Value(_as_column(y).tensor.mT, 2)
