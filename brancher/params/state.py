"""A store's whole content as one dictionary, taken out and put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from warnings import warn

import torch
from torch.distributions import constraints

from brancher.errors import BrancherWarning, ParamError
from brancher.params import entry as entries
from brancher.params.contents import Contents, check_shape, write, write_held
from brancher.params.entry import Entry


class LoadReport(NamedTuple):
    """How the names that were put in compare with those that were declared.

    Attributes:
        missing: declared before, absent from the new content.
        unexpected: in the new content, not declared before.
    """

    missing: list[str]
    unexpected: list[str]


def take(contents: Contents) -> dict[str, Any]:
    """Return copies of everything a store holds.

    Returns:
        ``params`` (unconstrained tensors), ``constraints``, ``event_dims``, each by name;
        ``modules`` (module name -> its parameters' names) and ``buffers``.
    """
    modules = {name: list(view.leaves()) for name, view in contents.views.items()}
    waiting = [entry.name for entry in contents.entries.values() if entry.adoptable]
    if waiting:
        modules[""] = waiting
    return {
        "params": {name: leaf.detach().clone() for name, leaf in contents.leaves()},
        "constraints": {name: contents.constraint(name) for name, _ in contents.leaves()},
        "event_dims": {entry.name: entry.event_dim for entry in contents.entries.values()},
        "modules": modules,
        "buffers": {name: buffer.detach().clone() for name, buffer in contents.buffers().items()},
    }


def put(contents: Contents, state: Mapping[str, Any]) -> LoadReport:
    """Replace everything a store holds; on an error nothing has changed.

    Registered modules stay and are written in place. Names that the state does not mention are
    forgotten, except a module's, which keep their values.

    Raises:
        ParamError: the state is malformed, or a tensor does not fit the module that holds it.
    """
    _check_form(state)
    params: Mapping[str, torch.Tensor] = state["params"]
    declared = dict(contents.leaves())
    held = {name: leaf for name in params if (leaf := contents.held(name)) is not None}
    buffers = {name: buffer for view in contents.views.values() for name, buffer in view.buffers().items()}
    loaded_buffers: Mapping[str, torch.Tensor] = state.get("buffers", {})
    for name, leaf in held.items():
        check_shape(name, leaf, params[name])
    for name, value in loaded_buffers.items():
        if name in buffers:
            check_shape(name, buffers[name], value)
    made = {name: _new_entry(contents, state, name) for name in params if name not in held}
    report = LoadReport(
        [name for name in declared if name not in params], [name for name in params if name not in declared]
    )
    _tell(declared, report)

    for name, leaf in held.items():
        write_held(leaf, params[name])
    for name, value in loaded_buffers.items():
        if name in buffers:
            write_held(buffers[name], value)
    contents.waiting_buffers = {k: v.clone() for k, v in loaded_buffers.items() if k not in buffers}
    merged = [_merged(contents.entries.get(name), new) for name, new in made.items()]
    contents.entries = {entry.name: entry for entry in sorted(merged, key=lambda entry: entry.serial)}
    return report


def _tell(declared: Mapping[str, torch.Tensor], report: LoadReport) -> None:
    if declared and (report.missing or report.unexpected):
        warn(
            f"parameter store: expected the declared names {list(declared)}, got missing "
            f"{report.missing}, unexpected {report.unexpected}; the new content takes the place of the old",
            BrancherWarning,
            stacklevel=4,
        )


def _new_entry(contents: Contents, state: Mapping[str, Any], name: str) -> Entry:
    constraint = state["constraints"].get(name, constraints.real)
    adoptable = any(name in names for names in state.get("modules", {}).values())
    entries.check_name(name)
    transform = entries.transform_for(name, constraint)
    leaf = entries.make_leaf(state["params"][name])
    value = leaf if transform is None else transform(leaf.detach())
    event_dim = state.get("event_dims", {}).get(name)
    return Entry(name, leaf, constraint, transform, value.shape, event_dim, next(contents.serials), adoptable)


def _merged(old: Entry | None, new: Entry) -> Entry:
    """Keep the old leaf, which an optimizer may hold, with the new value in it, and its place."""
    if old is not None:
        write(old, new.leaf, new.shape)
        new.leaf, new.serial = old.leaf, old.serial
    return new


def _check_form(state: object) -> None:
    if not isinstance(state, Mapping) or not {"params", "constraints"} <= set(state):
        got = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise ParamError(
            f"parameter store: expected a state with 'params' and 'constraints', got {got}; "
            "use what get_state returned"
        )
    for name, value in state["params"].items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            raise ParamError(
                f"parameter '{name}': expected a floating tensor in the state, got "
                f"{value.dtype if isinstance(value, torch.Tensor) else type(value).__name__}; "
                "use what get_state returned"
            )
