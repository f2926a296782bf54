"""Python's operators: every one of them becomes an operation with a symbol."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from brancher.errors import SiteTypeError

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
    "^": operator.xor,
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
    "__xor__": "^",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}


#: Symbols by the names that numpy gives the operators of an array on the left.
NUMPY_NAMES = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "floor_divide": "//",
    "remainder": "%",
    "power": "**",
    "matmul": "@",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
    "logical_not": "~",
    "invert": "~",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "negative": "neg",
    "absolute": "abs",
}


class Operators(ABC):
    """Every Python operator, in both orders, as a call of one method."""

    # numpy and pandas leave an operation to its other side when they see these.
    __array_priority__ = 1000
    __pandas_priority__ = 10_000

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Make an expression of a function of numpy that works entry by entry, such as ``np.sin``."""
        if method != "__call__" or options:
            raise SiteTypeError(
                f"expression '{self}': expected a plain call of numpy's {ufunc.__name__}, got {method} with "
                f"options {sorted(options)}; use the functions of BF"
            )
        if ufunc.__name__ in NUMPY_NAMES:
            return self._operated(NUMPY_NAMES[ufunc.__name__], *inputs)
        from brancher.symbolic import functions

        return getattr(functions, ufunc.__name__)(*inputs)

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise SiteTypeError(
            f"expression '{self}': expected no conversion to an array, it has values only when the model "
            "runs; use the functions of BF, or write the expression on the left"
        )

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

    def __xor__(self, other: Any) -> Expression:
        return self._operated("^", self, other)

    def __rxor__(self, other: Any) -> Expression:
        return self._operated("^", other, self)

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
