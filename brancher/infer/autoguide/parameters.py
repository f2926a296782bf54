"""Parameters that a guide owns: unconstrained tensors in a module, constrained values by name.

A guide is a module, so its parameters are the module's own: ``state_dict``, ``to``, ``deepcopy``
and torch's optimizers work on them, and they are unconstrained. Beside each stands its
constraint. Reading one, as an attribute (``guide.scales.x``), through the store
(``store["AutoNormal.scales.x"]``) or as a param site of a trace, gives the constrained value;
leaf and value have one name, so optimizer options and checkpoints speak of them alike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import Transform

from brancher.distributions import constraints
from brancher.handlers import Message, stack
from brancher.params.entry import transform_for, unconstrain


class Place(NamedTuple):
    """Where a parameter lives.

    Attributes:
        path: its name inside the guide.
        table: the module's dictionary that holds it. Read at every use: staging and functional
            calls put other tensors there.
        key: its key in the dictionary.
        constraint: where its value lies.
        transform: from leaf to value; None for the identity.
    """

    path: str
    table: dict[str, Any]
    key: str
    constraint: Constraint
    transform: Transform | None

    @property
    def leaf(self) -> torch.Tensor:
        """The unconstrained tensor."""
        return self.table[self.key]  # type: ignore[no-any-return]

    def value(self) -> torch.Tensor:
        """The constrained value."""
        leaf = self.leaf
        return leaf if self.transform is None else self.transform(leaf)


class Holder(nn.Module):
    """A module whose parameters carry constraints. Names may be any site names, dots included."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter_constraints: dict[str, Constraint] = {}

    def hold(self, path: str, value: torch.Tensor, constraint: Constraint = constraints.real) -> None:
        """Add a parameter; a path with dots goes into holders within this one.

        Args:
            path: its name.
            value: its first value, inside the constraint.
            constraint: where it lies.

        Raises:
            ParamError: the value lies outside the constraint.
        """
        free = unconstrain(path, value, constraint, transform_for(path, constraint))
        owner, key = self, path
        while "." in key:
            first, key = key.split(".", 1)
            owner = owner._modules.setdefault(first, Holder())  # type: ignore[assignment]
        # register_parameter refuses names such as "training", which are fine for a site.
        owner._parameters[key] = nn.Parameter(free.detach().clone())
        if constraint is not constraints.real:
            owner.parameter_constraints[key] = constraint

    def places(self, prefix: str = "") -> dict[str, Place]:
        """Every parameter that holders within this one hold, by path."""
        found: dict[str, Place] = {}
        table: Any = self._parameters
        for key in table:
            path = f"{prefix}{key}"
            constraint = self.parameter_constraints.get(key, constraints.real)
            found[path] = Place(path, table, key, constraint, transform_for(path, constraint))
        for key, child in self._modules.items():
            if isinstance(child, Holder):
                found.update(child.places(f"{prefix}{key}."))
        return found

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        constraint = self.__dict__.get("parameter_constraints", {}).get(name)
        if constraint is None or name not in self._parameters:
            return value
        transform = transform_for(name, constraint)
        return value if transform is None else transform(value)


def announce(name: str, place: Place, value: torch.Tensor) -> torch.Tensor:
    """Show a parameter's value to the handlers as a param site.

    Returns:
        The value, or what a handler put in its place.
    """
    if not stack.current():
        return value
    leaf = place.leaf
    message = Message("param", name, _value_of, (leaf, place.constraint), {"event_dim": None}, value=value)
    message.unconstrained = leaf
    return stack.apply(message).value  # type: ignore[no-any-return]


def _value_of(message: Message) -> torch.Tensor:
    leaf, constraint = message.args
    transform = transform_for(message.name, constraint)
    return leaf if transform is None else transform(leaf)  # type: ignore[no-any-return]
