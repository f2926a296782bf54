"""What a store holds: entries of its own, views of modules, and values that wait for a module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch.distributions import constraints

from brancher.errors import ParamError, UnknownParamError, nearest
from brancher.params import entry as entries
from brancher.params import journal
from brancher.params.entry import Entry
from brancher.params.module_view import ModuleView, Place

# A message that lists every weight of a network helps nobody.
_SHOWN = 20


@dataclass(slots=True)
class Contents:
    """The parameters of one store.

    Attributes:
        entries: parameters that the store owns.
        views: registered modules by name.
        waiting_buffers: buffers read from a file, for modules that are not registered yet.
        serials: counts declarations.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    views: dict[str, ModuleView] = field(default_factory=dict)
    waiting_buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    serials: count[int] = field(default_factory=count)

    def held(self, name: str) -> torch.Tensor | None:
        """Return the module's parameter of that name, None if no module has it."""
        view = self.view(name)
        return None if view is None else view.leaves()[name]

    def view(self, name: str) -> ModuleView | None:
        """Return the module that has a parameter of that name."""
        for view in self.views.values():
            if name.startswith(view.prefix) and name in view.leaves():
                return view
        return None

    def constraint(self, name: str) -> constraints.Constraint:
        """Return where the value of a parameter lies, be it the store's own or a module's."""
        entry = self.entries.get(name)
        if entry is not None:
            return entry.constraint
        view = self.view(name)
        return constraints.real if view is None else view.constraint(name)

    def read_held(self, name: str) -> torch.Tensor | None:
        """Return the value of a module's parameter, None if no module has it."""
        view = self.view(name)
        return None if view is None else view.read(name)

    def leaves(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Return names with leaves in order of declaration."""
        if not self.views:
            yield from ((name, entry.leaf) for name, entry in self.entries.items())
            return
        sources: list[Entry | ModuleView] = [*self.entries.values(), *self.views.values()]
        for source in sorted(sources, key=lambda source: source.serial):
            if isinstance(source, Entry):
                yield source.name, source.leaf
            else:
                yield from source.leaves().items()

    def buffers(self) -> dict[str, torch.Tensor]:
        """Return the buffers of every module, and those that wait for one."""
        found = dict(self.waiting_buffers)
        for view in self.views.values():
            found.update(view.buffers())
        return found

    def unknown(self, name: str) -> UnknownParamError:
        """Make the error for a name that has no value."""
        known = [key for key, _ in self.leaves()]
        shown = f"{known[:_SHOWN]}" + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
        return UnknownParamError(
            f"parameter '{name}': expected one of {shown}, got a name without a value; "
            f"declare it with an initial value{nearest(name, known)}"
        )

    def swaps(self, tensors: Mapping[str, torch.Tensor]) -> list[tuple[Place, torch.Tensor]]:
        """Return the places in modules that stand-ins for these names must fill."""
        found: list[tuple[Place, torch.Tensor]] = []
        for name, tensor in tensors.items():
            if name in self.entries:
                continue
            leaf = self.held(name)
            if leaf is None:
                raise self.unknown(name)
            # Weights may be tied across modules, so every view is asked.
            for view in self.views.values():
                found.extend((place, tensor) for place in view.places(leaf))
        return found

    def enter(self, made: Entry) -> Entry:
        """Take in a new entry; of two threads that declare at once, both are given the first one."""
        entry = self.entries.setdefault(made.name, made)
        if entry is made:
            journal.note(lambda: self._leave(made))
        return entry

    def _leave(self, entry: Entry) -> None:
        if self.entries.get(entry.name) is entry:
            del self.entries[entry.name]

    def show(self, view: ModuleView) -> None:
        """Show a module's parameters, in place of those of a module of the same name."""
        before = self.views.get(view.name)
        self.adopt(view)
        self.views[view.name] = view
        journal.note(lambda: self._hide(view, before))

    def _hide(self, view: ModuleView, before: ModuleView | None) -> None:
        if self.views.get(view.name) is view:
            if before is None:
                del self.views[view.name]
            else:
                self.views[view.name] = before

    def adopt(self, view: ModuleView) -> None:
        """Write values that were loaded before their module was there into the module.

        Raises:
            ParamError: a name is taken by another parameter, or a loaded shape does not fit.
        """
        leaves = view.leaves()
        taken = {name: self.entries[name] for name in leaves if name in self.entries}
        for name, entry in taken.items():
            if not entry.adoptable:
                raise ParamError(
                    f"module '{view.name}': expected free parameter names, got '{name}', which is declared "
                    "already; register the module under another name"
                )
            check_shape(name, leaves[name], entry.leaf)
        buffers = {
            k: (b, self.waiting_buffers[k]) for k, b in view.buffers().items() if k in self.waiting_buffers
        }
        for name, (buffer, loaded) in buffers.items():
            check_shape(name, buffer, loaded)
        for name in taken:
            write_held(leaves[name], self.entries.pop(name).leaf)
        for name, (buffer, loaded) in buffers.items():
            write_held(buffer, loaded)
            del self.waiting_buffers[name]


def write(entry: Entry, free: torch.Tensor, shape: torch.Size) -> None:
    """Put an unconstrained value into an entry, in place where shape, dtype and device allow."""
    leaf = entry.leaf
    if leaf.shape == free.shape and leaf.dtype == free.dtype and leaf.device == free.device:
        write_held(leaf, free)
    else:
        entry.leaf = entries.make_leaf(free)
    entry.shape = shape


def write_held(leaf: torch.Tensor, value: torch.Tensor) -> None:
    """Overwrite a leaf or buffer in place."""
    with torch.no_grad():
        leaf.copy_(value.detach())


def check_shape(name: str, leaf: torch.Tensor, value: torch.Tensor) -> None:
    """Refuse a value that does not have the shape of the module's own tensor."""
    if leaf.shape != value.shape:
        raise ParamError(
            f"parameter '{name}': expected shape {tuple(leaf.shape)}, which the module has, "
            f"got {tuple(value.shape)}; use a module of the same sizes"
        )


@contextmanager
def swapped(swaps: list[tuple[Place, torch.Tensor]]) -> Iterator[None]:
    """Put tensors into modules in place of parameters, and put the parameters back."""
    undo: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for (owner, key), tensor in swaps:
            old = owner._parameters[key]
            undo.append((owner._parameters, key, old))
            owner._parameters[key] = tensor  # type: ignore[assignment]
            # Recurrent layers hand a list of their weights to the kernel and keep it.
            for attribute, value in vars(owner).items():
                if isinstance(value, list) and any(item is old for item in value):
                    undo.append((vars(owner), attribute, value))
                    vars(owner)[attribute] = [tensor if item is old else item for item in value]
        yield
    finally:
        for place, key, old in reversed(undo):
            place[key] = old
