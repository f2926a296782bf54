"""Tensors by name into pandas tables, their entries labelled by dimension and coordinate.

Knows nothing of probability: ``dims`` names the dimensions of each tensor, right of the shared
ones on its left, and ``coords`` labels the positions along a dimension.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from brancher.errors import UnknownNameError, nearest

if TYPE_CHECKING:
    import pandas as pd

Dims = Mapping[str, Sequence[str]]
Coords = Mapping[str, Sequence[Any]]


def entry_labels(
    name: str, shape: Sequence[int], dims: Sequence[str] = (), coords: Coords | None = None
) -> list[str]:
    """Name every entry of a tensor, the last dimension fastest.

    Args:
        name: the tensor's name.
        shape: its shape.
        dims: the names of its dimensions, leftmost first; may be left out.
        coords: labels along each dimension; positions from 0 where a dimension has none.

    Example:
        >>> entry_labels("theta", (2,), ("school",), {"school": ["Choate", "Deerfield"]})
        ['theta[Choate]', 'theta[Deerfield]']
        >>> entry_labels("mu", ())
        ['mu']
    """
    if not len(shape):
        return [name]
    names = [*dims, *[""] * (len(shape) - len(dims))]
    axes = [_labels_along(size, names[i], coords or {}) for i, size in enumerate(shape)]
    return [f"{name}[{','.join(labels)}]" for labels in itertools.product(*axes)]


def _labels_along(size: int, dim: str, coords: Coords) -> list[str]:
    given = coords.get(dim)
    return [str(i) for i in range(size)] if given is None or len(given) != size else [str(x) for x in given]


def draws_frame(
    values: Mapping[str, torch.Tensor],
    index_names: Sequence[str] = ("draw",),
    dims: Dims | None = None,
    coords: Coords | None = None,
) -> pd.DataFrame:
    """Lay out draws as a table: one row a draw, one column an entry.

    Args:
        values: tensors that share their leftmost dimensions, one for each index name.
        index_names: names of these dimensions; several make a MultiIndex.
        dims: names of the other dimensions, by tensor.
        coords: labels along dimensions.

    Example:
        >>> draws_frame({"mu": torch.tensor([1.0, 2.0]), "k": torch.tensor([[1, 2], [3, 4]])})
               mu  k[0]  k[1]
        draw
        0     1.0     1     2
        1     2.0     3     4
    """
    import pandas as pd

    lead = len(index_names)
    parts, shape = [], torch.Size([0] * lead)
    for name, value in values.items():
        shape = value.shape[:lead]
        labels = entry_labels(name, value.shape[lead:], (dims or {}).get(name, ()), coords)
        rows = value.detach().cpu().reshape(shape.numel(), len(labels))
        parts.append(pd.DataFrame(rows.numpy(), columns=labels))
    axes = [range(size) for size in shape]
    index: pd.Index[Any]
    if lead > 1:
        index = pd.MultiIndex.from_product(axes, names=list(index_names))
    else:
        index = pd.RangeIndex(shape[0], name=index_names[0])
    table = pd.concat(parts, axis=1) if parts else pd.DataFrame()
    return table.set_axis(index, axis=0)


def entries_frame(
    columns: Mapping[str, Mapping[str, torch.Tensor]],
    dims: Dims | None = None,
    coords: Coords | None = None,
) -> pd.DataFrame:
    """Lay out statistics as a table: one row an entry, one column a statistic.

    Args:
        columns: for each tensor's name its statistics by column, all of the tensor's shape.
        dims: names of the dimensions, by tensor.
        coords: labels along dimensions.

    Example:
        >>> entries_frame({"x": {"mean": torch.tensor([1.0, 2.0]), "sd": torch.tensor([0.5, 0.5])}})
              mean   sd
        x[0]   1.0  0.5
        x[1]   2.0  0.5
    """
    import pandas as pd

    parts = []
    for name, statistics in columns.items():
        shape = next(iter(statistics.values())).shape
        labels = entry_labels(name, shape, (dims or {}).get(name, ()), coords)
        data = {column: value.detach().cpu().reshape(-1).numpy() for column, value in statistics.items()}
        parts.append(pd.DataFrame(data, index=labels))
    return pd.concat(parts) if parts else pd.DataFrame()


def pick(values: Mapping[str, torch.Tensor], names: Sequence[str] | str | None) -> dict[str, torch.Tensor]:
    """Select tensors by name, all of them for None.

    Raises:
        UnknownNameError: a name is not there, naming the nearest one.

    Example:
        >>> list(pick({"a": torch.zeros(1), "b": torch.zeros(1)}, ["b"]))
        ['b']
    """
    chosen = list(values) if names is None else [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in values:
            raise UnknownNameError(
                f"names: expected some of {list(values)}, got "
                f"'{name}'{nearest(name, values) or '; check the spelling'}"
            )
    return {name: values[name] for name in chosen}
