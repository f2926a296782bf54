"""One operation for many alike: what a Python loop has unrolled becomes a dimension again.

A model that loops over 200 moments records 200 times the same operations, each on tensors of its own. The
compiler takes time for every one of them. Operations of one kind, on tensors of the same shapes, that do not
wait for each other become one operation on stacked tensors, whose rows (lanes) are what the single ones
would have given. Draws stay single and in order, so their numbers do too.

Which operations meet is a question of the order in which they are done: those on the longest way to the
result go first, the others wait until all of their kind can be done (agenda-based batching, Neubig, Goldberg
and Dyer 2017, arXiv:1705.07860, section 3.2, with the longest way in place of their mean depth).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch.fx import Graph, GraphModule, Node

Tensor = torch.Tensor
_aten = torch.ops.aten

#: Fewer operations than this stay as they are.
FEWEST = 8
#: More entries than this are not stacked: copies would cost more than the compiler.
MOST_ENTRIES = 1 << 20
#: How far back the inputs of two operations must be alike for them to be joined.
LOOK_BACK = 3

_RESHAPES = {
    _aten.reshape.default,
    _aten.view.default,
    _aten._unsafe_view.default,
    _aten.unsqueeze.default,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
}
_REDUCTIONS = {_aten.sum.dim_IntList, _aten.mean.dim, _aten.amax.default, _aten.amin.default}
_MOVES = {_aten.select.int, _aten.slice.Tensor}


class _Lane(NamedTuple):
    """Row ``index`` of a stacked tensor of the new graph."""

    base: Node
    index: int


def join_lanes(graph: GraphModule) -> None:
    """Rewrite a functional graph in place; see the head of the file."""
    _sums_of_many(graph.graph)
    order = _schedule(graph.graph)
    if max(map(len, order), default=0) < FEWEST:
        return
    joiner = _Joiner()
    for group in order:
        joiner.add(group)
    joiner.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or _has_effect(node))
    graph.graph = joiner.graph
    graph.recompile()


def _schedule(nodes: Graph) -> list[list[Node]]:
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
        self._next: list[Hashable] = []  # kinds of which no node is still to come
        self._heap: list[tuple[int, int, Hashable]] = []

    def add(self, node: Node) -> None:
        kind = self._kinds[node]
        group = self._ready[kind]
        group.append(node)
        heapq.heappush(self._heap, (-self._heights[node], len(self._heap), kind))
        if len(group) == self._left[kind]:
            self._next.append(kind)

    def take(self) -> list[Node]:
        """The nodes to do next; none where all are done."""
        kind = self._next.pop(0) if self._next else None
        while kind is None and self._heap:
            kind = heapq.heappop(self._heap)[2]
            kind = kind if self._ready[kind] else None
        group = self._ready.pop(kind, [])
        self._left[kind] -= len(group)
        return group if group or not self._heap else self.take()


def _needs(nodes: Graph) -> dict[Node, list[Node]]:
    """What each node waits for: its inputs; a draw for the draw before; writes and the output for all."""
    needs: dict[Node, list[Node]] = {}
    drawn: Node | None = None
    for node in nodes.nodes:
        sources = list(node.all_input_nodes)
        schema = getattr(node.target, "_schema", None)
        if node.op == "output" or (schema is not None and schema.is_mutable):
            sources = list(needs)
        elif node.op == "call_function" and _has_effect(node):
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
            source = node.args[0] if _is_part(node) else None
            looks[node] = node.target if source is None and node.op == "call_function" else id(source or node)
    for _ in range(LOOK_BACK):
        kinds = {
            node: kind if node in looks else hash((kind, *(_seen(a, kinds, looks) for a in node.args)))
            for node, kind in kinds.items()
        }
    return kinds


def _seen(argument: Any, kinds: dict[Node, Hashable], looks: dict[Node, Hashable]) -> Hashable:
    if not isinstance(argument, Node):
        return None
    return looks.get(argument, kinds[argument])


def _is_part(node: Node) -> bool:
    """Whether a node is one of many parts that a tensor is taken into."""
    if node.target not in _MOVES and str(node.target) != "<built-in function getitem>":
        return False
    source: Any = node.args[0]
    return len(source.users) >= FEWEST


def _value(node: Any) -> Tensor | None:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return value if isinstance(value, Tensor) else None


def _has_effect(node: Node) -> bool:
    tags, schema = getattr(node.target, "tags", ()), getattr(node.target, "_schema", None)
    return torch.Tag.nondeterministic_seeded in tags or (schema is not None and schema.is_mutable)


def _kind(node: Node) -> Hashable:
    """What nodes that can be one have in common; None where a node must stay alone."""
    value = _value(node)
    if node.op != "call_function" or value is None or _has_effect(node) or node.kwargs:
        return None
    target: Any = node.target
    if not _is_known(target) or not node.args:
        return None
    if value.numel() * FEWEST > MOST_ENTRIES:
        return None
    shapes = []
    for argument in node.args:
        if isinstance(argument, Node):
            given = _value(argument)
            if given is None:
                return None
            shapes.append((tuple(given.shape), given.dtype, given.device))
        else:
            shapes.append(repr(argument))
    return target, tuple(shapes), tuple(value.shape), value.dtype


def _is_known(target: Any) -> bool:
    if target in _RESHAPES | _REDUCTIONS | _MOVES:
        return True
    if target in (_aten.sum.default, _aten.expand.default, _aten.permute.default):
        return True
    is_pointwise = torch.Tag.pointwise in getattr(target, "tags", ())
    return is_pointwise and all(argument.name != "out" for argument in target._schema.arguments)


class _Joiner:
    """Builds the new graph, level by level."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._new: dict[Node, Node] = {}
        self._lanes: dict[Node, _Lane] = {}
        self._stacks: dict[tuple[Node, ...], Node] = {}

    def add(self, group: list[Node]) -> None:
        """Add nodes that are alike and do not depend on each other."""
        if len(group) < FEWEST or not self._join(group):
            for node in group:
                self._copy(node)

    def _copy(self, node: Node) -> None:
        if node.target is _aten.cat.default:
            self._copy_cat(node)
        elif node not in self._new:
            self._new[node] = self.graph.node_copy(node, self._get)

    def _get(self, node: Node) -> Node:
        """A node of the old graph in the new one."""
        if node not in self._new:
            base, index = self._lanes[node]
            self._new[node] = self._call(_aten.select.int, base, 0, index)
        return self._new[node]

    def _call(self, target: Any, *args: Any) -> Node:
        node = self.graph.call_function(target, args)
        values = torch.fx.node.map_arg(args, lambda each: each.meta["val"])
        node.meta["val"] = target(*values)
        return node

    def _join(self, group: list[Node]) -> bool:
        """Make one operation of many; False where that does not give the same."""
        value = _value(group[0])
        if value is None or value.numel() * len(group) > MOST_ENTRIES:
            return False
        group = self._sorted(group)
        columns = list(zip(*[node.args for node in group], strict=True))
        shared = [column[0] if _is_one(column) else None for column in columns]
        if all(node is not None for node, column in zip(shared, columns, strict=True) if _holds(column)):
            return False
        args: list[Any] = []
        for column in columns:
            if not _holds(column):
                args.append(column[0])
            elif _is_one(column):
                args.append(self._get(column[0]))
            else:
                args.append(self._stacked(column))
        is_row = [_holds(column) and not _is_one(column) for column in columns]
        joined = self._rows(group[0].target, args, is_row, len(group), value)
        if joined is None:
            return False
        for index, node in enumerate(group):
            self._lanes[node] = _Lane(joined, index)
        return True

    def _rows(
        self, target: Any, args: list[Any], is_row: list[bool], count: int, value: Tensor
    ) -> Node | None:
        """The operation on rows; None where it would give something else than its lanes."""
        shape = list(value.shape)
        if target in _RESHAPES:
            return self._call(_aten.reshape.default, args[0], [count, *shape])
        if target is _aten.expand.default:
            return self._call(target, self._padded(args[0], len(shape)), [count, *shape])
        if target is _aten.sum.default:
            rank = args[0].meta["val"].dim()
            return self._call(_aten.sum.dim_IntList, args[0], list(range(1, rank)))
        if target in _REDUCTIONS:
            rank = args[0].meta["val"].dim() - 1
            dims = [d % rank + 1 for d in args[1]] if args[1] else list(range(1, rank + 1))
            joined = self._call(target, args[0], dims, *args[2:])
        elif target is _aten.permute.default:
            rank = args[0].meta["val"].dim() - 1
            joined = self._call(target, args[0], [0, *(d % rank + 1 for d in args[1])])
        elif target in _MOVES:
            dim = args[1] if len(args) > 1 else 0
            joined = self._call(target, args[0], dim + 1 if dim >= 0 else dim, *args[2:])
        else:
            padded = [
                self._padded(a, len(shape)) if row else a for a, row in zip(args, is_row, strict=True)
            ]
            joined = self._call(target, *padded)
        got = joined.meta["val"]
        return joined if (list(got.shape), got.dtype) == ([count, *shape], value.dtype) else None

    def _padded(self, node: Node, rank: int) -> Node:
        """Rows whose entries have a rank, for broadcasting."""
        shape = list(node.meta["val"].shape)
        missing = rank + 1 - len(shape)
        if missing <= 0:
            return node
        return self._call(_aten.reshape.default, node, [shape[0], *[1] * missing, *shape[1:]])

    def _sorted(self, group: list[Node]) -> list[Node]:
        """Put nodes that read the same side by side, and in the order of the rows that they read.

        Backward passes run the other way, and sums mix what comes from different loops.
        """
        labels: dict[int, int] = {}
        ranks = []
        for node in group:
            places = [self._place(argument) or argument for argument in node.args if isinstance(argument, Node)]
            bases = [place.base if isinstance(place, _Lane) else place for place in places]
            indices = [place.index if isinstance(place, _Lane) else 0 for place in places]
            ranks.append(([labels.setdefault(id(base), len(labels)) for base in bases], indices))
        return [group[i] for i in sorted(range(len(group)), key=ranks.__getitem__)]

    def _place(self, node: Any) -> _Lane | None:
        """Which row of a stacked tensor a node is, if it is one."""
        if node in self._lanes:
            return self._lanes[node]
        source, steps = node, 0
        while source.target in _RESHAPES and steps < 4:
            source, steps = source.args[0], steps + 1
        piece = _row_of(source)
        if piece is None or source in self._lanes or piece[0] in self._lanes:
            return None
        base, index = piece
        whole, value = _value(base), _value(node)
        if whole is None or value is None or not whole.is_contiguous() or not value.is_contiguous():
            return None
        if whole.numel() != value.numel() * whole.shape[0]:
            return None
        return _Lane(self._get(base), index)

    def _stacked(self, column: Sequence[Node]) -> Node:
        """Tensors of one shape as rows of one."""
        key = tuple(column)
        if key not in self._stacks:
            shape = list(column[0].meta["val"].shape)
            parts = [self._part(run, [len(run), *shape]) for run in self._runs(column)]
            self._stacks[key] = parts[0] if len(parts) == 1 else self._call_cat(parts)
        return self._stacks[key]

    def _runs(self, column: Sequence[Node]) -> list[list[_Lane | Node]]:
        """Nodes, with neighbouring rows of one tensor, and what repeats, in one list."""
        runs: list[list[_Lane | Node]] = []
        for node in column:
            place = self._place(node) or node
            last = runs[-1][-1] if runs else None
            follows = isinstance(place, _Lane) and last == _Lane(place.base, place.index - 1)
            if follows and not (len(runs[-1]) > 1 and runs[-1][-2] == last):
                runs[-1].append(place)
            elif last == place and runs[-1][0] == place:
                runs[-1].append(place)
            else:
                runs.append([place])
        return runs

    def _part(self, run: list[_Lane | Node], shape: list[int]) -> Node:
        """A run as one tensor of a shape."""
        first = run[0]
        if isinstance(first, Node):
            source = self._get(first)
        else:
            base, count = first.base, 1 if len(run) > 1 and run[1] == first else len(run)
            is_whole = (first.index, count) == (0, base.meta["val"].shape[0])
            source = (
                base
                if is_whole
                else self._call(_aten.slice.Tensor, base, 0, first.index, first.index + count)
            )
        value = source.meta["val"]
        if value.numel() == _count(shape):
            return source if list(value.shape) == shape else self._call(_aten.reshape.default, source, shape)
        row = [1, _count(shape) // len(run)]
        spread = self._call(
            _aten.expand.default, self._call(_aten.reshape.default, source, row), [len(run), row[1]]
        )
        return self._call(_aten.reshape.default, spread, shape)

    def _call_cat(self, parts: list[Node]) -> Node:
        node = self.graph.call_function(_aten.cat.default, (parts, 0))
        node.meta["val"] = _aten.cat.default([part.meta["val"] for part in parts], 0)
        return node

    def _copy_cat(self, node: Node) -> None:
        """Copy a join along the first dimension, its runs of rows as one part each."""
        value = _value(node)
        dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        column: Sequence[Node] = node.args[0]  # type: ignore[assignment]
        sizes = [_value(part) for part in column]
        if value is None or dim % value.dim() or any(s is None or s.dim() != value.dim() for s in sizes):
            self._new[node] = self.graph.node_copy(node, self._get)
            return
        if _is_summed(node):  # in any order
            column = sorted(column, key=self._rank)
        parts = []
        done = 0
        for run in self._runs(column):
            first = column[done].meta["val"]
            done += len(run)
            whole = [len(run) * first.shape[0], *first.shape[1:]]
            alike = all(part.meta["val"].shape == first.shape for part in column[done - len(run) : done])
            if alike:
                parts.append(self._part(run, whole))
            else:
                parts += [self._get(part) for part in column[done - len(run) : done]]
        self._new[node] = parts[0] if len(parts) == 1 else self._call_cat(parts)


    def _rank(self, node: Node) -> tuple[int, int]:
        place = self._place(node)
        return (-1, 0) if place is None else (id(place.base), place.index)


def _is_summed(node: Node) -> bool:
    """Whether all that is done with a join is to add its rows up."""
    users = list(node.users)
    if len(users) != 1:
        return False
    return users[0].target is _aten.sum.default or (
        users[0].target is _aten.sum.dim_IntList and users[0].args[1] == [0]
    )


def _count(shape: Sequence[int]) -> int:
    return math.prod(shape)


def _holds(column: Sequence[Any]) -> bool:
    return isinstance(column[0], Node)


def _is_one(column: Sequence[Any]) -> bool:
    return all(node is column[0] for node in column)


def _row_of(node: Node) -> tuple[Node, int] | None:
    """The tensor whose single row along the first dimension a node is."""
    arguments: tuple[Any, ...] = node.args
    if node.op != "call_function" or not arguments or not isinstance(arguments[0], Node):
        return None
    source = arguments[0]
    value = _value(source)
    if str(node.target) == "<built-in function getitem>":
        if source.target is not _aten.split_with_sizes.default:
            return None
        tensor, sizes = source.args[0], source.args[1]
        dim = source.args[2] if len(source.args) > 2 else source.kwargs.get("dim", 0)
        if dim != 0 or sizes[arguments[1]] != 1:  # type: ignore[index]
            return None
        return tensor, sum(sizes[: arguments[1]])  # type: ignore[index, return-value, arg-type]
    if value is None or node.kwargs or not value.dim():
        return None
    if node.target is _aten.select.int and arguments[1] % value.dim() == 0:
        return source, arguments[2] % value.shape[0]
    if node.target is _aten.slice.Tensor:
        dim, start, stop, step = [*arguments[1:], *(0, None, None, 1)[len(arguments) - 1 :]]
        start, stop, step = slice(start, stop, step).indices(value.shape[dim])
        if dim % value.dim() == 0 and step == 1 and stop - start == 1:
            return source, start
    return None


def _sums_of_many(nodes: Graph) -> None:
    """Write long chains of additions as one sum: it does not grow deeper with every term."""
    for node in reversed(list(nodes.nodes)):
        if not _is_addition(node) or any(_is_addition_of(user, node) for user in node.users):
            continue
        terms = _terms(node)
        if len(terms) < FEWEST:
            continue
        value = node.meta["val"]
        with nodes.inserting_before(node):
            rows = []
            for term in terms:
                row = nodes.call_function(_aten.reshape.default, (term, [1, *value.shape]))
                row.meta["val"] = value.new_empty([1, *value.shape])
                rows.append(row)
            stacked = nodes.call_function(_aten.cat.default, (rows, 0))
            stacked.meta["val"] = value.new_empty([len(rows), *value.shape])
            total = nodes.call_function(_aten.sum.dim_IntList, (stacked, [0]))
            total.meta["val"] = value.new_empty(value.shape)
        node.replace_all_uses_with(total)
    nodes.eliminate_dead_code()


def _is_addition(node: Any) -> bool:
    """Whether a node adds two tensors of its own shape and dtype."""
    if not isinstance(node, Node) or node.target is not _aten.add.Tensor or node.kwargs:
        return False
    value = _value(node)
    sides = [_value(argument) for argument in node.args]
    return value is not None and all(
        s is not None and (s.shape, s.dtype) == (value.shape, value.dtype) for s in sides
    )


def _is_addition_of(user: Node, node: Node) -> bool:
    return len(node.users) == 1 and _is_addition(user)


def _terms(node: Node) -> list[Node]:
    """What a tree of additions adds, its inner sums used nowhere else."""
    found: list[Node] = []
    pending: list[Any] = [node]
    while pending:
        each = pending.pop()
        if each is node or (_is_addition(each) and len(each.users) == 1):
            pending.extend(reversed(each.args))
        else:
            found.append(each)
    return found
