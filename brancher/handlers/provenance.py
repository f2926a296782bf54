"""Which sites' values a tensor was computed from, found while the model runs.

A ``TorchFunctionMode`` sees every torch call, so a result inherits the sources of its arguments:
continuous or discrete, through indexing and through writes into a buffer. What leaves torch
(``.item()``, numpy) loses its sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from brancher.handlers import Message, Messenger

Sources = frozenset[str]
NONE: Sources = frozenset()


@dataclass
class Entry:
    """What is known of one tensor.

    Attributes:
        tensor: kept alive: an id is only unique while its object lives.
        whole: names that any entry of it may have come from.
        parts: boolean tensors that tell, by name, which entries were written from it.
    """

    tensor: torch.Tensor
    whole: Sources = NONE
    parts: dict[str, torch.Tensor] = field(default_factory=dict)


class Ledger(TorchFunctionMode):
    """Notes for every tensor computed inside which names it came from."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[int, Entry] = {}

    def sources(self, value: Any) -> Sources:
        """The names that the tensors inside a value came from."""
        return NONE.union(*(self._of(tensor) for tensor in tensors_in(value)))

    def _of(self, tensor: torch.Tensor) -> Sources:
        entry = self._entries.get(id(tensor))
        if entry is None and tensor._base is not None:  # a view shares what was written to its base
            entry = self._entries.get(id(tensor._base))
        return NONE if entry is None else entry.whole.union(entry.parts)

    def mark(self, value: Any, sources: Sources) -> None:
        """Write down the sources of the tensors inside a value."""
        for tensor in tensors_in(value):
            self._entries[id(tensor)] = Entry(tensor, sources)

    def fresh(self, value: torch.Tensor, sources: Sources) -> torch.Tensor:
        """A copy with these sources alone."""
        copy = value.clone()
        self.mark(copy, sources)
        return copy

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a torch function; its results inherit the sources of its arguments."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        found = self._of_item(*args) if name == "__getitem__" else self.sources((args, kwargs))
        result = func(*args, **kwargs)
        if name == "__setitem__":
            self._write(args[0], args[1], self.sources(args[1:]))
        elif found or name == "__getitem__":
            self.mark(result, found)
        if found and (name.endswith("_") and not name.endswith("__")):
            self._write(args[0], ..., found)
        if found and kwargs.get("out") is not None:
            self.mark(kwargs["out"], found)
        return result

    def _of_item(self, tensor: Any, index: Any) -> Sources:
        entry = self._entries.get(id(tensor))
        if entry is None:
            return self.sources((tensor, index))
        read = {name for name, where in entry.parts.items() if bool(where[index].any())}
        return entry.whole.union(read, self.sources(index))

    def _write(self, tensor: torch.Tensor, index: Any, sources: Sources) -> None:
        entry = self._entries.setdefault(id(tensor), Entry(tensor, self._of(tensor)))
        for name in sources:
            where = entry.parts.setdefault(
                name, torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
            )
            where[index] = True
        base = tensor._base
        if base is not None and sources:
            self._entries[id(base)] = Entry(base, self._of(base) | sources)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors inside nested tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


class Provenance(Messenger):
    """Collects for every site the names that its distribution, or its value, came from.

    Args:
        ledger: the mode in which the model runs.
        types: the site types that count as sources; others are looked through.
    """

    def __init__(self, ledger: Ledger, types: Iterable[str]) -> None:
        super().__init__()
        self.ledger, self.types = ledger, frozenset(types)
        self.parents: dict[str, Sources] = {}

    def postprocess_message(self, message: Message) -> None:
        """Note the parents of a site, and make the site the only source of its value."""
        if message.type not in self.types:
            return
        if message.type == "deterministic":
            self.parents[message.name] = self.ledger.sources(message.value)
        elif message.type != "param":
            self.parents[message.name] = self._of_density(message)
        if isinstance(message.value, torch.Tensor):
            message.value = self.ledger.fresh(message.value, frozenset({message.name}))

    def _of_density(self, message: Message) -> Sources:
        fn, value = message.fn, self.ledger.fresh(message.value, NONE)
        try:
            found = self.ledger.sources(fn.log_prob(value))
        except Exception:  # a foreign distribution without a density: look at what it holds
            found = self.ledger.sources(list(_held(fn)))
        return found | self.ledger.sources(message.mask)


def _held(thing: Any, depth: int = 4) -> Iterator[Any]:
    for item in getattr(thing, "__dict__", {}).values():
        yield item
        if depth and not isinstance(item, torch.Tensor):
            yield from _held(item, depth - 1)
