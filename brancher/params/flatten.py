"""Nested states (of optimizers, schedules, random generators) as flat tensors plus JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from brancher.errors import FileFormatError

_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


def flatten_state(state: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """Take a nested structure apart.

    Args:
        state: dicts (with any scalar as key), lists, tuples and sets of tensors, NumPy arrays,
            numbers, text, None, dtypes and devices.

    Returns:
        Tensors by their place in the structure, and JSON from which :func:`unflatten_state`
        builds the structure again.

    Raises:
        FileFormatError: it holds something else, such as a function.

    Example:
        >>> tensors, structure = flatten_state({"a": [1, torch.ones(2)]})
        >>> tensors
        {'a/1': tensor([1., 1.])}
        >>> unflatten_state(tensors, structure)
        {'a': [1, tensor([1., 1.])]}
    """
    tensors: dict[str, torch.Tensor] = {}
    return tensors, _flatten(state, "", tensors)


def unflatten_state(tensors: Mapping[str, torch.Tensor], structure: Any) -> Any:
    """Put together what :func:`flatten_state` took apart."""
    if not isinstance(structure, dict):
        return structure
    ((tag, content),) = structure.items()
    return _BUILD[tag](tensors, content)


# Scalars stand for themselves; everything else is a dictionary with its kind as the only key.
def _flatten(value: Any, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, torch.Tensor):
        return {"tensor": _put(tensors, place, value)}
    if isinstance(value, (np.ndarray, np.generic)):
        kind = "array" if isinstance(value, np.ndarray) else "number"
        return {kind: _put(tensors, place, _numeric(value, place))}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value)}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    return _flatten_container(value, place, tensors)


def _flatten_container(value: Any, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, Mapping):
        kind = "counter" if isinstance(value, Counter) else "dict"
        inner = ((key, item, _below(place, key)) for key, item in value.items())
        return {kind: [[_flatten(k, f"{at}/key", tensors), _flatten(v, at, tensors)] for k, v, at in inner]}
    if type(value) in _KINDS:
        items = enumerate(value)
        return {_KINDS[type(value)]: [_flatten(item, _below(place, i), tensors) for i, item in items]}
    raise FileFormatError(
        f"state '{place}': expected tensors, arrays, numbers, text and containers of them, got "
        f"{type(value).__name__}; take it out before saving"
    )


def _below(place: str, key: object) -> str:
    return f"{place}/{key}" if place else str(key)


def _put(tensors: dict[str, torch.Tensor], place: str, tensor: torch.Tensor) -> str:
    name = place
    while name in tensors:
        name += "'"
    tensors[name] = tensor
    return name


def _numeric(value: Any, place: str) -> torch.Tensor:
    try:
        return torch.tensor(np.asarray(value))
    except TypeError as error:
        raise FileFormatError(
            f"state '{place}': expected a numeric array, got dtype {value.dtype}; take it out before saving"
        ) from error


def _items(tensors: Mapping[str, torch.Tensor], content: Any) -> list[Any]:
    return [unflatten_state(tensors, item) for item in content]


def _pairs(tensors: Mapping[str, torch.Tensor], content: Any) -> dict[Any, Any]:
    return {unflatten_state(tensors, k): unflatten_state(tensors, v) for k, v in content}


_KINDS: dict[type, str] = {list: "list", tuple: "tuple", torch.Size: "size", set: "set"}
_BUILD: dict[str, Callable[[Mapping[str, torch.Tensor], Any], Any]] = {
    "float": lambda _, content: float(content),
    "tensor": lambda tensors, content: tensors[content],
    "array": lambda tensors, content: tensors[content].numpy(),
    "number": lambda tensors, content: tensors[content].numpy()[()],
    "dtype": lambda _, content: _DTYPES[content],
    "device": lambda _, content: torch.device(content),
    "dict": _pairs,
    "counter": lambda tensors, content: Counter(_pairs(tensors, content)),
    "list": _items,
    "tuple": lambda tensors, content: tuple(_items(tensors, content)),
    "size": lambda tensors, content: torch.Size(_items(tensors, content)),
    "set": lambda tensors, content: set(_items(tensors, content)),
}
