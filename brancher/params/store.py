"""Where learnable values live: by name, constrained to read, unconstrained to optimize."""

from __future__ import annotations

import os
from collections.abc import Hashable, ItemsView, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from warnings import warn

import torch
from torch import nn
from torch.distributions import constraints

from brancher.distributions.validation import is_validating
from brancher.errors import BrancherWarning, ParamError, ParamTypeError, UnknownParamError, nearest
from brancher.params import entry as entries
from brancher.params import redeclare, store_file
from brancher.params import state as states
from brancher.params.contents import Contents, check_shape, swapped, write, write_held
from brancher.params.entry import Entry, Init
from brancher.params.leaf_of import show_leaf
from brancher.params.mapping import ParamMapping
from brancher.params.module_view import ModuleView
from brancher.params.scope import OPEN_STORES, STAND_INS, StandIn, push, remove_last, stand_in_for


class ParamStore(ParamMapping):
    """Parameters by name: unconstrained leaves, read as values inside their constraints.

    ``with ParamStore() as store:`` makes a store the current one of this thread or task; scripts
    that never do so share one default store.

    Example:
        >>> from torch.distributions import constraints
        >>> store = ParamStore()
        >>> store.declare("scale", 2.0, constraints.positive)
        tensor(2., grad_fn=<ExpBackward0>)
        >>> store.unconstrained()
        {'scale': tensor(0.6931, requires_grad=True)}
    """

    def __init__(self) -> None:
        self._contents = Contents()

    def declare(
        self,
        name: str,
        init: Init,
        constraint: constraints.Constraint = constraints.real,
        event_dim: int | None = None,
    ) -> torch.Tensor:
        """Return the value of a parameter, giving it a first one if it has none.

        Args:
            name: the parameter's name.
            init: first value, or a callable that makes it; copied, never aliased.
            constraint: where the value lies.
            event_dim: rightmost dimensions that no plate subsamples; None for all.

        Returns:
            The constrained value, differentiable in the unconstrained leaf.

        Raises:
            ParamError: the value lies outside the constraint, or the parameter was declared with
                another constraint, shape or event_dim.
            ParamTypeError: the value is not a floating tensor, array or number.
        """
        entry = self._contents.entries.get(name)
        if entry is None:
            entries.check_name(name)
            held = self._contents.read_held(name)
            if held is not None:
                redeclare.check_shape(name, held.shape, init)
                redeclare.check_constraint(name, self._contents.constraint(name), constraint)
                return held
            made = entries.new_entry(name, init, constraint, event_dim, next(self._contents.serials))
            return self._read(self._contents.enter(made))
        if constraint is not entry.constraint:
            redeclare.check_constraint(name, entry.constraint, constraint)
        redeclare.check_shape(name, entry.shape, init)
        if event_dim is not None and event_dim != entry.event_dim:
            redeclare.check_event_dim(entry, event_dim)
        return self._read(entry)

    def setdefault(
        self, name: str, init: Init, constraint: constraints.Constraint | None = None
    ) -> torch.Tensor:
        """Return the value of a parameter, giving it a first one, real by default, if it has none."""
        if constraint is None:
            constraint = self.constraint(name) if name in self else constraints.real
        return self.declare(name, init, constraint)

    def get_param(
        self,
        name: str,
        init_tensor: Init | None = None,
        constraint: constraints.Constraint = constraints.real,
        event_dim: int | None = None,
    ) -> torch.Tensor:
        """Return the value of a parameter; without ``init_tensor`` it must have one."""
        if init_tensor is None:
            return self[name]
        return self.declare(name, init_tensor, constraint, event_dim)

    def __getitem__(self, name: str) -> torch.Tensor:
        entry = self._contents.entries.get(name)
        if entry is not None:
            return self._read(entry)
        held = self._contents.read_held(name)
        if held is None:
            raise self._contents.unknown(name)
        return show_leaf(held, self.leaf(name))

    def leaf(self, name: str) -> torch.Tensor:
        """Return the unconstrained leaf of one parameter.

        Raises:
            UnknownParamError: the parameter has no value.
        """
        found = stand_in_for(self, name) if STAND_INS.get() else None
        if found is not None:
            return found
        entry = self._contents.entries.get(name)
        held = self._contents.held(name) if entry is None else entry.leaf
        if held is None:
            raise self._contents.unknown(name)
        return held

    def unconstrained(self) -> dict[str, torch.Tensor]:
        """Return every trainable leaf by name, in order of declaration, none of them twice."""
        if not self._contents.views and not STAND_INS.get():
            return {name: entry.leaf for name, entry in self._contents.entries.items()}
        leaves: dict[int, tuple[str, torch.Tensor]] = {}
        for name, leaf in self.named_parameters():
            if leaf.requires_grad:
                leaves.setdefault(id(leaf), (name, leaf))
        return dict(leaves.values())

    def named_parameters(self) -> ItemsView[str, torch.Tensor]:
        """Return names with unconstrained leaves, frozen ones of modules included."""
        leaves = dict(self._contents.leaves())
        for stand_in in STAND_INS.get():
            if stand_in.store is self:
                leaves.update(stand_in.tensors)
        return leaves.items()

    def constraint(self, name: str) -> constraints.Constraint:
        """Return the constraint that a parameter was declared with."""
        self._entry(name)
        return self._contents.constraint(name)

    def event_dim(self, name: str) -> int | None:
        """Return how many rightmost dimensions of a parameter no plate subsamples; None for all."""
        entry = self._entry(name)
        return None if entry is None else entry.event_dim

    def __setitem__(self, name: str, value: Init) -> None:
        """Give a parameter a new constrained value.

        The leaf stays the same object where shape, dtype and device allow, so that an optimizer
        keeps what it knows about it. A module's parameter is always written in place.
        """
        entry = self._contents.entries.get(name)
        held = None if entry is not None else self._contents.held(name)
        if entry is None and held is None:
            self.declare(name, value)
            return
        tensor = entries.first_value(name, value)
        if entry is not None:
            write(entry, entries.unconstrain(name, tensor, entry.constraint, entry.transform), tensor.shape)
        elif held is not None:
            constraint = self._contents.constraint(name)
            free = entries.unconstrain(name, tensor, constraint, entries.transform_for(name, constraint))
            check_shape(name, held, free)
            write_held(held, free)

    def __delitem__(self, name: str) -> None:
        if self._contents.entries.pop(name, None) is not None:
            return
        if self._contents.held(name) is None:
            raise self._contents.unknown(name)
        raise ParamError(
            f"parameter '{name}': expected one that the store owns, got one of a module; "
            "take the module out with unregister_module"
        )

    def __contains__(self, name: object) -> bool:
        contents = self._contents
        return isinstance(name, str) and (name in contents.entries or contents.held(name) is not None)

    def __len__(self) -> int:
        return len(self._contents.entries) + sum(len(view.leaves()) for view in self._contents.views.values())

    def __bool__(self) -> bool:
        return len(self) > 0

    def clear(self) -> None:
        """Forget every parameter and module; a module keeps its own parameters."""
        self._contents = Contents()

    def mark(self) -> int:
        """Return a point in the order of declarations, for ``forget_since``."""
        return next(self._contents.serials)

    def token(self) -> Hashable:
        """Return something that stays equal as long as the same parameters and modules are here."""
        contents = self._contents
        return id(contents), *map(id, contents.entries.values()), *map(id, contents.views.values())

    def forget_since(self, mark: int) -> None:
        """Forget parameters and modules that were declared after ``mark`` was taken."""
        contents = self._contents
        contents.entries = {k: entry for k, entry in contents.entries.items() if entry.serial < mark}
        contents.views = {k: view for k, view in contents.views.items() if view.serial < mark}

    def replace_param(self, name: str, new_param: Init, old_param: torch.Tensor) -> None:
        """Give ``name`` a new constrained value if ``old_param`` is still its leaf.

        Raises:
            ParamError: ``old_param`` is not the leaf that the store holds.
        """
        if dict(self.named_parameters()).get(name) is not old_param:
            raise ParamError(
                f"parameter '{name}': expected old_param as the leaf that the store holds, got "
                "another tensor; take it from unconstrained()"
            )
        self[name] = new_param

    def register_module(self, name: str, module: nn.Module, prefix: str | None = None) -> nn.Module:
        """Show a module's parameters in the store as ``"<prefix>.<parameter>"``, without copies.

        Values that were loaded from a file before the module was there are written into it.

        Args:
            name: the module's name.
            module: the module; it keeps its parameters.
            prefix: first part of the parameters' names, empty for none; the module's name by default.

        Returns:
            The module itself.

        Raises:
            ParamError: a parameter is NaN, or there is one of its name, or a loaded value has another shape.
            ParamTypeError: ``module`` is not an nn.Module.
        """
        contents = self._contents
        known = contents.views.get(name)
        if known is not None and known.module is module:
            return module
        entries.check_name(name)
        if not isinstance(module, nn.Module):
            raise ParamTypeError(
                f"module '{name}': expected an nn.Module, got {type(module).__name__}; "
                "register single tensors with param"
            )
        if known is not None:
            warn(
                f"module '{name}': expected one module per name, got a second "
                f"{type(module).__name__}, which takes the place of the first; give it another name",
                BrancherWarning,
                stacklevel=2,
            )
        serial = next(contents.serials) if known is None else known.serial
        view = ModuleView(name, module, serial, name if prefix is None else prefix)
        if is_validating():
            view.refuse_nan()
        contents.show(view)
        return module

    def get_module(self, name: str) -> nn.Module | None:
        """Return the module registered under a name, None if there is none."""
        view = self._contents.views.get(name)
        return None if view is None else view.module

    def modules(self) -> list[nn.Module]:
        """Return the registered modules."""
        return [view.module for view in self._contents.views.values()]

    def unregister_module(self, name: str) -> None:
        """Take a module out of the store; it keeps its parameters."""
        views = self._contents.views
        if views.pop(name, None) is None:
            raise UnknownParamError(
                f"module '{name}': expected one of {list(views)}, got an unknown name; "
                f"register it first{nearest(name, views)}"
            )

    @contextmanager
    def substituted(self, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Read values made of other unconstrained tensors inside the block, in modules as well.

        With it a step becomes a function of its parameters, to be differentiated or staged. For
        plain parameters it holds in this thread or task only; a module is one object for all.

        Args:
            tensors: unconstrained tensors by parameter name.

        Raises:
            UnknownParamError: a name is not in the store.
        """
        stand_in = StandIn(self, dict(tensors))
        with swapped(self._contents.swaps(tensors)):
            push(STAND_INS, stand_in)
            try:
                yield
            finally:
                remove_last(STAND_INS, stand_in)

    def get_state(self) -> dict[str, Any]:
        """Return copies of all parameters, constraints and buffers."""
        return states.take(self._contents)

    def set_state(self, state: Mapping[str, Any]) -> states.LoadReport:
        """Replace the whole content by what ``get_state`` returned; on an error nothing changes.

        Warns when parameters were declared and the names differ.

        Returns:
            Names that were missing from the state, and names that were not declared before.
        """
        return states.put(self._contents, state)

    @contextmanager
    def scope(self, state: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Work on another content of this store inside the block.

        Args:
            state: content to begin with; None begins empty. Holds the final content afterwards.
        """
        inside = {"params": {}, "constraints": {}} if state is None else state
        outside, contents = self._contents, Contents()
        states.put(contents, inside)
        self._contents = contents
        try:
            yield inside
            inside.update(self.get_state())
        finally:
            self._contents = outside

    def pack(self) -> dict[str, Any]:
        """Return copies of the whole content as tensors and JSON, fit for a checkpoint."""
        return store_file.pack(self._contents)

    def unpack(self, packed: dict[str, Any], map_location: Any = None) -> states.LoadReport:
        """Replace the whole content by what :meth:`pack` returned; on an error nothing changes."""
        return store_file.unpack(self._contents, packed, map_location)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, constraints and buffers to a file, without pickle.

        A file that is there is replaced once the new one is whole.

        Raises:
            MissingFileError: the directory does not exist.
        """
        store_file.save(self._contents, path)

    def load(self, path: str | os.PathLike[str], map_location: Any = None) -> states.LoadReport:
        """Replace the whole content by that of a file; on an error nothing changes.

        Values of modules are written into the modules, now or when those are registered. Warns
        when parameters were declared and the names differ.

        Args:
            path: what ``save`` wrote.
            map_location: device of the new tensors; None for that of the parameter they replace.

        Returns:
            Names that were missing from the file, and names that were not declared before.

        Raises:
            FileFormatError: the file is damaged or of another kind.
            MissingFileError: there is no such file.
            ParamError: a module's parameter has another shape.
        """
        return store_file.load(self._contents, path, map_location)

    def __enter__(self) -> ParamStore:
        push(OPEN_STORES, self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        remove_last(OPEN_STORES, self)

    def _read(self, entry: Entry) -> torch.Tensor:
        leaf = entry.leaf
        if STAND_INS.get():
            leaf = self.leaf(entry.name)
        transform = entry.transform
        return show_leaf(leaf if transform is None else transform(leaf), leaf)

    def _entry(self, name: str) -> Entry | None:
        entry = self._contents.entries.get(name)
        if entry is None and name not in self:
            raise self._contents.unknown(name)
        return entry
