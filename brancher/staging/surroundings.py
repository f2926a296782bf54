"""What functions read from around them: closures, globals, attributes; and whether any of it was rebound.

A recorded graph holds the Python values that the function read when it was recorded. Here those are found
that can be found from outside, so that a change leads to another graph instead of old numbers.
"""

from __future__ import annotations

import dis
import functools
import site
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from operator import is_
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from brancher.staging import backend
from brancher.staging.reasons import StagingError
from brancher.staging.structure import Same, constant_key

Tensor = torch.Tensor

_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
#: Where wrappers keep the function that they wrap.
_WRAPPED = ("fn", "func", "model", "guide", "__wrapped__")
#: From so many states on, compiling anew for each costs more than it gives.
MOST_STATES = 5
#: A container with more entries is data, not settings.
_MOST = 64
#: Reading more places at each call would cost more than the call.
_MOST_PLACES = 1_000
#: Objects of the standard library that hold what a user puts there.
_NAMESPACES = ("SimpleNamespace", "Namespace")
_MISSING = object()
#: What every module has, but train or eval mode; its parts, parameters and buffers are watched as containers.
_MODULE = frozenset(vars(torch.nn.Module())) - {"training"}


class Surroundings:
    """Watches what functions read from outside their arguments, as far as that can be told.

    Watched: closure variables and globals that the functions name; attributes of their objects, classes
    and modules; entries of small lists and dicts among those; the same of functions that they name, if those
    are not a library's. Numbers, strings and the like go by value, everything else by which object it is: a
    tensor that is changed in place is the same. What the functions themselves change is not watched.

    Args:
        roots: the functions, bare, bound, partial or wrapped, or modules and other callable objects.
        settings: objects of libraries whose public attributes are watched as a user's are.

    Example:
        >>> from types import SimpleNamespace
        >>> options = SimpleNamespace(scale=1.0)
        >>> around = Surroundings([functools.partial(print, options)])
        >>> before, options.scale = around.state(), 2.0
        >>> around.state() == before, around.changed
        (False, 'SimpleNamespace.scale')
    """

    def __init__(self, roots: Iterable[Any], settings: Iterable[Any] = ()) -> None:
        self._roots, self._settings = tuple(roots), tuple(settings)
        self.is_empty = not self._roots
        self._ours: dict[Hashable, _Place] = {}
        self._states: dict[Hashable, int] = {}
        self._state = -1
        self._look_around()
        #: Name of what was rebound last, "" before.
        self.changed = ""

    def state(self) -> int:
        """Tell what is there now: the same number for the same values, whatever was there between."""
        if self._state >= 0 and self._is_as_seen():
            return self._state
        changed = self._found.changed()
        self._look_around()
        state = self._states.setdefault(self._found.key(), len(self._states))
        if changed and state != self._state:
            self.changed = changed[0].label
        self._state = state
        return state

    def settle(self) -> None:
        """Call after the functions have run: what has changed since `state` is their own doing."""
        self._ours.update({place.token: place for place in self._found.changed()})
        self._look_around()
        self._states[self._found.key()] = self._state

    @contextmanager
    def left_alone(self, name: str) -> Iterator[None]:
        """Put back, where this is part of a recording, what the functions have left of its stand-ins.

        Raises:
            StagingError: they have read a tensor and then put another one in its place, where a graph
                would read the first one for ever.
        """
        recorder = backend.current_recorder()
        places = [] if recorder is None else [*self._ours.values(), *self._found.places]
        kept = [(place, place.entries()) for place in places]
        carried = ""
        try:
            yield
        finally:
            for place, before in kept:
                now = place.entries()
                if recorder is not None and not _are_same(now, before) and any(map(_is_stand_in, now)):
                    place.put_back(before)
                    carried = place.carried(before, now, recorder.has_read) or carried
        if carried:
            raise StagingError(
                f"staged function '{name}': expected tensors that are changed in place, got '{carried}', "
                "which is read and then replaced; write into it with .copy_(), or pass it as an argument.",
                reason="trace",
            )

    @property
    def is_restless(self) -> bool:
        """Whether what was there at `state` is one change too many."""
        return self._state >= MOST_STATES

    def _is_as_seen(self) -> bool:
        return _are_same(self._found.read(), self._seen)

    def _look_around(self) -> None:
        found = _Found(self._ours, self._roots, self._settings)
        found.mark()
        self._found, self._seen = found, found.read()


class _Place:
    """Something that can be rebound: a closure's cell, a key of a mapping, or all entries of a container."""

    __slots__ = ("holder", "kind", "label", "name", "token")

    def __init__(self, kind: str, holder: Any, name: str, label: str) -> None:
        self.kind, self.holder, self.name, self.label = kind, holder, name, label
        self.token = (kind, id(holder), name)

    def entries(self) -> list[Any]:
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


