"""Expressions: a graph of operations on random variables, evaluated when a model runs.

An expression holds no value. It knows its parents, which were there before it, so that sorting
by ``serial`` is a topological order and cycles can not be built.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from brancher.errors import SiteTypeError
from brancher.symbolic.batches import Value, elementwise, raised
from brancher.symbolic.indexing import picked
from brancher.symbolic.operators import SYMBOLS, TORCH_NAMES, Operators

_SERIALS = itertools.count()


class Expression(Operators):
    """A value that a model will compute: a variable, or an operation on some.

    All Python operators give expressions, with numbers, lists, arrays, tensors and pandas objects
    on either side.

    Example:
        >>> from brancher.symbolic import NormalVariable
        >>> a = NormalVariable(0.0, 1.0, "a")
        >>> print(2 * a**2 + a[0] / 3)
        2 * a**2 + a[0] / 3
    """

    def __init__(self, parents: Sequence[Expression] = ()) -> None:
        self.parents = tuple(parents)
        self.serial = next(_SERIALS)

    @abstractmethod
    def evaluate(self, values: Sequence[Value]) -> Value:
        """The value, given those of the parents."""

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        """Number of data dimensions, as far as it is known from the parents' alone."""
        return None

    def _operated(self, symbol: str, *operands: Any) -> Any:
        if any(isinstance(each, Operators) and not isinstance(each, Expression) for each in operands):
            return NotImplemented  # covariances and means have operators of their own
        if symbol == "@":
            return Product(as_expression(operands[0]), as_expression(operands[1]))
        return operation(symbol, *operands)

    def __getitem__(self, key: Any) -> Expression:
        return Item(self, key)

    def __iter__(self) -> NoReturn:
        raise SiteTypeError(
            f"expression '{self}': expected no loop over it, its length is known only when the model runs; "
            "index it, or use functions of BF"
        )

    def __bool__(self) -> bool:
        raise SiteTypeError(
            f"expression '{self}': expected no truth value, it has one only when the model runs; "
            "use BF.where "
            "in place of if"
        )

    if not TYPE_CHECKING:  # which would else let every attribute pass

        def __getattr__(self, name: str) -> NoReturn:
            # Only names that are no attribute come here; those of a tensor's methods are told what to write.
            fix = (
                f"; write BF.{name}(...)" if not name.startswith("_") and hasattr(torch.Tensor, name) else ""
            )
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'{fix}")

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Make an expression of a torch function called with one."""
        from brancher.symbolic.functions import lifted

        name = getattr(func, "__name__", "")
        if name in TORCH_NAMES:
            left, right = args
            return (left if isinstance(left, Expression) else right)._operated(TORCH_NAMES[name], left, right)
        return lifted(name, func)(*args, **(kwargs or {}))

    def __str__(self) -> str:
        from brancher.symbolic.text import plain

        return plain(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_latex_(self) -> str:
        from brancher.symbolic.text import latex

        return f"${latex(self)}$"


class Constant(Expression):
    """A number or array that is written in the model."""

    def __init__(self, tensor: torch.Tensor, shown: Any = None) -> None:
        super().__init__()
        self.value = Value(tensor, tensor.dim())
        self.shown = tensor if shown is None else shown

    def evaluate(self, values: Sequence[Value]) -> Value:
        return self.value

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return self.value.rank


class Given(Expression):
    """A tensor that has a batch on its left, such as the value of a site of a function model.

    Args:
        tensor: shape batch + data.
        rank: number of data dimensions.
        label: how it is written.
    """

    def __init__(self, tensor: torch.Tensor, rank: int = 0, label: str = "given") -> None:
        super().__init__()
        self.value, self.label = Value(tensor, rank), label

    def evaluate(self, values: Sequence[Value]) -> Value:
        return self.value

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return self.value.rank


def as_parent(tensor: torch.Tensor, data_dim: int = 0, label: str = "given") -> Given:
    """Make a parent of variables out of a value of a function model.

    Args:
        tensor: shape batch + data; plates, particles and chains are in the batch.
        data_dim: number of data dimensions, on the right.
        label: how it is written in formulas.

    Example:
        >>> from brancher.symbolic import NormalVariable, as_parent
        >>> def model():
        ...     z = sample("z", dist.Normal(0.0, 1.0))
        ...     return NormalVariable(2 * as_parent(z), 1.0, "y").sample()
        >>> trace(model).get_trace().stochastic_nodes
        ['z', 'y']
    """
    return Given(tensor, data_dim, label)


class _WithNumber:
    """An operator of two operands, one of them a number."""

    def __init__(self, fn: Callable[..., Any], left: Any, right: Any) -> None:
        self.fn, self.is_left = fn, not isinstance(left, Expression)
        self.number = left if self.is_left else right

    def __call__(self, x: torch.Tensor) -> Any:
        return self.fn(self.number, x) if self.is_left else self.fn(x, self.number)


class Operation(Expression):
    """A Python operator on expressions and numbers, entry by entry."""

    def __init__(self, symbol: str, operands: tuple[Any, ...]) -> None:
        super().__init__([each for each in operands if isinstance(each, Expression)])
        self.symbol, self.operands = symbol, operands
        self._fn = SYMBOLS[symbol]
        if len(self.parents) < len(operands):
            # A number stays one: torch knows operations with numbers, and they keep the dtype.
            self._fn = _WithNumber(self._fn, *operands)

    def __bool__(self) -> bool:
        """Tell whether two variables are the same one: lists of variables ask this."""
        if self.symbol in ("==", "!=") and all(hasattr(each, "name") for each in self.operands):
            left, right = self.operands
            return (left is right) == (self.symbol == "==")
        return super().__bool__()

    def evaluate(self, values: Sequence[Value]) -> Value:
        return elementwise(self._fn, values)

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return highest(ranks)


class Item(Expression):
    """An index or slice of the data, or an entry of what a function returned."""

    def __init__(self, whole: Expression, key: Any) -> None:
        keys = key if isinstance(key, tuple) else (key,)
        super().__init__([whole, *[k for k in keys if isinstance(k, Expression)]])
        self.whole, self.key = whole, key

    def evaluate(self, values: Sequence[Value]) -> Value:
        whole = values[0]
        if isinstance(whole.tensor, (dict, tuple)):
            found: Value = whole.tensor[self.key]
            return found
        keys = self.key if isinstance(self.key, tuple) else (self.key,)
        if len(values) > 1:
            return picked(whole, keys, values[1:])
        keys = tuple(map(_as_index, keys))
        if not whole.rank and all(isinstance(k, int) and k in (0, -1) for k in keys):
            return whole  # a scalar is its only entry
        used = sum(k is not None and k is not Ellipsis for k in keys)
        if used > whole.rank:
            raise SiteTypeError(
                f"expression '{self}': expected at most {whole.rank} indices for data of shape "
                f"{tuple(whole.shape)}, got {used}; dimensions of samples and data points are not indexed"
            )
        lead = whole.tensor.dim() - whole.rank
        tensor = whole.tensor[(slice(None),) * lead + keys]
        return Value(tensor, tensor.dim() - lead)


class Product(Expression):
    """Matrix product of data: matrix or vector with matrix or vector, for every entry of the batch."""

    def __init__(self, left: Expression, right: Expression) -> None:
        super().__init__((left, right))

    def evaluate(self, values: Sequence[Value]) -> Value:
        left, right = (v if v.rank else Value(v.tensor.unsqueeze(-1), 1) for v in values)
        rank = max(left.rank, right.rank, 2)
        a = raised(left if left.rank > 1 else Value(left.tensor.unsqueeze(-2), 2), rank)
        b = raised(right if right.rank > 1 else Value(right.tensor.unsqueeze(-1), 2), rank)
        dtype = torch.promote_types(a.dtype, b.dtype)
        result = torch.matmul(a.to(dtype), b.to(dtype))
        if right.rank == 1:
            result, rank = result.squeeze(-1), rank - 1
        if left.rank == 1:
            result, rank = result.squeeze(-1 if right.rank == 1 else -2), rank - 1
        return Value(result, rank)


def highest(ranks: Sequence[int | None]) -> int | None:
    """The largest rank; None where one is not known."""
    return max((r for r in ranks if r is not None), default=0) if None not in ranks else None


def operation(symbol: str, *operands: Any) -> Expression:
    """An operator on one or two operands, at least one of them an expression."""
    return Operation(symbol, tuple(map(_operand, operands)))


def _operand(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float)) else as_expression(value)


def _as_index(key: Any) -> Any:
    return torch.as_tensor(np.asarray(key)) if isinstance(key, (list, np.ndarray)) else key


def as_expression(value: Any, label: str = "expression") -> Expression:
    """Make an expression of a number, list, array, tensor or pandas object.

    Args:
        value: what was written in the model; lists may hold expressions.
        label: what it is for, for the message.

    Raises:
        SiteTypeError: it is nothing numeric.

    Example:
        >>> as_expression([1.0, 2.0]).evaluate(()).shape
        torch.Size([2])
    """
    if isinstance(value, Expression):
        return value
    if isinstance(value, (list, tuple)) and _holds_expression(value):
        from brancher.symbolic.special import stacked

        return stacked([as_expression(item, label) for item in value])
    return Constant(as_tensor(value, label), value if isinstance(value, (bool, int, float)) else None)


#: Whole numbers that arithmetic would overflow, such as those of images.
_SMALL_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32)


def as_tensor(value: Any, label: str) -> torch.Tensor:
    """Make a tensor of a number, list, array, tensor or pandas object; of the default dtype, or int64.

    Raises:
        SiteTypeError: it is nothing numeric.
    """
    if isinstance(value, torch.Tensor):
        return value.long() if value.dtype in _SMALL_INTEGERS else value
    try:
        if isinstance(value, (list, tuple)) and any(isinstance(item, torch.Tensor) for item in value):
            return torch.stack([as_tensor(item, label) for item in value])
        # A copy: an array may be read-only, or be changed later.
        array = np.array(value.to_numpy() if hasattr(value, "to_numpy") else value)
        if array.dtype.kind not in "biuf":
            raise TypeError
        tensor = torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        if isinstance(value, (list, tuple)) and value:
            kind += f" of {type(value[0]).__name__}"
        raise SiteTypeError(
            f"{label}: expected a number, list, array, tensor, pandas object or expression, got {kind}; "
            "encode text as numbers first"
        ) from None
    if tensor.is_floating_point():
        return tensor.to(torch.get_default_dtype())
    return tensor.long() if tensor.dtype in _SMALL_INTEGERS else tensor


def _holds_expression(items: Sequence[Any]) -> bool:
    return any(
        isinstance(item, Expression) or (isinstance(item, (list, tuple)) and _holds_expression(item))
        for item in items
    )
