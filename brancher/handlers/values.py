"""Turning what users observe (numbers, arrays, Series, tensors) into a site's value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from brancher.errors import SiteTypeError


def as_value(name: str, value: Any, fn: Any) -> torch.Tensor:
    """Convert an observation or a fixed value to a tensor fit for ``fn``.

    Tensors pass as they are; numbers, numpy arrays and pandas objects are converted, floating
    ones to the default dtype. Integers become floating where ``fn`` is continuous. Other objects pass
    to laws that do not say where their values lie, such as one over words.

    Args:
        name: the site, for the message.
        value: what was given.
        fn: the site's distribution.

    Raises:
        SiteTypeError: the value is of another kind.
    """
    if isinstance(value, (str, tuple, Mapping)) and not _has_real_support(fn):
        return value  # type: ignore[return-value]
    if not isinstance(value, torch.Tensor):
        value = _convert(name, value)
    if value.is_complex() and _has_real_support(fn):
        raise SiteTypeError(
            f"site '{name}': expected a value of real numbers for {type(fn).__name__}, got complex ones "
            f"({value.dtype}); observe value.real, or torch.view_as_real(value)"
        )
    if not value.is_floating_point() and not value.is_complex() and _is_continuous(fn):
        value = value.to(torch.get_default_dtype())
    return value  # type: ignore[no-any-return]


def as_plain_tensor(what: str, value: Any) -> torch.Tensor:
    """Convert a number, list or array, whatever it is for.

    Raises:
        SiteTypeError: naming ``what``.
    """
    try:
        return torch.as_tensor(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except (TypeError, ValueError, RuntimeError):
        raise SiteTypeError(
            f"{what}: expected a tensor, array or number, got {type(value).__name__}; convert it with "
            "torch.as_tensor"
        ) from None


def _convert(name: str, value: Any) -> torch.Tensor:
    if hasattr(value, "to_numpy"):  # pandas and its relatives
        value = value.to_numpy()
    is_number = isinstance(value, (bool, int, float, np.number, np.bool_))
    is_array = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    if not (is_number or is_array):
        kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        if isinstance(value, (list, tuple)) and value:
            kind += f" of {type(value[0]).__name__}"
        raise SiteTypeError(
            f"site '{name}': expected a value as a tensor, array, Series or number, got {kind}; "
            "convert it with torch.as_tensor, encoding text first"
        )
    tensor = torch.tensor(np.asarray(value))  # a copy: the array may be read-only or change later
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def _is_continuous(fn: Any) -> bool:
    try:
        return not fn.support.is_discrete
    except (NotImplementedError, AttributeError):
        return False


def _has_real_support(fn: Any) -> bool:
    """Whether a distribution says where its values lie; every constraint is one on real numbers."""
    try:
        return fn.support is not None
    except (NotImplementedError, AttributeError):
        return False
