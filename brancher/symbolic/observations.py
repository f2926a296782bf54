"""What users observe, as a tensor that knows which of its dimensions counts data points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from brancher.errors import SiteError, SiteTypeError
from brancher.symbolic.batches import Value, fitted
from brancher.symbolic.expressions import Expression, as_tensor


class Observation(NamedTuple):
    """Data of one variable.

    Attributes:
        tensor: shape data, or (rows,) + data.
        rows: how many data points there are; None for a single one.
    """

    tensor: torch.Tensor
    rows: int | None


def as_data(name: str, value: Any) -> torch.Tensor | Expression:
    """Take what was given to ``observe``: a tensor, or the expression that gives the data.

    Raises:
        SiteTypeError: it is nothing numeric.
    """
    if isinstance(value, Expression):
        return value
    if hasattr(value, "columns"):
        value = _own_column(name, value)
    if hasattr(value, "to_numpy") and getattr(value, "dtype", None) == np.dtype(object):
        value = np.stack([np.asarray(each) for each in value.to_numpy()])  # a column of arrays
    return as_tensor(value, f"variable '{name}', observed data").detach()


def _own_column(name: str, table: Any) -> Any:
    """The variable's column of a table of draws; a table of numbers without one is an array."""
    if name in table.columns:
        return table[name]
    if any(kind == np.dtype(object) for kind in table.dtypes):
        raise SiteTypeError(
            f"variable '{name}', observed data: expected a table with the column '{name}', or one of "
            f"numbers, got the columns {list(table.columns)}; choose one"
        )
    return table


def shaped(variable: Any, data: torch.Tensor, shape: Sequence[int]) -> Observation:
    """Tell the data points of one variable apart from its data.

    Args:
        variable: the variable.
        data: a single value; or with one more dimension on the left, which counts data points. A scalar
            may have a trailing dimension of size 1, and so may have a single sample on the left.
        shape: of one value of the variable.

    Raises:
        SiteError: the data have another shape.
    """
    shape = tuple(shape)
    rank = len(shape)
    if _draws_classes(variable) and data.shape[-1:] != shape[-1:]:
        data = _as_classes(Value(data, int(data.shape[-1:] == (1,))), shape[-1]).tensor
    if rank and data.dim() <= rank and set(shape) == {1} and data.shape[:1].numel() == data.numel():
        data = data.reshape(-1, *shape)  # numbers, for a variable with data of one entry
    for tensor in _readings(data, rank):
        if tensor.dim() == rank and _fits(tensor.shape, shape):
            return Observation(tensor, None)
        if tensor.dim() == rank + 1 and _fits(tensor.shape[1:], shape):
            rows = tensor.shape[0]
            return Observation(tensor[0], None) if rows == 1 else Observation(tensor, rows)
    raise SiteError(
        f"variable '{variable.name}': expected data of shape {list(shape)}, or {['n', *shape]} for n data "
        f"points, got {list(data.shape)}; reshape the data"
    )


def observed_value(variable: Any, value: Value, law: Any) -> torch.Tensor:
    """The value of an expression that gives a variable its data, shaped as a draw of its law.

    Raises:
        SiteError: it has too few dimensions.
    """
    if _draws_classes(variable):
        value = _as_classes(value, law.event_shape[-1])
    tensor = fitted(value, law.event_shape)
    if tensor.dim() < len(law.event_shape):
        raise SiteError(
            f"variable '{variable.name}': expected data of shape {list(law.event_shape)}, got "
            f"{list(value.shape)} from an expression; reshape it"
        )
    return tensor


def _draws_classes(variable: Any) -> bool:
    """Whether a variable draws vectors of zeros and a one, and so can be observed by numbers of classes."""
    family = getattr(variable, "family", None)
    return family is not None and family.name.startswith("OneHotCategorical")


def _as_classes(value: Value, size: int) -> Value:
    """Whole numbers as vectors of zeros and a one; vectors stay."""
    tensor: torch.Tensor = value.tensor
    if tensor.is_floating_point() or (value.rank and value.shape[-1] != 1):
        return value
    numbers = tensor.squeeze(-1) if value.rank else tensor
    return Value(torch.nn.functional.one_hot(numbers, size).to(torch.get_default_dtype()), 1)


def _readings(data: torch.Tensor, rank: int) -> list[torch.Tensor]:
    found = [data]
    if data.dim() >= 1 and data.shape[-1] == 1 and rank == 0:
        found.append(data.squeeze(-1))
    if rank == 0 and data.dim() > 2 and all(size == 1 for size in data.shape[1:]):
        found.append(data.flatten())
    if data.dim() == rank + 2 and data.shape[0] == 1:
        found.append(data[0])
    if data.dim() == 3 and data.shape[0] == 1 and rank == 0 and data.shape[-1] == 1:
        found.append(data[0, :, 0])
    return found


def _fits(got: Sequence[int], wanted: Sequence[int]) -> bool:
    return tuple(got) == tuple(wanted)
