"""A module's parameters as the store shows them: by name, and never copied."""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any

import torch
from torch import nn
from torch.distributions import constraints
from torch.distributions.transforms import Transform
from torch.nn.parameter import is_lazy

from brancher.errors import ParamError
from brancher.params.entry import transform_for

# The place of one parameter: the module that holds it, and the attribute's name.
Place = tuple[nn.Module, str]


class ModuleView:
    """The parameters of one registered module, read from the module at every look.

    Modules change while they live (``.to``, replaced layers, lazily made weights), so what is
    kept here is only a picture, taken again when the module no longer agrees with it.

    Args:
        name: the module's name.
        module: the module; it keeps its own parameters.
        serial: place in the store's order of declaration.
        prefix: first part of every parameter's name; empty for none.
    """

    def __init__(self, name: str, module: nn.Module, serial: int, prefix: str) -> None:
        self.name = name
        self.prefix = prefix
        self.module = module
        self.serial = serial
        self._leaves: dict[str, torch.Tensor] = {}
        self._constraints: dict[str, constraints.Constraint] = {}
        self._transforms: dict[str, Transform | None] = {}
        self._seen: list[tuple[Mapping[str, Any], tuple[str, ...], tuple[Any, ...]]] = []

    def leaves(self) -> Mapping[str, torch.Tensor]:
        """Return the module's parameters under their names in the store."""
        if not self._is_current():
            self._look()
        return self._leaves

    def constraint(self, name: str) -> constraints.Constraint:
        """Return where the value of a parameter lies.

        A module whose parameters are unconstrained forms of something else says so in a mapping
        ``parameter_constraints`` from attribute name to constraint.
        """
        self.leaves()
        return self._constraints.get(name, constraints.real)

    def read(self, name: str) -> torch.Tensor:
        """Return the constrained value of a parameter."""
        leaf = self.leaves()[name]
        if name not in self._constraints:
            return leaf
        if name not in self._transforms:
            self._transforms[name] = transform_for(name, self._constraints[name])
        transform = self._transforms[name]
        return leaf if transform is None else transform(leaf)

    def buffers(self) -> dict[str, torch.Tensor]:
        """Return the module's persistent buffers under their names in the store."""
        own = self.module.state_dict(keep_vars=True, prefix=self.prefix and f"{self.prefix}.")
        leaves = {id(leaf) for leaf in self.leaves().values()}
        return {
            name: value
            for name, value in own.items()
            if isinstance(value, torch.Tensor) and id(value) not in leaves
        }

    def refuse_nan(self) -> None:
        """Refuse a module whose parameters are not numbers.

        Raises:
            ParamError: naming the first of them.
        """
        for name, leaf in self.leaves().items():
            bad = torch.isnan(leaf) if leaf.is_floating_point() and not leaf.is_meta else leaf.new_zeros(())
            if not leaf.is_meta and bool(bad.any()):
                first = tuple(bad.nonzero()[0].tolist())
                raise ParamError(
                    f"parameter '{name}': expected numbers in the module '{self.name}', got {int(bad.sum())} "
                    f"NaN of {leaf.numel()}, the first at index {first}; initialise the module anew, or load "
                    "a file that is whole"
                )

    def places(self, leaf: torch.Tensor) -> list[Place]:
        """Return every place in the module that holds ``leaf``; tied weights have several."""
        return [
            (owner, key)
            for owner in self.module.modules()
            for key, value in owner._parameters.items()
            if value is leaf
        ]

    # named_parameters() walks and formats names at every call; identities are quickly compared. The
    # dictionaries are those that register_parameter and add_module write to.
    def _is_current(self) -> bool:
        if not self._seen:
            return False
        for named, keys, values in self._seen:
            if len(named) != len(keys) or tuple(named) != keys or not all(map(is_, named.values(), values)):
                return False
        return True

    def _look(self) -> None:
        self._leaves = dict(self.module.named_parameters(prefix=self.prefix))
        self._transforms = {}
        self._constraints = {
            ".".join(part for part in (self.prefix, path, key) if part): constraint
            for path, owner in self.module.named_modules()
            for key, constraint in _constraints_of(owner).items()
        }
        tables = [table for owner in self.module.modules() for table in (owner._parameters, owner._modules)]
        self._seen = [(table, tuple(table), tuple(table.values())) for table in tables]
        # A lazy parameter becomes a real one without changing its identity.
        if any(is_lazy(leaf) for leaf in self._leaves.values()):
            self._seen = []
            self._leaves = {key: leaf for key, leaf in self._leaves.items() if not is_lazy(leaf)}


def _constraints_of(module: nn.Module) -> Mapping[str, constraints.Constraint]:
    found = module.__dict__.get("parameter_constraints")
    return found if isinstance(found, Mapping) else {}
