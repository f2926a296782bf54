"""A store's content in a file."""

from __future__ import annotations

import os
from typing import Any

import torch

from brancher.errors import ParamError
from brancher.params import state as states
from brancher.params.constraint_names import build, describe
from brancher.params.contents import Contents
from brancher.params.files import load_state, save_state

_KIND = "parameters"


def pack(contents: Contents) -> dict[str, Any]:
    """Return copies of everything a store holds, with constraints described by name."""
    state = states.take(contents)
    state["constraints"] = {name: describe(constraint) for name, constraint in state["constraints"].items()}
    return state


def unpack(contents: Contents, packed: dict[str, Any], map_location: Any = None) -> states.LoadReport:
    """Replace everything a store holds by what :func:`pack` returned.

    Args:
        contents: the store's content; on an error nothing in it has changed.
        packed: what :func:`pack` returned.
        map_location: device of the new tensors; None for that of the parameter they replace.
    """
    leaves = dict(contents.leaves())
    declared = {entry.name: entry.constraint for entry in contents.entries.values()}

    if map_location is not None:
        _check_device(map_location)

    def moved(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if map_location is None and name not in leaves:
            return tensor
        return tensor.to(leaves[name].device if map_location is None else map_location)

    return states.put(
        contents,
        {
            **packed,
            "params": {name: moved(name, tensor) for name, tensor in packed["params"].items()},
            "constraints": {
                name: build(name, described, declared.get(name))
                for name, described in packed["constraints"].items()
            },
        },
    )


def _check_device(map_location: Any) -> None:
    try:
        torch.device(map_location)
    except (RuntimeError, TypeError) as error:
        raise ParamError(
            f"parameter store: expected map_location as a device, got {map_location!r}; write 'cpu'"
        ) from error


def save(contents: Contents, path: str | os.PathLike[str]) -> None:
    """Write everything a store holds to a file."""
    save_state(path, _KIND, pack(contents))


def load(contents: Contents, path: str | os.PathLike[str], map_location: Any) -> states.LoadReport:
    """Replace everything a store holds by what a file holds."""
    return unpack(contents, load_state(path, _KIND), map_location)
