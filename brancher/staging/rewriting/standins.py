"""What operations give, known without running them again for every one of a kind."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch.fx import Graph
from torch.fx.node import map_arg

Tensor = torch.Tensor
_aten = torch.ops.aten


#: Gives what an operation gives for stand-ins.
Infer = Callable[..., Any]


def perform(target: Any, *args: Any, **options: Any) -> Any:
    """What an operation gives for stand-ins, by running it."""
    return target(*args, **options)


class Shared:
    """Stand-ins of which there is one for all tensors of a shape, stride, dtype and device.

    They tell nothing of which tensors share memory.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Tensor] = {}
        self._results: dict[Hashable, Any] = {}

    def settle(self, nodes: Graph) -> None:
        """Give all nodes of a graph shared stand-ins."""
        for node in nodes.nodes:
            value = node.meta.get("val")
            if isinstance(value, Tensor):
                node.meta["val"] = self.of(value)

    def of(self, value: Tensor) -> Tensor:
        """The one stand-in like this."""
        return self._values.setdefault(_facts(value), value)

    def __call__(self, target: Any, *args: Any, **options: Any) -> Any:
        """What an operation gives for stand-ins, of which it gets one at least."""
        if target is _aten.select.int and args[0].dim():
            args = (args[0], args[1], 0)
        key = (target, _key(args), _key(options))
        if key not in self._results:
            result = target(*args, **options)
            self._results[key] = self.of(result) if isinstance(result, Tensor) else result
        return self._results[key]


def values(arguments: Any) -> Any:
    """Arguments with the stand-ins of nodes in their place."""
    return map_arg(arguments, lambda node: node.meta["val"])


def _facts(tensor: Tensor) -> Hashable:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _key(argument: Any) -> Hashable:
    if isinstance(argument, Tensor):
        return _facts(argument)
    if isinstance(argument, (list, tuple)):
        return tuple(_key(each) for each in argument)
    if isinstance(argument, dict):
        return tuple((name, _key(each)) for name, each in argument.items())
    return type(argument), repr(argument)
