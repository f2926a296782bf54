"""The structure of nested arguments: which tensors, in which containers, beside which constants.

A structure is compiled once into two small functions, one that checks arguments against it and takes the
tensors out, one that builds the same containers around new tensors. A generic walk costs 10 times as much.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from brancher.staging.reasons import StagingError, refuse_odd

Tensor = torch.Tensor

#: Types of values that are told apart by value.
PLAIN = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device)
#: So many attributes are looked at in an argument that is an object.
_MOST = 256


class Leaf(NamedTuple):
    """A tensor."""


class Constant(NamedTuple):
    """Anything else: part of the cache key by value (a module by identity and train/eval mode)."""

    key: Hashable


class Node(NamedTuple):
    """A tuple, list, dict, OrderedDict, named tuple or dataclass."""

    kind: type
    keys: tuple[Hashable, ...]
    children: tuple[Any, ...]


Structure = Leaf | Constant | Node


def constant_key(value: Any) -> Hashable:
    """Return what identifies a non-tensor: equal keys mean that a traced graph may be used again.

    The type is part of it (1, 1.0 and True are three keys), floats go by their digits (nan is one key, -0.0
    is not 0.0), a module goes by identity plus the train/eval mode of it and its children, an array, an
    index or a table by its contents, and another object that equals nothing but itself by identity plus its
    attributes.
    """
    kind: Any = type(value)
    return _reader(kind)(value)


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Hashable]:
    """How objects of a type are told apart."""
    if issubclass(kind, float):
        return lambda value: (kind, repr(value))
    if issubclass(kind, torch.nn.Module):
        return lambda value: (value, tuple(part.training for part in value.modules()))
    if issubclass(kind, np.ndarray):
        return lambda value: (kind, *_contents(value))
    if kind.__module__.partition(".")[0] == "pandas":
        return lambda value: (kind, *_contents_of_table(value))
    if _is_itself(kind):
        return lambda value: (kind, value, _inside(value))
    return lambda value: (kind, value)


def _inside(value: Any) -> Hashable:
    """What an object holds, and the objects in it: the nearest first, and not more than settings are."""
    found: list[Hashable] = []
    waiting, seen = [value], {id(value)}
    while waiting and len(found) < _MOST:
        holder = waiting.pop(0)
        inside = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
        parts = list(inside.items()) if not isinstance(holder, (list, tuple)) else list(enumerate(holder))
        for name, part in parts[: _MOST - len(found)]:
            kind: Any = type(part)
            if kind in PLAIN:
                found.append((name, constant_key(part)))
                continue
            found.append((name, Same(part)))
            if (kind in (tuple, list, dict) or _is_itself(kind)) and id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)
    return tuple(found)


@functools.cache
def _is_itself(kind: Any) -> bool:
    """Whether objects of a type equal nothing but themselves, and may have attributes."""
    return kind.__hash__ is object.__hash__ and kind.__module__ != "builtins" and not issubclass(kind, type)


class Same:
    """An object that equals itself alone, and is kept so that no other takes its address."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _contents(array: np.ndarray[Any, Any]) -> tuple[Hashable, ...]:
    if array.dtype.hasobject:
        return array.shape, tuple(map(constant_key, array.ravel().tolist()))
    return array.shape, array.dtype.str, array.tobytes()


def _contents_of_table(value: Any) -> tuple[Hashable, ...]:
    """The contents of a pandas Index, Series or DataFrame; another object of pandas goes by itself."""
    if hasattr(value, "columns"):
        columns = tuple(constant_key(value.iloc[:, i]) for i in range(value.shape[1]))
        return constant_key(value.columns), columns
    if hasattr(value, "index") and hasattr(value, "to_numpy"):
        return value.name, constant_key(value.index), *_contents(value.to_numpy())
    if hasattr(value, "names") and hasattr(value, "to_numpy"):
        return tuple(value.names), *_contents(value.to_numpy())
    return (value,)


def flatten(
    value: Any, path: str = "argument", *, any_layout: bool = False
) -> tuple[list[Tensor], Structure]:
    """Split nested containers into their tensors and their structure.

    Args:
        value: the containers.
        path: what they are called in messages.
        any_layout: take tensors that a compiled graph can not read too.

    Raises:
        StagingError: a part is neither a tensor nor a container nor hashable, or a tensor is not dense.
    """
    leaves: list[Tensor] = []
    return leaves, _walk(value, leaves, path, any_layout)


def _walk(value: Any, leaves: list[Tensor], path: str, any_layout: bool) -> Structure:
    if isinstance(value, Tensor):
        if not any_layout:
            refuse_odd(value, path)
        leaves.append(value)
        return Leaf()
    kind: Any = type(value)
    if kind in (tuple, list) or (isinstance(value, tuple) and hasattr(kind, "_fields")):
        parts = [_walk(v, leaves, f"{path}[{i}]", any_layout) for i, v in enumerate(value)]
        return Node(kind, (), tuple(parts))
    if kind in (dict, OrderedDict):
        parts = [_walk(v, leaves, f"{path}[{k!r}]", any_layout) for k, v in value.items()]
        return Node(kind, tuple(value), tuple(parts))
    if _is_record(value):
        names = _fields(kind)
        parts = [_walk(getattr(value, name), leaves, f"{path}.{name}", any_layout) for name in names]
        return Node(kind, names, tuple(parts))
    try:
        key = constant_key(value)
        hash(key)
    except TypeError:
        raise StagingError(
            f"{path}: expected a tensor, a container of tensors or a hashable value, got {kind.__name__}; "
            "convert it with torch.as_tensor, or keep it out of the arguments.",
            reason="arguments",
        ) from None
    return Constant(key)


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors of nested containers, whatever lies beside them."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [found for part in value.values() for found in tensors_of(part)]
    if isinstance(value, tuple | list):
        return [found for part in value for found in tensors_of(part)]
    kind: Any = type(value)
    if _is_dataclass(kind):
        return [found for name in _fields(kind) for found in tensors_of(getattr(value, name))]
    return []


