"""Small draws side by side: fewer calls of the generator, the same numbers.

Torch fills tensors of fewer than 16 entries one by one. So 15 scalars that are drawn one after the other are
what one draw of 15 gives.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from brancher.staging.rewriting.agenda import has_effect
from brancher.staging.rewriting.loops import DRAWS, Loop, LoopCode, Table, register
from brancher.staging.rewriting.standins import Infer, values

Tensor = torch.Tensor
_aten = torch.ops.aten

#: Tensors of at most so many entries are filled one by one.
ONE_BY_ONE = 15
#: So many draws are worth to be joined.
FEWEST_DRAWS = 16


def draw_together(graph: GraphModule, compile: Callable[[Loop], LoopCode | None], infer: Infer) -> bool:
    """Join small draws that follow each other in a functional graph, in place; false where there are none.

    Args:
        graph: the graph.
        compile: gives a loop's code, or None where it has to stay as it is.
        infer: gives what an operation gives for stand-ins.
    """
    drawing = [node for node in graph.graph.nodes if node.op == "call_function" and has_effect(node)]
    drawing = [node for node in drawing if node.target is not _aten.copy_.default]
    found = False
    for kind, group in itertools.groupby(drawing, _kind):
        nodes = list(group)
        if kind is not None and len(nodes) >= FEWEST_DRAWS and _are_one_by_one(*kind[0]):
            _Together(graph.graph, nodes, infer).draw(compile)
            found = True
    return found


def _kind(node: Node) -> Any:
    """Equal for draws that may be one; None where a draw has to stay alone."""
    value = node.meta.get("val")
    if node.target not in (_aten.normal_functional.default, _aten.uniform.default) or node.kwargs:
        return None
    source = node.args[0]
    is_empty = isinstance(source, Node) and source.target is _aten.empty.memory_format
    if not is_empty or not isinstance(value, Tensor) or not 0 < 2 * value.numel() <= ONE_BY_ONE:
        return None
    if value.device.type != "cpu" or not value.is_contiguous():
        return None
    return (node.target, value.dtype), node.args[1:], value.shape


@functools.cache
def _are_one_by_one(target: Any, dtype: torch.dtype) -> bool:
    """Whether this torch draws so."""
    first, second = (torch.Generator().manual_seed(1) for _ in range(2))
    together = target(torch.empty(ONE_BY_ONE, dtype=dtype), generator=first)
    singly = [target(torch.empty((), dtype=dtype), generator=second) for _ in range(ONE_BY_ONE)]
    return torch.equal(together, torch.stack(singly)) and torch.equal(first.get_state(), second.get_state())


class _Together:
    """Makes one table of many draws.

    Args:
        nodes: the graph.
        drawn: draws that are alike and follow each other.
        infer: gives what an operation gives for stand-ins.
    """

    def __init__(self, nodes: Graph, drawn: list[Node], infer: Infer) -> None:
        self._nodes, self._drawn, self._infer = nodes, drawn, infer
        self._value: Tensor = drawn[0].meta["val"]

    def draw(self, compile: Callable[[Loop], LoopCode | None]) -> None:
        """Let the draws be rows of one table."""
        at_once = ONE_BY_ONE // self._value.numel()
        turns, rest = divmod(len(self._drawn), at_once)
        tables: list[Node] = []
        with self._nodes.inserting_before(self._drawn[0]):
            if turns > 1:
                loop = self._loop(at_once, turns)
                loop.code = compile(loop)
                if loop.code is None:
                    return
                drawn = self._nodes.call_function(DRAWS, ([], register(loop)))
                drawn.meta["val"] = self._value.new_empty(loop.length)
                tables.append(self._call(self._nodes, _aten.slice.Tensor, drawn, 0, 0, loop.entries))
            else:
                rest = len(self._drawn)
            tables += [self._once(self._nodes, count) for count in self._sizes(rest, at_once)]
            flat = [self._call(self._nodes, _aten.reshape.default, table, [-1]) for table in tables]
            whole = flat[0] if len(flat) == 1 else self._call(self._nodes, _aten.cat.default, flat, 0)
            shape = [len(self._drawn), *self._value.shape]
            whole = self._call(self._nodes, _aten.reshape.default, whole, shape)
            for row, node in enumerate(self._drawn):
                node.replace_all_uses_with(self._call(self._nodes, _aten.select.int, whole, 0, row))
        for node in self._drawn:
            self._nodes.erase_node(node)

    @staticmethod
    def _sizes(count: int, most: int) -> Iterator[int]:
        while count > 0:
            yield min(count, most)
            count -= most

    def _loop(self, at_once: int, turns: int) -> Loop:
        body = Graph()
        body.output([self._once(body, at_once)])
        table = Table((at_once, *self._value.shape), 0, 0, turns)
        return Loop(GraphModule({}, body), turns, [], [], [table], self._value.dtype, 0)

    def _once(self, graph: Graph, count: int) -> Node:
        """A draw of several."""
        options: dict[str, Any] = {
            "dtype": self._value.dtype,
            "device": self._value.device,
            "pin_memory": False,
        }
        shape = [count, *self._value.shape]
        empty = graph.call_function(_aten.empty.memory_format, (shape,), options)
        first = self._drawn[0]
        drawn = graph.call_function(first.target, (empty, *first.args[1:]))  # type: ignore[arg-type]
        empty.meta["val"] = drawn.meta["val"] = self._value.new_empty(shape)
        return drawn

    def _call(self, graph: Graph, target: Any, *args: Any, **options: Any) -> Node:
        node = graph.call_function(target, args, options)
        node.meta["val"] = self._infer(target, *values(args), **options)
        return node
