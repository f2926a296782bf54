"""Python's operators: every one of them becomes an operation with a symbol."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brancher.symbolic.expressions import Expression

#: What each symbol does to tensors; the matrix product ``@`` is no operation of entries and not here.
SYMBOLS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "&": operator.and_,
    "|": operator.or_,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "neg": operator.neg,
    "abs": operator.abs,
    "~": operator.invert,
}
#: Symbols by the names that torch gives the operators of a tensor on the left.
TORCH_NAMES = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "**",
    "matmul": "@",
    "__matmul__": "@",
    "__floordiv__": "//",
    "remainder": "%",
    "__and__": "&",
    "__or__": "|",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}


class Operators(ABC):
    """Every Python operator, in both orders, as a call of one method."""

    # numpy, pandas and torch leave an operation to its other side when they see these.
    __array_priority__ = 1000
    __array_ufunc__ = None
    __pandas_priority__ = 10_000

    @abstractmethod
    def _operated(self, symbol: str, *operands: Any) -> Expression:
        """The operation of a symbol on one or two operands."""

    def __add__(self, other: Any) -> Expression:
        return self._operated("+", self, other)

    def __radd__(self, other: Any) -> Expression:
        return self._operated("+", other, self)

    def __sub__(self, other: Any) -> Expression:
        return self._operated("-", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return self._operated("-", other, self)

    def __mul__(self, other: Any) -> Expression:
        return self._operated("*", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return self._operated("*", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return self._operated("/", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return self._operated("/", other, self)

    def __floordiv__(self, other: Any) -> Expression:
        return self._operated("//", self, other)

    def __rfloordiv__(self, other: Any) -> Expression:
        return self._operated("//", other, self)

    def __mod__(self, other: Any) -> Expression:
        return self._operated("%", self, other)

    def __rmod__(self, other: Any) -> Expression:
        return self._operated("%", other, self)

    def __pow__(self, other: Any) -> Expression:
        return self._operated("**", self, other)

    def __rpow__(self, other: Any) -> Expression:
        return self._operated("**", other, self)

    def __matmul__(self, other: Any) -> Expression:
        return self._operated("@", self, other)

    def __rmatmul__(self, other: Any) -> Expression:
        return self._operated("@", other, self)

    def __and__(self, other: Any) -> Expression:
        return self._operated("&", self, other)

    def __rand__(self, other: Any) -> Expression:
        return self._operated("&", other, self)

    def __or__(self, other: Any) -> Expression:
        return self._operated("|", self, other)

    def __ror__(self, other: Any) -> Expression:
        return self._operated("|", other, self)

    def __lt__(self, other: Any) -> Expression:
        return self._operated("<", self, other)

    def __le__(self, other: Any) -> Expression:
        return self._operated("<=", self, other)

    def __gt__(self, other: Any) -> Expression:
        return self._operated(">", self, other)

    def __ge__(self, other: Any) -> Expression:
        return self._operated(">=", self, other)

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return self._operated("==", self, other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return self._operated("!=", self, other)

    __hash__ = object.__hash__

    def __neg__(self) -> Expression:
        return self._operated("neg", self)

    def __invert__(self) -> Expression:
        return self._operated("~", self)

    def __abs__(self) -> Expression:
        return self._operated("abs", self)

    def __pos__(self) -> Any:
        return self
