"""Places around functions that hold what they read, and can be given something else to hold."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Hashable
from operator import is_
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from brancher.staging.owners import is_librarys, is_ours, is_users, names_of
from brancher.staging.structure import PLAIN, Same, constant_key

Tensor = torch.Tensor

#: Where wrappers keep the function that they wrap.
_WRAPPED = ("fn", "func", "model", "guide", "__wrapped__")
#: A container with more entries is data, not settings.
_MOST = 64
#: Reading more places at each call would cost more than the call.
_MOST_PLACES = 1_000
#: Objects of the standard library that hold what a user puts there.
_NAMESPACES = ("SimpleNamespace", "Namespace")
_MISSING = object()
#: What every module has, but train or eval mode; its parts, parameters and buffers are watched as containers.
_MODULE = frozenset(vars(torch.nn.Module())) - {"training"}


class Place:
    """Something that can be rebound: a closure's cell, a key of a mapping, or all entries of a container."""

    __slots__ = ("holder", "kind", "label", "name", "token")

    def __init__(self, kind: str, holder: Any, name: str, label: str) -> None:
        self.kind, self.holder, self.name, self.label = kind, holder, name, label
        self.token = (kind, id(holder), name)

    def entries(self) -> list[Any]:
        """What it holds."""
        if self.kind == "cell":
            return [_contents(self.holder)]
        if self.kind == "entry":
            return [self.holder.get(self.name, _MISSING)]
        return [*self.holder, *self.holder.values()] if isinstance(self.holder, dict) else list(self.holder)

    def carried(self, before: list[Any], now: list[Any], has_read: Callable[[Any], bool]) -> str:
        """The name of something that was read and then replaced, or an empty text."""
        if isinstance(self.holder, list):
            return self.label if any(map(has_read, before)) else ""
        for i, part in enumerate(before):
            if has_read(part) and not any(part is other for other in now):
                is_box = self.kind == "box"
                return f"{self.label}.{before[i - len(before) // 2]}" if is_box else self.label
        return ""

    def put_back(self, entries: list[Any]) -> None:
        """Let it hold again what it has held."""
        if self.kind == "cell":
            self.holder.cell_contents = entries[0]
        elif self.kind == "entry" and isinstance(self.holder, dict):
            if entries[0] is _MISSING:
                self.holder.pop(self.name, None)
            else:
                self.holder[self.name] = entries[0]
        elif isinstance(self.holder, dict):
            half = len(entries) // 2
            self.holder.clear()
            self.holder.update(zip(entries[:half], entries[half:], strict=True))
        elif isinstance(self.holder, list):
            self.holder[:] = entries


