"""Whether a run has the arguments that an earlier one had."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


def remember(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The model's arguments, with the versions of tensors, to tell whether a later run has the same."""
    return [
        (leaf, leaf._version if isinstance(leaf, Tensor) else None)
        for leaf in pytree.tree_leaves((args, kwargs))
    ]


def same(before: list[Any], now: list[Any]) -> bool:
    """Whether both were the same, and no tensor was changed between."""
    if len(before) != len(now):
        return False
    for (old, version), (new, latest) in zip(before, now, strict=True):
        if isinstance(old, Tensor) and isinstance(new, Tensor):
            if old is new and version != latest:
                return False
            if old is not new and not torch.equal(old, new):
                return False
        elif old is not new and not (type(old) is type(new) and bool(old == new)):
            return False
    return True
