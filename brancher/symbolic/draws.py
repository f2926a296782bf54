"""Draws of a program: as tensors keyed by variable or name, and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from brancher.errors import UnknownNameError, nearest
from brancher.symbolic.parts import gathered
from brancher.symbolic.variables import Variable

if TYPE_CHECKING:
    import pandas as pd


class Draws(Mapping[Any, torch.Tensor]):
    """Tensors of shape (samples, datapoints, *data), scalars with a trailing 1, keyed by variable or name.

    Args:
        values: tensors by name.
    """

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        self._values, self._whole = dict(values), gathered(values)

    def __getitem__(self, key: str | Variable) -> torch.Tensor:
        name = key.name if isinstance(key, Variable) else key
        try:
            return self._values[name] if name in self._values else self._whole[name]
        except KeyError:
            raise UnknownNameError(
                f"sample: expected one of the variables {list(self._values)}, got '{name}'"
                f"{nearest(str(name), self._values) or '; check the spelling'}"
            ) from None

    def __contains__(self, key: object) -> bool:
        name = key.name if isinstance(key, Variable) else key
        return name in self._values or name in self._whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Draws({', '.join(f'{k}: {tuple(v.shape)}' for k, v in self._values.items())})"


def raw(value: torch.Tensor, has_rows: bool, rank: int) -> torch.Tensor:
    """Bring draws (samples, [rows], *data) to (samples, datapoints, *data), scalars with a trailing 1."""
    if not has_rows:
        value = value.unsqueeze(1)
    return value.unsqueeze(-1) if rank == 0 else value


def frame_of(values: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """One row a draw, one column a variable; a cell is a number, or an array for what is no scalar.

    A variable whose value is a dict or tuple has cells that are dicts or tuples.

    Args:
        values: draws by name, shape (samples, *rest).
    """
    import pandas as pd

    columns = {name: column(value) for name, value in gathered(values).items()}
    count = len(next(iter(columns.values()))) if columns else 0
    return pd.DataFrame(columns, index=pd.RangeIndex(count))


def column(value: Any) -> Any:
    """One tensor as a column: numbers, or arrays in object cells; of a dict or tuple, cells of their kind."""
    import pandas as pd

    if isinstance(value, dict):
        parts = {key: column(item) for key, item in value.items()}
        return pd.Series([dict(zip(parts, cell, strict=True)) for cell in zip(*parts.values(), strict=True)])
    if isinstance(value, tuple):
        return pd.Series(list(zip(*map(column, value), strict=True)))
    array = value.detach().cpu().numpy()
    if array.ndim == 1:
        return pd.Series(array.astype(float) if array.dtype.kind in "fb" else array)
    cells = pd.Series([None] * len(array), dtype=object)
    for i, row in enumerate(array):
        cells.iat[i] = row
    return cells


def by_name(owner: str, values: Any, known: Sequence[Variable]) -> dict[str, Any]:
    """Values keyed by variables or names, or the columns of a table, keyed by name.

    Raises:
        UnknownNameError: a name is none of the model's.
    """
    labels = getattr(getattr(values, "index", None), "dtype", None)
    if labels is not None and not hasattr(values, "columns") and labels.kind not in "biuf":
        values = values.to_dict()  # a Series by name
    items = values.items() if isinstance(values, Mapping) or hasattr(values, "columns") else None
    if items is None:
        raise UnknownNameError(
            f"{owner}: expected values by variable or name, or a DataFrame, got {type(values).__name__}"
        )
    names = {variable.name for variable in known}
    found = {}
    for key, value in items:
        name = key.name if isinstance(key, Variable) else key
        if name not in names:
            raise UnknownNameError(
                f"{owner}: expected variables among {sorted(names)}, got '{name}'"
                f"{nearest(str(name), names) or '; check the spelling'}"
            )
        found[name] = value
    return found