class _Found:
    """The places that are found from some functions on, the nearest first, and how to read them fast."""

    def __init__(self, ours: dict[Hashable, Any], roots: tuple[Any, ...], settings: tuple[Any, ...]) -> None:
        self._ours = ours
        self._visited: dict[int, Any] = {}
        self._todo = deque((root, "") for root in roots)
        self._taken: set[Hashable] = set()
        self.places: list[_Place] = []
        self._kept: list[tuple[_Place, list[Any]]] = []
        for holder in settings:
            self._attributes(holder, type(holder).__name__)
        while self._todo and len(self.places) < _MOST_PLACES:
            self._look_into(*self._todo.popleft())

    def read(self) -> list[Any]:
        """What is in all places, one after the other."""
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

    def changed(self) -> list[_Place]:
        """The places that hold something else than at `mark`."""
        return [place for place, kept in self._kept if not _are_same(place.entries(), kept)]

    def _visit(self, value: Any, label: str) -> None:
        if not isinstance(value, (*_PLAIN, Tensor)) and id(value) not in self._visited:
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
            if own:
                self._add(_Place("cell", cell, "", name))
            self._visit(_contents(cell), name)
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(default, "")
        self._visit(getattr(function, "__wrapped__", None), "")
        if not own:
            return
        for name in _names(code):
            value = function.__globals__.get(name, _MISSING)
            if isinstance(value, ModuleType):
                self._imported(value, name, code)
            elif value is not _MISSING and not _is_librarys(value):
                self._entry(function.__globals__, name, name)

    def _imported(self, module: ModuleType, label: str, code: CodeType) -> None:
        """A module of the user's own: whatever the code may name of it."""
        if is_users(None, module.__name__):
            for name in code.co_names:
                if name in vars(module) and not _is_librarys(vars(module)[name]):
                    self._entry(vars(module), name, f"{label}.{name}")

    def _entry(self, holder: Any, name: str, label: str) -> None:
        self._add(_Place("entry", holder, name, label))
        self._visit(holder[name], label)

    def _module(self, module: torch.nn.Module, label: str) -> None:
        self._object(module, label)
        if not _is_ours(type(module).__module__):
            for part in (module._modules, module._parameters, module._buffers):
                if part:
                    self._add(_Place("box", part, "", label))
        for name, child in module._modules.items():
            self._visit(child, f"{label}.{name}")

    def _object(self, value: Any, label: str) -> None:
        kind = type(value)
        is_module = isinstance(value, torch.nn.Module) and not _is_ours(kind.__module__)
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
                elif isinstance(value, (*_PLAIN, Tensor)) and not name.startswith("__"):
                    self._add(_Place("entry", vars(base), name, f"{base.__name__}.{name}"))

    def _container(self, value: Any, label: str) -> None:
        if len(value) > _MOST:
            return
        if not isinstance(value, tuple):
            self._add(_Place("box", value, "", label))
        for part in value.values() if isinstance(value, dict) else value:
            self._visit(part, label)

    def _add(self, place: _Place) -> None:
        if place.token not in self._taken and place.token not in self._ours:
            self._taken.add(place.token)
            self.places.append(place)


def _is_stand_in(value: Any) -> bool:
    return isinstance(value, Tensor) and backend.is_stand_in(value)


def _are_same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet, or deleted
        return _MISSING


def _key(value: Any) -> Hashable:
    if isinstance(value, _PLAIN):
        return constant_key(value)
    if type(value) is tuple:
        return tuple(map(_key, value))
    return Same(value)


@functools.cache
def _libraries() -> tuple[str, ...]:
    """Folders of the standard library and of installed packages."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple({*folders, *site.getsitepackages(), "<frozen"})


def is_users(code: CodeType | None, module: str | None) -> bool:
    """Whether code is the user's own, not that of an installed package, the standard library or this one."""
    if _is_ours(module):
        return False
    top = (module or "").partition(".")[0]
    return not code.co_filename.startswith(_libraries()) if code is not None else _is_users_module(top)


def _is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] == __name__.partition(".")[0]


@functools.cache
def _is_users_module(top: str) -> bool:
    file = getattr(sys.modules.get(top), "__file__", None)
    return top not in sys.builtin_module_names and not (file or "").startswith(_libraries())


def _is_librarys(value: Any) -> bool:
    """Whether a global is a function or class of a library, or a module: nobody rebinds those."""
    if isinstance(value, ModuleType):
        return True
    if isinstance(value, FunctionType):
        return not is_users(value.__code__, value.__module__)
    return isinstance(value, type) and not is_users(None, value.__module__)


@functools.lru_cache(maxsize=4096)
def _names(code: CodeType) -> tuple[str, ...]:
    """The globals that code names, that of functions defined inside too."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found.update(_names(inner))
    return tuple(sorted(found))
