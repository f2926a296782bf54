"""``BF``: the functions of torch on expressions.

Every function of ``torch``, ``torch.nn.functional``, ``torch.special`` and ``torch.linalg`` is here
under its own name: ``BF.sin(b)``, ``BF.softplus(x)``, ``BF.cholesky(k)``; a namespace of torch can be
named as well, ``BF.linalg.inv(k)``. Functions of entries broadcast data. In all others dimension 0 is
the batch of samples and data points, and data begin at dimension 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from brancher.errors import SiteTypeError, nearest
from brancher.symbolic.batches import Value, batch_of, elementwise, flattened, unflattened
from brancher.symbolic.elementwise_names import ALONG_LAST, ELEMENTWISE, NEEDS_TENSORS, REDUCTIONS
from brancher.symbolic.expressions import Expression, Product, as_expression, highest

_PLACES: tuple[Any, ...] = (torch, functional, torch.special, torch.linalg)
_NAMESPACES = {"linalg": torch.linalg, "special": torch.special, "fft": torch.fft, "functional": functional}


class _Slot:
    """Stands for an expression among the arguments of a function."""


_SLOT = _Slot()


class Call(Expression):
    """A function called with expressions among its arguments.

    Args:
        label: its name.
        fn: the function.
        args: its arguments; expressions may be inside lists, tuples and dicts.
        kwargs: its keyword arguments.
        is_elementwise: whether data broadcast with data; else the batch is flattened into dimension 0.
    """

    def __init__(
        self, label: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], is_elementwise: bool = False
    ) -> None:
        found: list[Expression] = []
        self._template = _emptied((args, kwargs), found)
        super().__init__(found)
        self.label, self.fn, self.is_elementwise = label, fn, is_elementwise

    @property
    def module(self) -> torch.nn.Module | None:
        """The network whose parameters the function has."""
        owner = self.fn if isinstance(self.fn, torch.nn.Module) else getattr(self.fn, "__self__", None)
        return owner if isinstance(owner, torch.nn.Module) else None

    def evaluate(self, values: Sequence[Value]) -> Value:
        return self.evaluate_by(self.fn, values)

    def evaluate_by(self, fn: Callable[..., Any], values: Sequence[Value]) -> Value:
        """The value, with ``fn`` in place of the function."""

        def call(*tensors: Any) -> Any:
            args, kwargs = _filled(self._template, iter(tensors))
            return fn(*args, **kwargs)

        if self.is_elementwise:
            return elementwise(call, values)
        batch = batch_of([leaf for value in values for leaf in _leaves(value)])
        return unflattened(call(*[_flat(value, batch) for value in values]), batch, self.label)

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return highest(ranks) if self.is_elementwise else None


def _emptied(item: Any, found: list[Expression]) -> Any:
    if isinstance(item, Expression):
        found.append(item)
        return _SLOT
    if isinstance(item, (list, tuple)):
        return type(item)(_emptied(each, found) for each in item)
    if isinstance(item, dict):
        return {key: _emptied(each, found) for key, each in item.items()}
    return item


def _filled(item: Any, tensors: Iterator[Any]) -> Any:
    if item is _SLOT:
        return next(tensors)
    if isinstance(item, (list, tuple)):
        return type(item)(_filled(each, tensors) for each in item)
    if isinstance(item, dict):
        return {key: _filled(each, tensors) for key, each in item.items()}
    return item


def _leaves(value: Value) -> Iterator[Value]:
    if isinstance(value.tensor, (tuple, dict)):
        for item in value.tensor.values() if isinstance(value.tensor, dict) else value.tensor:
            yield from _leaves(item)
    else:
        yield value


def _flat(value: Value, batch: torch.Size) -> Any:
    if isinstance(value.tensor, dict):
        return {key: _flat(item, batch) for key, item in value.tensor.items()}
    if isinstance(value.tensor, tuple):
        return tuple(_flat(item, batch) for item in value.tensor)
    return flattened(value, batch)


class _Data(Expression):
    """A function of values as they are, batch on the left, that takes care of the batch itself."""

    def __init__(self, label: str, fn: Callable[..., Value], parents: Sequence[Expression]) -> None:
        super().__init__(parents)
        self.label, self.fn = label, fn

    def evaluate(self, values: Sequence[Value]) -> Value:
        return self.fn(*values)


def lifted(name: str, fn: Callable[..., Any]) -> Callable[..., Expression]:
    """Make a function of expressions of a function of tensors.

    Args:
        name: how torch calls it, which decides how it treats dimensions.
        fn: the function.
    """
    if name in _SPECIAL:
        return _SPECIAL[name]

    def call(*args: Any, **kwargs: Any) -> Expression:
        if name in ELEMENTWISE:
            return Call(name, fn, _operands(name, args), kwargs, is_elementwise=True)
        if not _has_expression((args, kwargs)):
            return as_expression(fn(*_as_tensors(args), **kwargs))
        if name in REDUCTIONS:
            return _reduced(name, fn, args, kwargs)
        if name in ALONG_LAST and len(args) < 2 and not kwargs.keys() & {"dim", "dims"}:
            kwargs = {**kwargs, "dims" if name in ("flip", "roll") else "dim": -1}
        return Call(name, fn, args, kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"``{name}`` of torch, on expressions."
    return call


def _operands(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    is_first = True
    operands = []
    for arg in args:
        plain = isinstance(arg, (bool, int, float)) and not (is_first or name in NEEDS_TENSORS)
        operands.append(
            arg if plain or isinstance(arg, str) or arg is None else as_expression(arg, f"BF.{name}")
        )
        is_first = False
    return tuple(operands)


def _has_expression(item: Any) -> bool:
    found: list[Expression] = []
    _emptied(item, found)
    return bool(found)


def _as_tensors(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(torch.as_tensor(arg) if isinstance(arg, np.ndarray) else arg for arg in args)


def _reduced(name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Expression:
    if name in ("max", "min") and len(args) == 2 and not isinstance(args[1], int):
        return lifted(f"{name}imum", getattr(torch, f"{name}imum"))(*args)
    takes_order = name in ("norm", "vector_norm")
    dims = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 and not takes_order else None))
    if dims is None:
        whole = {"max": torch.amax, "min": torch.amin}.get(name, fn)

        def reduce_all(x: torch.Tensor, *rest: Any, **options: Any) -> Any:
            result = whole(x.flatten(1), *rest, **{**options, "dim": 1})
            return result.values if name in ("median", "nanmedian") else result

        return Call(name, reduce_all, args, kwargs)
    if 0 in (dims if isinstance(dims, (tuple, list)) else (dims,)):
        raise SiteTypeError(
            f"BF.{name}: expected a dimension of the data, dim >= 1 or < 0, got dim={dims}; dimension 0 is the "
            "batch of samples and data points"
        )
    return Call(name, fn, args, kwargs)


# Functions that need more than torch's own


def BrancherFunction(f: Any) -> Callable[..., Expression]:
    """Make a function of expressions of any callable or network.

    It is called with tensors whose dimension 0 is the batch. A network's parameters are learned
    with the model. It may return a dict or tuple of tensors: ``net(x)["mean"]``.

    Args:
        f: a callable; a ``torch.nn.Module``, or a method of one.

    Raises:
        SiteTypeError: it can not be called.

    Example:
        >>> from brancher.symbolic import BF, NormalVariable
        >>> x = NormalVariable([0.0, 0.0], 1.0, "x")
        >>> print(BF.BrancherFunction(torch.nn.Linear(2, 1))(x))
        Linear(x)
    """
    if not callable(f):
        raise SiteTypeError(
            f"BrancherFunction: expected a callable or torch.nn.Module, got {type(f).__name__}"
        )
    label = getattr(f, "__name__", type(f).__name__)
    return lambda *args, **kwargs: Call(label, f, args, kwargs)


def stacked(items: Sequence[Any], dim: int = 1) -> Expression:
    """Put values side by side in a new dimension of the data."""
    parents = [as_expression(item, "BF.stack") for item in items]

    def stack(*values: Value) -> Value:
        tensors, rank = _in_one_batch(values, max(v.rank for v in values))
        return Value(torch.stack(tensors, _data_dim(dim, rank + 1)), rank + 1)

    return _Data("stack", stack, parents)


def concatenated(items: Sequence[Any], dim: int = 1) -> Expression:
    """Put values one behind the other along a dimension of the data; scalars count as vectors of one."""
    parents = [as_expression(item, "BF.cat") for item in items]

    def cat(*values: Value) -> Value:
        tensors, rank = _in_one_batch(values, max(1, *(v.rank for v in values)))
        return Value(torch.cat(tensors, _data_dim(dim, rank)), rank)

    return _Data("cat", cat, parents)


def _data_dim(dim: int, rank: int) -> int:
    if dim == 0:
        raise SiteTypeError(
            "BF: expected a dimension of the data, dim >= 1 or < 0, got dim=0, which is the batch"
        )
    return dim if dim < 0 else dim - 1 - rank


def _in_one_batch(values: Sequence[Value], rank: int) -> tuple[list[torch.Tensor], int]:
    full = [Value(v.tensor.reshape(v.tensor.shape + (1,) * (rank - v.rank)), rank) for v in values]
    batch = batch_of(full)
    return [v.tensor.expand(batch + v.shape) for v in full], rank


def linear(x: Any, weight: Any, bias: Any = None) -> Expression:
    """``x @ weight.T + bias``, with weights that may be random: each sample uses its own."""

    def apply(x: Value, weight: Value, *bias: Value) -> Value:
        tensor = x.tensor if x.rank else x.tensor.unsqueeze(-1)
        rank = max(x.rank, 1)
        lead = weight.tensor.dim() - 2
        if rank == 1 and tensor.dim() > 1 and lead and weight.tensor.shape[lead - 1] == 1:
            # One weight for all rows of a plate: the rows are those of one matrix product.
            result = tensor @ weight.tensor.squeeze(lead - 1).mT
        elif rank == 1:
            result = (weight.tensor @ tensor.unsqueeze(-1)).squeeze(-1)
        else:
            result = (
                tensor
                @ weight.tensor.reshape(weight.tensor.shape[:lead] + (1,) * (rank - 2) + weight.shape).mT
            )
        out = Value(result, rank)
        return elementwise(torch.add, [out, *bias]) if bias else out

    parents = [as_expression(each, "BF.linear") for each in (x, weight, bias) if each is not None]
    return _Data("linear", apply, parents)


def _convolution(dims: int, name: str) -> Callable[..., Expression]:
    plain = getattr(functional, name)

    def each(
        x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, options: dict[str, Any]
    ) -> torch.Tensor:
        # Samples become groups of channels of one image: every sample meets its own weights.
        count, groups = x.shape[0], options.pop("groups", 1)
        image = x.reshape(1, -1, *x.shape[2:])
        kernel = weight.reshape(-1, *weight.shape[2:])
        result = plain(
            image, kernel, None if bias is None else bias.reshape(-1), groups=count * groups, **options
        )
        return result.reshape(count, -1, *result.shape[2:])  # type: ignore[no-any-return]

    names = ("bias", "stride", "padding", "dilation", "groups")

    def convolve(x: Any, weight: Any, *args: Any, **kwargs: Any) -> Expression:
        options = {**dict(zip(names, args, strict=False)), **kwargs}
        bias = options.pop("bias", None)
        if not isinstance(weight, Expression) and not isinstance(bias, Expression):
            return Call(name, plain, (x, weight, bias), options)
        parts = [as_expression(part, f"BF.{name}") for part in (x, weight, bias) if part is not None]
        return Call(name, lambda x, w, *b: each(x, w, b[0] if b else None, dict(options)), tuple(parts), {})

    convolve.__name__ = name
    convolve.__doc__ = f"Convolution over {dims} dimensions, with weights that may be random."
    return convolve


def delta(x: Any, y: Any) -> Expression:
    """1 where two values are equal, else 0."""
    return Call(
        "delta", lambda a, b: (a == b).to(torch.get_default_dtype()), _operands("eq", (x, y)), {}, True
    )


def dot(x: Any, y: Any) -> Expression:
    """Sum of the products of entries."""
    product: Any = as_expression(x, "BF.dot") * as_expression(y, "BF.dot")
    return _reduced("sum", torch.sum, (product,), {})


def batch_meshgrid(x: Any, y: Any) -> Expression:
    """Two vectors as the coordinates of a grid; a tuple of two matrices, rows from x, columns from y."""

    def grid(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (a.shape[0], a.shape[1], b.shape[1])
        return a.unsqueeze(2).expand(shape), b.unsqueeze(1).expand(shape)

    return Call("batch_meshgrid", grid, (as_expression(x), as_expression(y)), {})


def triangular_form(x: Any) -> Expression:
    """A vector of n (n + 1) / 2 entries as a lower triangular matrix, row by row."""

    def fill(entries: torch.Tensor) -> torch.Tensor:
        size = int((2 * entries.shape[-1] + 0.25) ** 0.5)
        rows, columns = torch.tril_indices(size, size, device=entries.device)
        matrix = entries.new_zeros((*entries.shape[:-1], size * size))
        place = (rows * size + columns).expand(entries.shape)
        return matrix.scatter(-1, place, entries).reshape(*entries.shape[:-1], size, size)

    return Call("triangular_form", fill, (as_expression(x),), {})


def _product(left: Any, right: Any) -> Expression:
    return Product(as_expression(left, "BF.matmul"), as_expression(right, "BF.matmul"))


_SPECIAL: dict[str, Callable[..., Expression]] = {
    "stack": stacked,
    "cat": concatenated,
    "concat": concatenated,
    "concatenate": concatenated,
    "linear": linear,
    "matmul": _product,
    "mm": _product,
    "bmm": _product,
    "mv": _product,
    "dot": dot,
    "inner": dot,
    "delta": delta,
    "batch_meshgrid": batch_meshgrid,
    "triangular_form": triangular_form,
    **{f"conv{n}d": _convolution(n, f"conv{n}d") for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _convolution(n, f"conv_transpose{n}d") for n in (1, 2, 3)},
}


class _Namespace:
    """The functions of one module of torch."""

    def __init__(self, name: str, module: ModuleType) -> None:
        self._name, self._module = name, module

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        fn = getattr(self._module, name, None)
        if name.startswith("_") or not callable(fn):
            raise AttributeError(
                f"BF.{self._name}: torch has no function '{name}'{nearest(name, dir(self._module))}"
            )
        return lifted(name, fn)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _SPECIAL:
        return _SPECIAL[name]
    if name in _NAMESPACES:
        return _Namespace(name, _NAMESPACES[name])
    for place in _PLACES:
        fn = getattr(place, name, None)
        if callable(fn) and not name.startswith("_"):
            return lifted(name, fn)
    known = [each for place in _PLACES for each in dir(place)]
    raise AttributeError(f"BF: expected a function of torch, got '{name}'{nearest(name, known) or ''}")


def __dir__() -> list[str]:
    found = {each for place in _PLACES for each in dir(place) if each.islower() and not each.startswith("_")}
    return sorted(found | _SPECIAL.keys() | {"BrancherFunction"})
