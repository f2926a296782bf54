"""What is open in this thread or task: the stores that are current, the tensors that stand in.

Both are immutable tuples in a ContextVar. Leaving removes the own entry wherever it stands, so
blocks that are left out of order (generators, tasks) disturb nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import torch

_T = TypeVar("_T")

OPEN_STORES: ContextVar[tuple[Any, ...]] = ContextVar("brancher_param_stores", default=())


class StandIn:
    """Tensors that are read in place of one store's unconstrained leaves."""

    __slots__ = ("store", "tensors")

    def __init__(self, store: object, tensors: Mapping[str, torch.Tensor]) -> None:
        self.store = store
        self.tensors = tensors


STAND_INS: ContextVar[tuple[StandIn, ...]] = ContextVar("brancher_param_stand_ins", default=())


def stand_in_for(store: object, name: str) -> torch.Tensor | None:
    """Return the tensor that stands in for a leaf of ``store``, innermost block first."""
    for stand_in in reversed(STAND_INS.get()):
        if stand_in.store is store and name in stand_in.tensors:
            return stand_in.tensors[name]
    return None


def push(stack: ContextVar[tuple[_T, ...]], item: _T) -> None:
    """Open ``item`` in this thread or task."""
    stack.set((*stack.get(), item))


def remove_last(stack: ContextVar[tuple[_T, ...]], item: _T) -> None:
    """Close the innermost opening of ``item``; do nothing where it is not open."""
    items = stack.get()
    for index in reversed(range(len(items))):
        if items[index] is item:
            stack.set(items[:index] + items[index + 1 :])
            return
