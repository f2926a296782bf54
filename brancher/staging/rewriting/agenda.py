"""In which order a graph's operations are done, so that many of a kind can be done at once.

Those on the longest way to the result go first; the others wait until all of their kind can be done
(agenda-based batching, Neubig, Goldberg and Dyer 2017, arXiv:1705.07860, section 3.2, with the longest way in
place of their mean depth).
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Hashable
from typing import Any

import torch
from torch.fx import Graph, Node

Tensor = torch.Tensor
_aten = torch.ops.aten

#: A tensor that is taken into as many parts has parts that are alike.
MANY_PARTS = 8
#: How far back the inputs of two operations must be alike for them to be of one kind.
LOOK_BACK = 3

RESHAPES = {
    _aten.reshape.default,
    _aten.view.default,
    _aten._unsafe_view.default,
    _aten.unsqueeze.default,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
}
REDUCTIONS = {_aten.sum.dim_IntList, _aten.mean.dim, _aten.amax.default, _aten.amin.default}
MOVES = {_aten.select.int, _aten.slice.Tensor}
#: Entrywise, though torch does not mark them so.
ENTRYWISE = {
    _aten.softplus_backward.default,
    _aten.hardtanh_backward.default,
    _aten.elu_backward.default,
    _aten.leaky_relu_backward.default,
    _aten._to_copy.default,
}


def schedule(nodes: Graph) -> list[list[Node]]:
    """Nodes in an order in which they can be done, those that can be done together in one list."""
    needs = _needs(nodes)
    users: dict[Node, list[Node]] = defaultdict(list)
    for node, sources in needs.items():
        for source in sources:
            users[source].append(node)
    kinds = _kinds(nodes)
    heights = _heights(nodes, users)
    waiting = {node: len(sources) for node, sources in needs.items()}
    left = Counter(kinds[node] for node in waiting)
    agenda = _Agenda(kinds, left, heights)
    for node, count in waiting.items():
        if not count:
            agenda.add(node)
    order: list[list[Node]] = []
    while group := agenda.take():
        order.append(group)
        for node in group:
            for user in users[node]:
                waiting[user] -= 1
                if not waiting[user]:
                    agenda.add(user)
    return order


class _Agenda:
    """Nodes whose inputs are there."""

    def __init__(
        self, kinds: dict[Node, Hashable], left: Counter[Hashable], heights: dict[Node, int]
    ) -> None:
        self._kinds, self._left, self._heights = kinds, left, heights
        self._ready: dict[Hashable, list[Node]] = defaultdict(list)
        self._next: deque[Hashable] = deque()  # kinds of which no node is still to come
        self._heap: list[tuple[int, int, Hashable]] = []
        self._count = itertools.count()

    def add(self, node: Node) -> None:
        """Take a node in."""
        kind = self._kinds[node]
        group = self._ready[kind]
        group.append(node)
        heapq.heappush(self._heap, (-self._heights[node], next(self._count), kind))
        if len(group) == self._left[kind]:
            self._next.append(kind)

    def take(self) -> list[Node]:
        """The nodes to do next; none where all are done."""
        while self._next or self._heap:
            kind = self._next.popleft() if self._next else heapq.heappop(self._heap)[2]
            if group := self._ready.pop(kind, []):
                self._left[kind] -= len(group)
                return group
        return []


def _needs(nodes: Graph) -> dict[Node, list[Node]]:
    """What each node waits for: its inputs; a draw for the draw before; writes and the output for all."""
    needs: dict[Node, list[Node]] = {}
    drawn: Node | None = None
    for node in nodes.nodes:
        sources = list(node.all_input_nodes)
        schema = getattr(node.target, "_schema", None)
        if node.op == "output" or (schema is not None and schema.is_mutable):
            sources = list(needs)
        elif node.op == "call_function" and has_effect(node):
            sources += [drawn] if drawn is not None else []
            drawn = node
        needs[node] = list(dict.fromkeys(sources))
    return needs


def _heights(nodes: Graph, users: dict[Node, list[Node]]) -> dict[Node, int]:
    """The longest way from each node to the end."""
    heights: dict[Node, int] = {}
    for node in reversed(nodes.nodes):
        heights[node] = 1 + max((heights[user] for user in users[node]), default=-1)
    return heights


def _kinds(nodes: Graph) -> dict[Node, Hashable]:
    """Equal for nodes that are alike, and so are their inputs, and theirs; each other node has its own."""
    kinds: dict[Node, Hashable] = {}
    looks: dict[Node, Hashable] = {}  # of nodes that stay single, to those that read them
    for node in nodes.nodes:
        kind = None if _is_part(node) else _kind(node)
        kinds[node] = id(node) if kind is None else hash(kind)
        if kind is None:
            looks[node] = _look(node)
    for _ in range(LOOK_BACK):
        kinds = {
            node: kind if node in looks else hash((kind, *(_seen(a, kinds, looks) for a in node.args)))
            for node, kind in kinds.items()
        }
    return kinds


def _look(node: Node) -> Hashable:
    """What a single node is to those that read it: parts of one tensor are alike, and inputs of one shape."""
    if _is_part(node):
        return "part", id(node.args[0])
    value = value_of(node)
    shape = None if value is None else (tuple(value.shape), value.dtype)
    return node.op if node.op == "placeholder" else str(node.target), shape


def _seen(argument: Any, kinds: dict[Node, Hashable], looks: dict[Node, Hashable]) -> Hashable:
    if not isinstance(argument, Node):
        return None
    return looks.get(argument, kinds[argument])


def _is_part(node: Node) -> bool:
    """Whether a node is one of many parts that a tensor is taken into."""
    if node.target not in MOVES and str(node.target) != "<built-in function getitem>":
        return False
    source: Any = node.args[0]
    return len(source.users) >= MANY_PARTS


def value_of(node: Any) -> Tensor | None:
    """The stand-in for a node's tensor, None where it gives none."""
    value = node.meta.get("val") if isinstance(node, Node) else None
    return value if isinstance(value, Tensor) else None


def has_effect(node: Node) -> bool:
    """Whether a node draws or writes."""
    tags, schema = getattr(node.target, "tags", ()), getattr(node.target, "_schema", None)
    return torch.Tag.nondeterministic_seeded in tags or (schema is not None and schema.is_mutable)


def _kind(node: Node) -> Hashable:
    """What nodes that can be one have in common; None where a node must stay alone."""
    value = value_of(node)
    if node.op != "call_function" or value is None or has_effect(node):
        return None
    if any(isinstance(option, Node) for option in node.kwargs.values()):
        return None
    target: Any = node.target
    if not _is_known(target) or not node.args:
        return None
    shapes: list[Hashable] = []
    for argument in node.args:
        if isinstance(argument, Node):
            given = value_of(argument)
            if given is None:
                return None
            shapes.append((tuple(given.shape), given.dtype, given.device))
        else:
            shapes.append(repr(argument))
    return target, tuple(shapes), repr(node.kwargs), tuple(value.shape), value.dtype


def _is_known(target: Any) -> bool:
    if target in RESHAPES | REDUCTIONS | MOVES | ENTRYWISE:
        return True
    if target in (_aten.sum.default, _aten.mean.default, _aten.expand.default, _aten.permute.default):
        return True
    is_pointwise = torch.Tag.pointwise in getattr(target, "tags", ())
    return is_pointwise and all(argument.name != "out" for argument in target._schema.arguments)