def _is_record(value: Any) -> bool:
    """Whether a value is a dataclass with tensors, or one that has no hash."""
    kind: Any = type(value)
    if not _is_dataclass(kind):
        return False
    return kind.__hash__ is None or any(tensors_of(getattr(value, name)) for name in _fields(kind))


@functools.cache
def _is_dataclass(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and not issubclass(kind, torch.nn.Module)


@functools.cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _build_record(kind: type, names: Sequence[str], parts: Sequence[Any]) -> Any:
    """An object with these fields; nothing of its own runs, and it may be frozen."""
    made: Any = object.__new__(kind)
    for name, part in zip(names, parts, strict=True):
        object.__setattr__(made, name, part)
    return made


def compile_match(structure: Structure) -> Callable[[Any], list[Tensor] | None]:
    """Return a function that takes the tensors out of a value, or gives None where the structure differs."""
    lines: list[str] = []
    space: dict[str, Any] = {"Tensor": Tensor, "key": constant_key}
    taken = _emit_match(structure, "a", lines, space, [0])
    body = "\n    ".join([*lines, f"return [{', '.join(taken)}]"])
    exec(f"def match(a):\n    {body}", space)
    found: Callable[[Any], list[Tensor] | None] = space["match"]
    return found


def _emit_match(
    structure: Structure, name: str, lines: list[str], space: dict[str, Any], count: list[int]
) -> list[str]:
    if isinstance(structure, Leaf):
        lines.append(f"if not isinstance({name}, Tensor): return None")
        return [name]
    count[0] += 1
    token = f"k{count[0]}"
    if isinstance(structure, Constant):
        space[token] = structure.key
        lines.append(f"if key({name}) != {token}: return None")
        return []
    space[token] = structure.kind
    kind: Any = structure.kind
    if _is_dataclass(kind):
        lines.append(f"if type({name}) is not {token}: return None")
        parts = [f"{token}_{i}" for i in range(len(structure.children))]
        lines += [f"{part} = {name}.{field}" for part, field in zip(parts, structure.keys, strict=True)]
        return [
            taken
            for part, child in zip(parts, structure.children, strict=True)
            for taken in _emit_match(child, part, lines, space, count)
        ]
    space[f"{token}_keys"] = list(structure.keys)
    same = f"list({name}) != {token}_keys" if structure.keys else f"len({name}) != {len(structure.children)}"
    lines.append(f"if type({name}) is not {token} or {same}: return None")
    parts = [f"{token}_{i}" for i in range(len(structure.children))]
    if parts:
        source = f"{name}.values()" if structure.keys else name
        lines.append(f"{', '.join(parts)}, = {source}")
    return [
        taken
        for part, child in zip(parts, structure.children, strict=True)
        for taken in _emit_match(child, part, lines, space, count)
    ]


def compile_build(structure: Structure, constants: Sequence[Any] = ()) -> Callable[[Sequence[Tensor]], Any]:
    """Return a function that builds the containers around a flat sequence of tensors.

    Args:
        structure: the containers.
        constants: the values of the constants, in the order of the walk (see `constants_of`).
    """
    space: dict[str, Any] = {"c": list(constants)}
    text = _emit_build(structure, space, [0, 0, 0])
    exec(f"def build(o):\n    return {text}", space)
    found: Callable[[Sequence[Tensor]], Any] = space["build"]
    return found


def _emit_build(structure: Structure, space: dict[str, Any], count: list[int]) -> str:
    if isinstance(structure, Leaf):
        count[0] += 1
        return f"o[{count[0] - 1}]"
    if isinstance(structure, Constant):
        count[1] += 1
        return f"c[{count[1] - 1}]"
    count[2] += 1
    token = f"n{count[2]}"
    space[token], space[f"{token}_keys"] = structure.kind, structure.keys
    parts = [_emit_build(child, space, count) for child in structure.children]
    inner = "".join(f"{part}, " for part in parts)
    if structure.kind is tuple:
        return f"({inner})"
    if structure.kind is list:
        return f"[{inner}]"
    if issubclass(structure.kind, dict):
        return f"{token}(zip({token}_keys, ({inner})))"
    kind: Any = structure.kind
    if _is_dataclass(kind):
        space["record"] = _build_record
        return f"record({token}, {token}_keys, ({inner}))"
    return f"{token}({inner})"


def constants_of(value: Any) -> list[Any]:
    """Return the non-tensors of nested containers, in the order in which `compile_build` wants them."""
    kind: Any = type(value)
    if isinstance(value, Tensor):
        return []
    if kind in (tuple, list) or (isinstance(value, tuple) and hasattr(kind, "_fields")):
        return [found for part in value for found in constants_of(part)]
    if kind in (dict, OrderedDict):
        return [found for part in value.values() for found in constants_of(part)]
    if _is_record(value):
        return [found for name in _fields(kind) for found in constants_of(getattr(value, name))]
    return [value]
