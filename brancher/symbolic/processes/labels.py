"""Data of series: by time, or in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from brancher.errors import SiteError
from brancher.symbolic.variables import Variable


def by_label(values: Any) -> dict[Any, Any] | list[Any] | None:
    """Data by time, or in the order of time; None for what is neither."""
    if isinstance(values, Mapping):
        return dict(values)
    if hasattr(values, "columns"):
        return dict(zip(values.index, values.to_numpy(), strict=True))
    if hasattr(values, "index") and hasattr(values, "to_numpy"):
        return dict(values.items())
    if isinstance(values, (list, tuple, np.ndarray, torch.Tensor)):
        return list(values)
    return None


def at_times(times: Sequence[Any], given: dict[Any, Any] | list[Any] | None) -> dict[Any, Any]:
    """Values in their order, at times.

    Raises:
        SiteError: there are other numbers of both.
    """
    values = list(given.values()) if isinstance(given, dict) else given or []
    if len(values) != len(times):
        raise SiteError(
            f"time series: expected one value for each of {len(times)} query_points, got {len(values)}; give "
            "one each, or a Series by time"
        )
    return dict(zip(times, values, strict=True))


def names_variables(given: Any, variables: Sequence[Variable]) -> bool:
    """Whether data are given by variables or their names."""
    names = {variable.name for variable in variables}
    keys = getattr(given, "columns", given if isinstance(given, dict) else ())
    return any(isinstance(key, Variable) or (isinstance(key, str) and key in names) for key in keys)
