"""Values given from outside to variables without a law, such as regressors at new places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch

from brancher.errors import SiteError
from brancher.symbolic.batches import Value


class Input(NamedTuple):
    """What a variable is given.

    Attributes:
        value: shape [samples] + [rows] + data.
        rows: how many data points there are; None for a variable without.
        is_per_sample: whether every draw has a value of its own.
    """

    value: Value
    rows: int | None
    is_per_sample: bool = False


class Shape(NamedTuple):
    """What the values of a variable look like.

    Attributes:
        data: shape of one value.
        has_rows: whether there is one for every data point.
    """

    data: torch.Size
    has_rows: bool


def as_inputs(
    given: Mapping[str, torch.Tensor], shapes: Mapping[str, Shape], count: int, nesting: int
) -> dict[str, Input]:
    """Tell samples and data points of given values apart from their data.

    Args:
        given: tensors by name: one value; one for each of any number of data points, where the variable
            has data points; or, with one more dimension on the left, all that for each of ``count`` draws.
        shapes: of the variables.
        count: how many draws there will be.
        nesting: batch dimensions that plates use.

    Raises:
        SiteError: a value has another shape, naming the variable.
    """
    found = {name: _read(name, tensor, shapes[name], count) for name, tensor in given.items()}
    nesting = max([nesting, *(int(each.rows is not None) for each in found.values())])
    return {name: _aligned(each, nesting) for name, each in found.items()}


def _read(name: str, tensor: torch.Tensor, shape: Shape, count: int) -> Input:
    rank = len(shape.data)
    for reading in _readings(tensor, rank):
        extra = reading.dim() - rank
        if extra < 0 or tuple(reading.shape[extra:]) != tuple(shape.data):
            continue
        if shape.has_rows and extra <= 1:
            rows = reading if extra else reading.unsqueeze(0)
            return Input(Value(rows, rank), len(rows))
        if shape.has_rows and extra == 2 and len(reading) in (1, count):
            own = reading if len(reading) > 1 else reading[0]
            return Input(Value(own, rank), reading.shape[1], len(reading) > 1)
        if not shape.has_rows and extra == 0:
            return Input(Value(reading, rank), None)
        if not shape.has_rows and (extra == 1 or (extra == 2 and reading.shape[1] == 1)):
            own = reading if extra == 1 else reading[:, 0]
            if len(own) in (1, count):
                return Input(Value(own if len(own) > 1 else own[0], rank), None, len(own) > 1)
    wanted = ["n", *shape.data] if shape.has_rows else [*shape.data]
    raise SiteError(
        f"variable '{name}': expected values of shape {wanted}, or {[count, *wanted]} for {count} draws, got "
        f"{list(tensor.shape)}; reshape them"
    )


def _readings(tensor: torch.Tensor, rank: int) -> Iterator[torch.Tensor]:
    yield tensor
    if rank == 0 and tensor.dim() and tensor.shape[-1] == 1:
        yield tensor.squeeze(-1)


def _aligned(each: Input, nesting: int) -> Input:
    """Samples left of the plates."""
    if not each.is_per_sample or each.rows is not None:
        return each
    tensor = each.value.tensor
    full = (tensor.shape[0],) + (1,) * nesting + tuple(tensor.shape[1:])
    return each._replace(value=Value(tensor.reshape(full), each.value.rank))
