"""Functions of expressions that need more than a call of torch: they join, or have random weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from brancher.errors import SiteTypeError
from brancher.symbolic.batches import Value, batch_of, elementwise
from brancher.symbolic.calls import Call, DataFunction
from brancher.symbolic.expressions import Expression, Product, as_expression


def stacked(items: Sequence[Any], dim: int = 1) -> Expression:
    """Put values side by side in a new dimension of the data."""
    parents = [as_expression(item, "BF.stack") for item in items]

    def stack(*values: Value) -> Value:
        tensors, rank = _in_one_batch(values, max(v.rank for v in values))
        return Value(torch.stack(tensors, _data_dim(dim, rank + 1)), rank + 1)

    return DataFunction("stack", stack, parents)


def concatenated(items: Sequence[Any], dim: int = 1) -> Expression:
    """Put values one behind the other along a dimension of the data; scalars count as vectors of one."""
    parents = [as_expression(item, "BF.cat") for item in items]

    def cat(*values: Value) -> Value:
        tensors, rank = _in_one_batch(values, max(1, *(v.rank for v in values)))
        return Value(torch.cat(tensors, _data_dim(dim, rank)), rank)

    return DataFunction("cat", cat, parents)


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
    """``x @ weight.T + bias``, for a column ``weight @ x + bias``; each sample has its own random weights."""

    def apply(x: Value, weight: Value, *bias: Value) -> Value:
        tensor = (x.tensor if x.rank else x.tensor.unsqueeze(-1)).to(weight.tensor.dtype)
        rank = max(x.rank, 1)
        lead = weight.tensor.dim() - 2
        if rank == 1 and tensor.dim() > 1 and lead and weight.tensor.shape[lead - 1] == 1:
            # One weight for all rows of a plate: the rows are those of one matrix product.
            result = tensor @ weight.tensor.squeeze(lead - 1).mT
        elif rank == 2 and x.shape[-1] == 1 and weight.shape[-1] != 1:
            result = weight.tensor @ tensor  # a column, as of a matrix product
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
    return DataFunction("linear", apply, parents)


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
    operands = (as_expression(x, "BF.delta"), as_expression(y, "BF.delta"))
    return Call("delta", lambda a, b: (a == b).to(torch.get_default_dtype()), operands, {}, True)


def dot(x: Any, y: Any) -> Expression:
    """Sum of the products of entries."""
    product = as_expression(x, "BF.dot") * as_expression(y, "BF.dot")
    return Call("sum", lambda z: z.flatten(1).sum(1), (product,), {})


def reshape(x: Any, shape: Sequence[int]) -> Expression:
    """The data in another shape.

    Args:
        x: an expression.
        shape: of one value; one entry may be -1. The batch may be written too, as torch does: a -1 in front
            of a whole shape.
    """
    wanted = tuple(shape)

    def change(tensor: torch.Tensor) -> torch.Tensor:
        count, size = tensor.shape[0], tensor[0].numel()
        with_batch = wanted[:1] == (-1,) and math.prod(wanted[1:]) == size
        return tensor.reshape(wanted if with_batch else (count, *wanted))

    return Call("reshape", change, (as_expression(x, "BF.reshape"),), {})


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


#: By name.
SPECIAL: dict[str, Callable[..., Expression]] = {
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
    "reshape": reshape,
    "batch_meshgrid": batch_meshgrid,
    "triangular_form": triangular_form,
    **{f"conv{n}d": _convolution(n, f"conv{n}d") for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _convolution(n, f"conv_transpose{n}d") for n in (1, 2, 3)},
}
