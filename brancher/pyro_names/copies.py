"""Copies of whatever holds tensors, under Pyro's names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

__all__ = ["deep_to", "detach"]

#: What holds no tensors of its own.
_CODE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)


def deep_to(obj: Any, *args: Any, **kwargs: Any) -> Any:
    """A deep copy of an object with all its tensors on another device, or of another dtype.

    Args:
        obj: a distribution, transform, module, or container of such.
        *args: as of ``torch.Tensor.to``.
        **kwargs: as of ``torch.Tensor.to``.

    Example:
        >>> deep_to(dist.Normal(torch.zeros(2), 1.0).to_event(1), torch.float64).mean.dtype
        torch.float64
    """
    return _copied(obj, lambda tensor: tensor.to(*args, **kwargs), {})


def detach(obj: Any) -> Any:
    """A deep copy of an object with all its tensors cut off from their graphs.

    Example:
        >>> loc = torch.zeros(2, requires_grad=True)
        >>> detach(dist.Normal(loc, 1.0)).mean.requires_grad
        False
    """
    return _copied(obj, torch.Tensor.detach, {})


def _copied(obj: Any, fn: Callable[[torch.Tensor], torch.Tensor], memo: dict[int, Any]) -> Any:
    if id(obj) in memo:
        return memo[id(obj)][1]
    made: Any
    if isinstance(obj, nn.Parameter):
        made = nn.Parameter(fn(obj.detach()), obj.requires_grad and fn is not torch.Tensor.detach)
    elif isinstance(obj, torch.Tensor):
        made = fn(obj)
    elif isinstance(obj, dict):
        made = type(obj)()
        made.update((key, _copied(value, fn, memo)) for key, value in obj.items())
    elif isinstance(obj, tuple) and hasattr(obj, "_fields"):
        made = type(obj)(*(_copied(value, fn, memo) for value in obj))
    elif isinstance(obj, (list, tuple, set, frozenset)):
        made = type(obj)(_copied(value, fn, memo) for value in obj)
    elif isinstance(obj, _CODE) or not hasattr(obj, "__dict__"):
        made = obj
    else:
        made = copy.copy(obj)
        memo[id(obj)] = obj, made
        made.__dict__ = {key: _copied(value, fn, memo) for key, value in obj.__dict__.items()}
    memo[id(obj)] = obj, made  # the original is kept: an id is only unique while its object lives
    return made
