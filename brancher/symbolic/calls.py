"""Functions of tensors, called with expressions among their arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from brancher.symbolic.batches import Value, batch_of, elementwise, flattened, unflattened
from brancher.symbolic.expressions import Expression, highest


class _Slot:
    """Stands for an expression among the arguments of a function."""


_SLOT = _Slot()


class Call(Expression):
    """A function called with expressions among its arguments.

    Args:
        label: its name.
        fn: the function.
        args: its arguments; expressions may be inside lists, tuples and dicts.
        kwargs: its keyword arguments.
        is_elementwise: whether data broadcast with data; else the batch is flattened into dimension 0.
    """

    def __init__(
        self, label: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], is_elementwise: bool = False
    ) -> None:
        found: list[Expression] = []
        self._template = emptied((args, kwargs), found)
        self._is_plain = (
            len(found) == len(args) and not kwargs and all(item is _SLOT for item in self._template[0])
        )
        super().__init__(found)
        self.label, self.fn, self.is_elementwise = label, fn, is_elementwise
        # Whole numbers reach a network as floats, unless it looks rows up by them.
        self._takes_floats = self.module is not None and not any(
            isinstance(part, (torch.nn.Embedding, torch.nn.EmbeddingBag)) for part in self.module.modules()
        )

    @property
    def module(self) -> torch.nn.Module | None:
        """The network whose parameters the function has."""
        owner = self.fn if isinstance(self.fn, torch.nn.Module) else getattr(self.fn, "__self__", None)
        return owner if isinstance(owner, torch.nn.Module) else None

    def evaluate(self, values: Sequence[Value]) -> Value:
        return self.evaluate_by(self.fn, values)

    def evaluate_by(self, fn: Callable[..., Any], values: Sequence[Value]) -> Value:
        """The value, with ``fn`` in place of the function."""

        def call(*tensors: Any) -> Any:
            if self._is_plain:
                return fn(*tensors)
            args, kwargs = _filled(self._template, iter(tensors))
            return fn(*args, **kwargs)

        if self.is_elementwise:
            return elementwise(call, values)
        batch = batch_of([leaf for value in values for leaf in _leaves(value)])
        tensors = [_flat(value, batch) for value in values]
        if self._takes_floats:
            tensors = [_floating(tensor) for tensor in tensors]
        return unflattened(call(*tensors), batch, self.label)

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return highest(ranks) if self.is_elementwise else None


def emptied(item: Any, found: list[Expression]) -> Any:
    """The arguments with a slot in place of every expression, which are added to ``found`` in order."""
    if isinstance(item, Expression):
        found.append(item)
        return _SLOT
    if isinstance(item, (list, tuple)):
        return type(item)(emptied(each, found) for each in item)
    if isinstance(item, dict):
        return {key: emptied(each, found) for key, each in item.items()}
    return item


def _filled(item: Any, tensors: Iterator[Any]) -> Any:
    if item is _SLOT:
        return next(tensors)
    if isinstance(item, (list, tuple)):
        return type(item)(_filled(each, tensors) for each in item)
    if isinstance(item, dict):
        return {key: _filled(each, tensors) for key, each in item.items()}
    return item


def _leaves(value: Value) -> Iterator[Value]:
    if isinstance(value.tensor, (tuple, dict)):
        for item in value.tensor.values() if isinstance(value.tensor, dict) else value.tensor:
            yield from _leaves(item)
    else:
        yield value


def _flat(value: Value, batch: torch.Size) -> Any:
    if isinstance(value.tensor, dict):
        return {key: _flat(item, batch) for key, item in value.tensor.items()}
    if isinstance(value.tensor, tuple):
        return tuple(_flat(item, batch) for item in value.tensor)
    return flattened(value, batch)


def _floating(tensor: Any) -> Any:
    is_whole = isinstance(tensor, torch.Tensor) and not tensor.is_floating_point() and not tensor.is_complex()
    return tensor.to(torch.get_default_dtype()) if is_whole else tensor


class DataFunction(Expression):
    """A function of values as they are, batch on the left, that takes care of the batch itself."""

    def __init__(self, label: str, fn: Callable[..., Value], parents: Sequence[Expression]) -> None:
        super().__init__(parents)
        self.label, self.fn = label, fn

    def evaluate(self, values: Sequence[Value]) -> Value:
        return self.fn(*values)
