"""An optimizer's state by parameter name: taken out, put back, saved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from warnings import warn

import torch
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LRScheduler

from brancher.errors import BrancherWarning, OptimError
from brancher.params.files import load_state, save_state

_KEYS = {"optimizer", "groups", "shapes", "state", "schedule"}
_KIND = "optimizer"
# Chosen for the device at hand, not part of what was trained.
_IMPLEMENTATION = ("params", "foreach", "fused")


def empty(optimizer: str) -> dict[str, Any]:
    """Return the state of an optimizer without parameters."""
    return {"optimizer": optimizer, "groups": [], "shapes": {}, "state": {}, "schedule": None}


def copy_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a deep copy."""
    return deepcopy(dict(state))


def take(
    name: str, optimizer: TorchOptimizer, leaves: Mapping[str, torch.Tensor], schedule: LRScheduler | None
) -> dict[str, Any]:
    """Return copies of groups (with names in place of tensors), state by name, and schedule."""
    names = {id(leaf): key for key, leaf in leaves.items()}
    groups = [
        {**group, "params": [names[id(leaf)] for leaf in group["params"] if id(leaf) in names]}
        for group in optimizer.param_groups
    ]
    state = {key: dict(optimizer.state[leaf]) for key, leaf in leaves.items() if leaf in optimizer.state}
    rule = None if schedule is None else schedule.state_dict()
    shapes = {key: tuple(leaf.shape) for key, leaf in leaves.items()}
    return copy_of({"optimizer": name, "groups": groups, "shapes": shapes, "state": state, "schedule": rule})


def check(state: object, optimizer: str) -> None:
    """Refuse a state that is malformed or of another class of optimizer."""
    if not isinstance(state, Mapping) or not set(state) >= _KEYS:
        got = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise OptimError(
            f"optimizer '{optimizer}': expected a state with {sorted(_KEYS)}, got {got}; "
            "use what state_dict returned"
        )
    if state["optimizer"] != optimizer:
        raise OptimError(
            f"optimizer '{optimizer}': expected a state of {optimizer}, got one of {state['optimizer']}; "
            "use the same class of optimizer"
        )


def entries(state: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters that a state speaks of."""
    return [name for group in state["groups"] for name in group["params"]]


def tell_unmatched(state: Mapping[str, Any], expected: list[str]) -> None:
    """Warn about names that only one side has; nothing is expected where nothing is known yet."""
    found = entries(state)
    unmatched = [name for name in found if name not in expected]
    without = [name for name in expected if name not in found]
    if expected and (unmatched or without):
        warn(
            f"optimizer '{state['optimizer']}': expected state for the parameters {expected}, got unmatched "
            f"entries {unmatched} and none for {without}; parameters without state begin afresh",
            BrancherWarning,
            stacklevel=4,
        )


def put(
    optimizer: TorchOptimizer,
    leaves: Mapping[str, torch.Tensor],
    names: list[str],
    state: dict[str, Any],
    schedule: LRScheduler | None,
) -> dict[str, Any] | None:
    """Give parameters their state.

    Returns:
        What waits for parameters that are not there yet, None if nothing does.
    """
    groups = {name: group for group in state["groups"] for name in group["params"]}
    present = [name for name in names if name in groups]
    fitting = [name for name in present if tuple(state["shapes"][name]) == leaves[name].shape]
    if fitting:
        _load(optimizer, leaves, fitting, groups, state["state"])
    _tell_misfits({name: leaves[name].shape for name in present if name not in fitting}, state)
    if schedule is not None and state["schedule"] is not None:
        schedule.load_state_dict(state["schedule"])
    left = [{**g, "params": [n for n in g["params"] if n not in present]} for g in state["groups"]]
    left = [group for group in left if group["params"]]
    return {**state, "groups": left, "schedule": None} if left else None


def _tell_misfits(shapes: Mapping[str, torch.Size], state: Mapping[str, Any]) -> None:
    for name, shape in shapes.items():
        warn(
            f"optimizer '{state['optimizer']}': expected state of shape {tuple(shape)} for parameter "
            f"'{name}', got {tuple(state['shapes'][name])}; the parameter begins afresh",
            BrancherWarning,
            stacklevel=4,
        )


def _load(
    optimizer: TorchOptimizer,
    leaves: Mapping[str, torch.Tensor],
    names: list[str],
    saved_groups: Mapping[str, dict[str, Any]],
    saved_state: Mapping[str, Any],
) -> None:
    """Go through torch's own loading, which knows the dtype and device of each entry."""
    current = optimizer.state_dict()
    by_leaf = {id(leaves[name]): name for name in names}
    for group, described in zip(optimizer.param_groups, current["param_groups"], strict=True):
        held = [by_leaf.get(id(leaf)) for leaf in group["params"]]
        for index, name in zip(described["params"], held, strict=True):
            if name is None:
                continue
            current["state"].pop(index, None)
            if name in saved_state:
                current["state"][index] = saved_state[name]
        first = next((name for name in held if name is not None), None)
        if first is not None:
            options = saved_groups[first].items()
            described.update({key: value for key, value in options if key not in _IMPLEMENTATION})
    optimizer.load_state_dict(current)


def save(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a state to a file."""
    save_state(path, _KIND, state)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a state from a file."""
    state: dict[str, Any] = load_state(path, _KIND)
    return state