class Found:
    """The places that are found from some functions on, the nearest first, and how to read them fast."""

    def __init__(self, ours: dict[Hashable, Any], roots: tuple[Any, ...], settings: tuple[Any, ...]) -> None:
        self._ours = ours
        self._visited: dict[int, Any] = {}
        self._todo = deque((root, "") for root in roots)
        self._taken: set[Hashable] = set()
        self.places: list[Place] = []
        self._kept: list[tuple[Place, list[Any]]] = []
        for holder in settings:
            for name, value in vars(holder).items() if hasattr(holder, "__dict__") else ():
                if isinstance(value, PLAIN):
                    self._add(Place("entry", vars(holder), name, f"{type(holder).__name__}.{name}"))
        while self._todo and len(self.places) < _MOST_PLACES:
            self._look_into(*self._todo.popleft())

    def read(self) -> list[Any]:
        """What is in all places, one after the other."""
        try:
            now = [cell.cell_contents for cell in self._cells]
        except ValueError:
            now = [_contents(cell) for cell in self._cells]
        now += [get(name, _MISSING) for get, name in self._gets]
        for entries in self._boxes:
            now += entries
            if isinstance(entries, dict):
                now += entries.values()
        return now

    def mark(self) -> None:
        """Keep what is there, to compare it with later."""
        self._kept = [(place, place.entries()) for place in self.places]
        self._cells = [place.holder for place in self.places if place.kind == "cell"]
        self._gets = [(place.holder.get, place.name) for place in self.places if place.kind == "entry"]
        self._boxes = [place.holder for place in self.places if place.kind == "box"]

    def key(self) -> Hashable:
        """What was there at `mark`, as a value."""
        return tuple((place.label, tuple(map(_key, entries))) for place, entries in self._kept)

    def changed(self) -> list[Place]:
        """The places that hold something else than at `mark`."""
        return [place for place, kept in self._kept if not are_same(place.entries(), kept)]

    def _visit(self, value: Any, label: str) -> None:
        if not isinstance(value, (*PLAIN, Tensor)) and id(value) not in self._visited:
            self._visited[id(value)] = value
            self._todo.append((value, label))

    def _look_into(self, value: Any, label: str) -> None:
        """Find what can be rebound in a value."""
        if isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType):
            self._visit(value.__func__, label)
            self._visit(value.__self__, label)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self._visit(part, label)
        elif isinstance(value, torch.nn.Module):
            self._module(value, label or type(value).__name__)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, (dict, list, tuple)):
            self._container(value, label)
        elif not isinstance(value, ModuleType):
            self._object(value, label or type(value).__name__)

    def _function(self, function: FunctionType) -> None:
        code, own = function.__code__, is_users(function.__code__, function.__module__)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if own and not is_librarys(_contents(cell)):
                self._add(Place("cell", cell, "", name))
            self._visit(_contents(cell), name)
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(default, "")
        self._visit(getattr(function, "__wrapped__", None), "")
        if not own:
            return
        for name in names_of(code):
            value = function.__globals__.get(name, _MISSING)
            if isinstance(value, ModuleType):
                self._imported(value, name, code)
            elif value is not _MISSING and not is_librarys(value):
                self._entry(function.__globals__, name, name)

    def _imported(self, module: ModuleType, label: str, code: CodeType) -> None:
        """A module of the user's own: whatever the code may name of it."""
        if is_users(None, module.__name__):
            for name in code.co_names:
                if name in vars(module) and not is_librarys(vars(module)[name]):
                    self._entry(vars(module), name, f"{label}.{name}")

    def _entry(self, holder: Any, name: str, label: str) -> None:
        self._add(Place("entry", holder, name, label))
        self._visit(holder[name], label)

    def _module(self, module: torch.nn.Module, label: str) -> None:
        self._object(module, label)
        if not is_ours(type(module).__module__):
            for part in (module._modules, module._parameters, module._buffers):
                if part:
                    self._add(Place("box", part, "", label))
        for name, child in module._modules.items():
            self._visit(child, f"{label}.{name}")

    def _object(self, value: Any, label: str) -> None:
        kind = type(value)
        is_module = isinstance(value, torch.nn.Module) and not is_ours(kind.__module__)
        if is_module or is_users(None, kind.__module__) or kind.__name__ in _NAMESPACES:
            self._attributes(value, label)
            self._class(kind)
        else:
            inside = getattr(value, "__dict__", {})
            for name in _WRAPPED:
                self._visit(inside.get(name), label)

    def _attributes(self, value: Any, label: str) -> None:
        inside = getattr(value, "__dict__", {})
        is_own = is_users(None, type(value).__module__)
        for name in list(inside):
            if name not in _MODULE and (is_own or not name.startswith("_")):
                self._entry(inside, name, f"{label}.{name}")

    def _class(self, kind: type) -> None:
        for base in kind.__mro__:
            if not is_users(None, base.__module__):
                continue
            for name, value in vars(base).items():
                if isinstance(value, FunctionType):
                    self._visit(value, name)
                elif isinstance(value, (staticmethod, classmethod, property)):
                    self._visit(getattr(value, "__func__", None) or getattr(value, "fget", None), name)
                elif isinstance(value, (*PLAIN, Tensor)) and not name.startswith("__"):
                    self._add(Place("entry", vars(base), name, f"{base.__name__}.{name}"))

    def _container(self, value: Any, label: str) -> None:
        if len(value) > _MOST:
            return
        if not isinstance(value, tuple):
            self._add(Place("box", value, "", label))
        for part in value.values() if isinstance(value, dict) else value:
            self._visit(part, label)

    def _add(self, place: Place) -> None:
        if place.token not in self._taken and place.token not in self._ours:
            self._taken.add(place.token)
            self.places.append(place)


def are_same(some: list[Any], others: list[Any]) -> bool:
    """Whether two lists hold the same objects."""
    return len(some) == len(others) and all(map(is_, some, others))


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet, or deleted
        return _MISSING


def _key(value: Any) -> Hashable:
    if isinstance(value, PLAIN):
        return constant_key(value)
    if type(value) is tuple:
        return tuple(map(_key, value))
    return Same(value)
