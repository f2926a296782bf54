"""What is learned: values that belong to variables, and their names while a model runs.

A learnable value belongs to its variable, so that every model with this variable learns the same
one. Names are made for one program, or for a model and its posterior together: ``model.b.loc``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.distributions.constraints import Constraint

from brancher.distributions import constraints
from brancher.errors import SiteTypeError
from brancher.infer.autoguide.parameters import Holder, Place, announce
from brancher.params import current_store
from brancher.params.entry import transform_for, unconstrain
from brancher.primitives import module
from brancher.symbolic.batches import Value
from brancher.symbolic.calls import Call
from brancher.symbolic.expressions import Expression

#: Arguments that count something: how sharp a law is grows with them.
_COUNTS = frozenset({"alpha", "beta", "concentration", "concentration0", "concentration1", "df", "rate"})
_Independent: Any = type(constraints.independent(constraints.real, 1))


class Parameter(Expression):
    """A learnable value: a leaf of the graph.

    Args:
        owner: name of its variable.
        argument: which argument of the variable it is.
        value: first value.
        constraint: where it lies.

    Raises:
        ParamError: the first value lies outside its constraint.
    """

    def __init__(
        self, owner: str, argument: str, value: torch.Tensor, constraint: Constraint = constraints.real
    ) -> None:
        super().__init__()
        if not value.is_floating_point():
            value = value.to(torch.get_default_dtype())
        label = f"{owner}.{argument}"
        self.owner, self.argument, self.constraint = owner, argument, constraint
        self.holder = Holder()
        self.holder._parameters["value"] = torch.nn.Parameter(
            unconstrain(label, value, constraint, transform_for(label, constraint)).detach().clone()
        )
        self._rank = value.dim()
        self.place = Place(
            label, self.holder._parameters, "value", constraint, transform_for(label, constraint)
        )

    @property
    def label(self) -> str:
        """Its name within a model."""
        return f"{self.owner}.{self.argument}"

    @property
    def value(self) -> torch.Tensor:
        """The constrained value."""
        return self.place.value()

    def set(self, value: torch.Tensor) -> None:
        """Give it another constrained value of the same shape."""
        free = unconstrain(self.label, value, self.constraint, self.place.transform)
        with torch.no_grad():
            self.place.leaf.copy_(free)

    def evaluate(self, values: Sequence[Value]) -> Value:
        return Value(self.place.value(), self._rank)

    def announced(self, name: str, place: Place) -> Value:
        """The value at a place that shares it, shown to the handlers as a param site."""
        return Value(announce(name, place, place.value()), self._rank)

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return self._rank


class Names:
    """Names for everything that is learned in one program, or in several that run together.

    Args:
        prefix: first part of every name.
    """

    def __init__(self, prefix: str = "model") -> None:
        self.prefix = prefix
        self._paths: dict[int, str] = {}
        self._places: dict[int, Place] = {}
        self._kept: list[object] = []
        self._face = Holder()
        self._taken: set[str] = set()
        self._registered: tuple[Any, str] | None = None

    def add(self, nodes: Iterable[Expression], part: str = "") -> None:
        """Name what is learned in these nodes, except what has a name already."""
        for node in nodes:
            if isinstance(node, Parameter) and id(node) not in self._paths:
                path = self._free(f"{part}{node.label}")
                self._remember(node, path)
                self._show(path, node)
            elif isinstance(node, Call) and node.module is not None and id(node.module) not in self._paths:
                self._remember(node.module, self._free(f"{part}{_module_name(node.module)}"))

    def _free(self, path: str) -> str:
        name, number = path, 1
        while name in self._taken:
            name, number = f"{path}_{number}", number + 1
        self._taken.add(name)
        return name

    def _remember(self, thing: object, path: str) -> None:
        self._paths[id(thing)] = path
        self._kept.append(thing)

    def _show(self, path: str, node: Parameter) -> None:
        # One parameter under its last name, in holders named after the rest: shared, not copied.
        *folders, key = path.split(".")
        owner = self._face
        for folder in folders:
            owner = owner._modules.setdefault(folder, Holder())  # type: ignore[assignment]
        owner._parameters[key] = node.holder._parameters["value"]
        if node.constraint is not constraints.real:
            owner.parameter_constraints[key] = node.constraint
        # Read from there: staging and functional calls put other tensors into what the store shows.
        table: Any = owner._parameters
        self._places[id(node)] = Place(path, table, key, node.constraint, node.place.transform)

    def register(self) -> str:
        """Show the parameters in the current store, and return the prefix that they have there."""
        store = current_store()
        if self._registered is not None and self._registered[0] is store:
            return self._registered[1]
        prefix, number = self.prefix, 0
        if self._face._modules or self._face._parameters:
            while store.get_module(prefix) not in (None, self._face):
                number += 1
                prefix = f"{self.prefix}_{number}"
            store.register_module(prefix, self._face)
        self._registered = store, prefix
        return prefix

    def path(self, thing: object) -> str:
        """The name of a parameter or network, without the prefix."""
        return self._paths[id(thing)]

    def place(self, node: Parameter) -> Place:
        """Where the store shows a parameter."""
        return self._places[id(node)]

    def call(self, prefix: str, node: Call, values: Sequence[Value]) -> Value:
        """Evaluate a call of a network, its parameters shown as param sites."""
        network = node.module
        if network is None:
            return node.evaluate(values)
        shown = module(f"{prefix}.{self._paths[id(network)]}", network)
        if node.fn is network:
            return node.evaluate_by(shown, values)
        return node.evaluate(values)


def _module_name(network: torch.nn.Module) -> str:
    return type(network).__name__.lower()


def learnable(owner: str, argument: str, value: Any, constraint: Constraint) -> Parameter:
    """A parameter made of a number, array or tensor that stands as an argument of a variable.

    Raises:
        ParamError: the value lies outside the constraint.
        SiteTypeError: it is nothing numeric.
    """
    from brancher.symbolic.expressions import as_tensor

    tensor = as_tensor(value, f"variable '{owner}', argument '{argument}'")
    if tensor.dim() == 0:
        constraint = base_constraint(constraint)  # a number stands for all entries of a vector
    if tensor.dim() < constraint.event_dim:
        raise SiteTypeError(
            f"variable '{owner}': expected argument '{argument}' with at least "
            f"{constraint.event_dim} dimensions, "
            f"got shape {tuple(tensor.shape)}"
        )
    return Parameter(owner, argument, tensor.detach().clone(), smooth(constraint, argument))


def base_constraint(constraint: Any) -> Any:
    """The constraint of one entry."""
    return constraint.base_constraint if isinstance(constraint, _Independent) else constraint


def smooth(constraint: Any, argument: str) -> Constraint:
    """Positive values by softplus: far from zero a step changes them as it would a free value.

    What counts something may lie far from where it starts, and is known up to a factor: by its logarithm.
    """
    if isinstance(constraint, _Independent):
        return constraints.independent(
            smooth(constraint.base_constraint, argument), constraint.reinterpreted_batch_ndims
        )
    is_positive = isinstance(constraint, (type(constraints.positive), type(constraints.nonnegative)))
    if not is_positive or constraint.lower_bound != 0:
        own: Constraint = constraint
        return own
    found: Constraint = constraints.positive if argument in _COUNTS else constraints.softplus_positive
    return found
