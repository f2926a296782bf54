"""What `MCMC` is given: numbers that make sense, and whether a run has the arguments of an earlier one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from brancher.errors import InferenceError


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


def check_count(name: str, value: Any, least: int) -> None:
    """Refuse a number of draws or chains that is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InferenceError(f"MCMC: expected {name} as an int >= {least}, got {value!r}")


def check_counts(num_samples: Any, warmup_steps: Any, num_chains: Any) -> int:
    """Refuse numbers of draws or chains that are none; give the warmup steps, by default as many as draws."""
    check_count("num_samples", num_samples, 1)
    check_count("num_chains", num_chains, 1)
    warmup = num_samples if warmup_steps is None else warmup_steps
    check_count("warmup_steps", warmup, 0)
    return int(warmup)


def one_chain(params: dict[str, Tensor], chains: int) -> dict[str, Tensor]:
    """Drop a dimension of chains that all parameters share."""
    shared = chains > 1 and all(value.dim() > 0 and value.shape[0] == chains for value in params.values())
    return {name: value[0] for name, value in params.items()} if shared else params
