"""Constraints as names and arguments, to be written to a file and built again without code."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch.distributions import constraints as torch_constraints
from torch.distributions.constraints import Constraint

from brancher.distributions import constraints as own_constraints
from brancher.errors import FileFormatError
from brancher.params.entry import same_constraint

_NAMED: dict[str, Any] = {
    name: getattr(module, name)
    for module in (torch_constraints, own_constraints)
    for name in module.__all__
    if isinstance(getattr(module, name), (Constraint, type))
}


def describe(constraint: Constraint) -> dict[str, Any]:
    """Return the name of a constraint and its arguments, or the class of one that is not known.

    Example:
        >>> from torch.distributions import constraints
        >>> describe(constraints.positive), describe(constraints.greater_than(2.0))
        ({'name': 'positive'}, {'name': 'greater_than', 'arguments': {'lower_bound': 2.0}})
    """
    for name, known in _NAMED.items():
        if isinstance(known, Constraint) and same_constraint(known, constraint):
            return {"name": name}
    for name, known in _NAMED.items():
        if type(constraint) is known:
            held = vars(constraint)
            arguments = {
                key: _described(held[key]) for key in inspect.signature(known).parameters if key in held
            }
            return {"name": name, "arguments": arguments}
    return {"class": class_name(constraint)}


def build(parameter: str, description: Mapping[str, Any], declared: Constraint | None) -> Constraint:
    """Return the constraint that was described.

    Args:
        parameter: the parameter it belongs to, for messages.
        description: what :func:`describe` returned.
        declared: constraint of the parameter of that name, None if there is none; a constraint
            of a class that the package does not know must be declared before it is loaded.

    Raises:
        FileFormatError: the constraint is not known, and not declared either.
    """
    if "name" in description and description["name"] in _NAMED:
        known = _NAMED[description["name"]]
        if isinstance(known, Constraint):
            return known
        arguments = {k: _built(parameter, value) for k, value in description["arguments"].items()}
        made: Constraint = known(**arguments)
        return made
    wanted = description.get("class", description.get("name"))
    if declared is None or class_name(declared) != wanted:
        got = "no such parameter" if declared is None else class_name(declared)
        raise FileFormatError(
            f"parameter '{parameter}': expected it to be declared with the constraint {wanted} before "
            f"the file is loaded, got {got}; declare the parameter first"
        )
    return declared


def class_name(constraint: Constraint) -> str:
    """Return module and name of a constraint's class."""
    return f"{type(constraint).__module__}.{type(constraint).__qualname__}"


def _described(value: Any) -> Any:
    if isinstance(value, Constraint):
        return {"constraint": describe(value)}
    if isinstance(value, (list, tuple)):
        return [_described(item) for item in value]
    return value


def _built(parameter: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return build(parameter, value["constraint"], None)
    if isinstance(value, list):
        return [_built(parameter, item) for item in value]
    return value
