"""What networks return in dicts and tuples: one site an entry, put together again in tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from brancher.symbolic.batches import Value


class Part(str):
    """Name of an entry of a variable's value, such as ``out.mean``.

    Args:
        owner: the variable.
        key: of the entry; for nested ones the keys from outside in.
    """

    owner: str
    key: tuple[Any, ...]

    def __new__(cls, owner: str, key: tuple[Any, ...]) -> Part:
        made = super().__new__(cls, ".".join([owner, *map(str, key)]))
        made.owner, made.key = owner, key
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.owner, self.key)


def owner_of(name: str) -> str:
    """The variable that a value is of, or is an entry of."""
    return name.owner if isinstance(name, Part) else name


def entries(value: Value) -> Iterator[tuple[tuple[Any, ...], Value]]:
    """Arrays in what a function returned, with their keys."""
    held = value.tensor
    if isinstance(held, torch.Tensor):
        yield (), value
        return
    for key, item in held.items() if isinstance(held, Mapping) else enumerate(held):
        for rest, inner in entries(item):
            yield (key, *rest), inner


def gathered(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put entries together: a dict, or a tuple where the keys count.

    Args:
        values: by name; those of one variable follow each other.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(name, Part):
            found[name] = value
            continue
        place = found.setdefault(name.owner, {})
        for key in name.key[:-1]:
            place = place.setdefault(key, {})
        place[name.key[-1]] = value
    return {name: _counted(value) for name, value in found.items()}


def _counted(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _counted(item) for key, item in value.items()}
    return tuple(inner.values()) if list(inner) == list(range(len(inner))) else inner
