"""One operation for many alike: what a Python loop has unrolled becomes a dimension again.

A model that loops over 200 moments records 200 times the same operations, each on tensors of its own. The
compiler takes time for every one of them. Operations of one kind, on tensors of the same shapes, that do not
wait for each other (`agenda`) become one operation on stacked tensors, whose rows (lanes) are what the single
ones would have given. Draws stay single and in order, so their numbers do too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from brancher.staging.rewriting.agenda import MOVES, REDUCTIONS, RESHAPES, has_effect, schedule, value_of
from brancher.staging.rewriting.rows import Lane, Strand, row_of, runs
from brancher.staging.rewriting.standins import Infer, perform, values
from brancher.staging.rewriting.sums import FEWEST, MANY, is_enough, join_sums

Tensor = torch.Tensor
_aten = torch.ops.aten

_TOTALS = {_aten.sum.default: _aten.sum.dim_IntList, _aten.mean.default: _aten.mean.dim}


def join_lanes(graph: GraphModule, infer: Infer = perform, fewest: int | None = None) -> None:
    """Rewrite a functional graph in place; see the head of the file.

    Args:
        graph: the graph.
        infer: gives what an operation gives for stand-ins.
        fewest: join no fewer operations, and no sums of a moment's own terms; None to join whatever pays.
    """
    join_sums(graph.graph, infer, FEWEST if fewest is None else max(fewest, MANY))
    order = schedule(graph.graph)
    least = fewest or FEWEST
    if not any(is_enough(group[0], len(group), least) for group in order):
        return
    joiner = _Joiner(infer, least)
    for group in order:
        joiner.add(group)
    joiner.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or has_effect(node))
    graph.graph = joiner.graph
    graph.recompile()


class _Joiner:
    """Builds the new graph, level by level."""

    def __init__(self, infer: Infer, fewest: int) -> None:
        self.graph = Graph()
        self._infer, self._fewest = infer, fewest
        self._new: dict[Node, Node] = {}
        self._lanes: dict[Node, Lane] = {}
        self._stacks: dict[tuple[Node, ...], Node] = {}
        self._single: dict[Any, Node] = {}
        self._number: dict[
            Node, int
        ] = {}  # of tensors in the order of their appearance: ids differ by process

    def add(self, group: list[Node]) -> None:
        """Add nodes that are alike and do not depend on each other."""
        if not is_enough(group[0], len(group), self._fewest) or not self._join(group):
            for node in group:
                self._copy(node)

    def _copy(self, node: Node) -> None:
        if node.target is _aten.cat.default:
            self._copy_cat(node)
            self._keep_place(node)
        elif node not in self._new:
            self._new[node] = self.graph.node_copy(node, self._get)

    def _keep_place(self, node: Node) -> None:
        """Let a join that stayed as it was be known as the recorded one."""
        new = self._new[node]
        if new.target is node.target and len(new.args[0]) == len(node.args[0]):  # type: ignore[arg-type]
            new.meta = {**node.meta, **new.meta}

    def _get(self, node: Node) -> Node:
        """A node of the old graph in the new one."""
        if node not in self._new:
            base, index = self._lanes[node]
            self._new[node] = self._call(_aten.select.int, base, 0, index)
        return self._new[node]

    def _call(self, target: Any, *args: Any, **options: Any) -> Node:
        node = self.graph.call_function(target, args, options)
        node.meta["val"] = self._infer(target, *values(args), **options)
        return node

    def _join(self, group: list[Node]) -> bool:
        """Make one operation of many; False where that does not give the same."""
        value = value_of(group[0])
        if value is None:
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
        joined = self._rows(group[0], args, is_row, len(group), value)
        if joined is None:
            return False
        for index, node in enumerate(group):
            self._lanes[node] = Lane(joined, index)
        return True

    def _rows(
        self, first: Node, args: list[Any], is_row: list[bool], count: int, value: Tensor
    ) -> Node | None:
        """The operation on rows; None where it would give something else than its lanes."""
        target: Any = first.target
        shape, options = list(value.shape), dict(first.kwargs)
        if target in RESHAPES:
            return self._call(_aten.reshape.default, args[0], [count, *shape])
        if target is _aten.expand.default:
            return self._call(target, self._padded(args[0], len(shape)), [count, *shape])
        if target in _TOTALS:
            rank = args[0].meta["val"].dim()
            if rank == 1:
                return None
            return self._call(_TOTALS[target], args[0], list(range(1, rank)), **options)
        if target in REDUCTIONS:
            rank = args[0].meta["val"].dim() - 1
            dims = [d % rank + 1 for d in args[1]] if args[1] else list(range(1, rank + 1))
            joined = self._call(target, args[0], dims, *args[2:], **options)
        elif target is _aten.permute.default:
            rank = args[0].meta["val"].dim() - 1
            joined = self._call(target, args[0], [0, *(d % rank + 1 for d in args[1])])
        elif target in MOVES:
            dim = args[1] if len(args) > 1 else 0
            joined = self._call(target, args[0], dim + 1 if dim >= 0 else dim, *args[2:])
        else:
            padded = [self._padded(a, len(shape)) if row else a for a, row in zip(args, is_row, strict=True)]
            joined = self._call(target, *padded, **options)
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
            places = [
                self._place(argument) or argument for argument in node.args if isinstance(argument, Node)
            ]
            bases = [place.base if isinstance(place, Lane) else place for place in places]
            indices = [place.row if isinstance(place, Lane) else 0 for place in places]
            ranks.append(([labels.setdefault(id(base), len(labels)) for base in bases], indices))
        return [group[i] for i in sorted(range(len(group)), key=ranks.__getitem__)]

    def _place(self, node: Any) -> Lane | None:
        """Which row of a stacked tensor a node is, if it is one."""
        if node in self._lanes:
            return self._lanes[node]
        source, steps = node, 0
        while source.target in RESHAPES and steps < 4:
            source, steps = source.args[0], steps + 1
        piece = row_of(source)
        if piece is None or source in self._lanes or piece[0] in self._lanes:
            return None
        base, index = piece
        whole, value = value_of(base), value_of(node)
        if whole is None or value is None or not whole.is_contiguous() or not value.is_contiguous():
            return None
        if whole.numel() != value.numel() * whole.shape[0]:
            return None
        return Lane(self._get(base), index)

    def _stacked(self, column: Sequence[Node]) -> Node:
        """Tensors of one shape as rows of one."""
        key = tuple(column)
        if key not in self._stacks:
            shape = [1, *column[0].meta["val"].shape]
            parts = [
                self._part(run, [shape] * len(run)) for run in runs([self._place(n) or n for n in column])
            ]
            self._stacks[key] = parts[0] if len(parts) == 1 else self._call_cat(parts)
        return self._stacks[key]

    def _part(self, run: list[Strand], shapes: list[list[int]]) -> Node:
        """A run as one tensor, given the shape of one part of each of its strands."""
        count, rest = len(run[0]), shapes[0][1:]
        if len(run) == 1:
            return self._strand(run[0], [count * shapes[0][0], *rest])
        woven = [self._strand(strand, [count, *shape]) for strand, shape in zip(run, shapes, strict=True)]
        return self._call(_aten.reshape.default, self._call_cat(woven, 1), [-1, *rest])

    def _strand(self, strand: Strand, shape: list[int]) -> Node:
        """A strand as one tensor of a shape."""
        if len(strand) > 1:
            return self._spread(strand, shape)
        key = strand[0], *shape
        if key not in self._single:
            self._single[key] = self._spread(strand, shape)
        return self._single[key]

    def _spread(self, strand: Strand, shape: list[int]) -> Node:
        source = self._rows_of(strand)
        value = source.meta["val"]
        if value.numel() == math.prod(shape):
            return source if list(value.shape) == shape else self._call(_aten.reshape.default, source, shape)
        width = math.prod(shape) // len(strand)
        row = self._call(_aten.reshape.default, source, [1, width])
        return self._call(
            _aten.reshape.default, self._call(_aten.expand.default, row, [len(strand), width]), shape
        )

    def _rows_of(self, strand: Strand) -> Node:
        """The rows of a strand; one alone where it repeats."""
        first, last = strand[0], strand[-1]
        if isinstance(first, Node) or isinstance(last, Node):
            return self._get(first)  # type: ignore[arg-type]
        size = first.base.meta["val"].shape[0]
        step = (last.row - first.row) // max(len(strand) - 1, 1)
        start, stop = sorted((first.row, last.row))
        rows = first.base
        if (start, stop + 1, abs(step)) != (0, size, 1):
            rows = self._call(_aten.slice.Tensor, rows, 0, start, stop + 1, abs(step) or 1)
        return self._call(torch.ops.prims.rev.default, rows, [0]) if step < 0 else rows

    def _call_cat(self, parts: list[Node], dim: int = 0) -> Node:
        node = self.graph.call_function(_aten.cat.default, (parts, dim))
        node.meta["val"] = self._infer(_aten.cat.default, [part.meta["val"] for part in parts], dim)
        return node

    def _copy_cat(self, node: Node) -> None:
        """Copy a join along the first dimension, its runs of rows as one part each."""
        value = value_of(node)
        dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        column: Sequence[Node] = node.args[0]  # type: ignore[assignment]
        sizes = [value_of(part) for part in column]
        if value is None or dim % value.dim() or any(s is None or s.dim() != value.dim() for s in sizes):
            self._new[node] = self.graph.node_copy(node, self._get)
            return
        if _is_summed(node):  # in any order
            column = sorted(column, key=self._rank)
        parts = []
        done = 0
        for run in runs([self._place(part) or part for part in column]):
            width, count = len(run), len(run) * len(run[0])
            if count == 1:
                parts.append(self._get(column[done]))
                done += 1
                continue
            shapes = [list(part.meta["val"].shape) for part in column[done : done + count]]
            if all(shape == shapes[i % width] for i, shape in enumerate(shapes)):
                parts.append(self._part(run, shapes[:width]))
            else:
                parts += [self._get(part) for part in column[done : done + count]]
            done += count
        self._new[node] = parts[0] if len(parts) == 1 else self._call_cat(parts)

    def _rank(self, node: Node) -> tuple[int, int]:
        place = self._place(node)
        return (
            (-1, 0) if place is None else (self._number.setdefault(place.base, len(self._number)), place.row)
        )


def _is_summed(node: Node) -> bool:
    """Whether all that is done with a join is to add its rows up."""
    users = list(node.users)
    if len(users) != 1:
        return False
    return users[0].target is _aten.sum.default or (
        users[0].target is _aten.sum.dim_IntList and users[0].args[1] == [0]
    )


def _holds(column: Sequence[Any]) -> bool:
    return isinstance(column[0], Node)


def _is_one(column: Sequence[Any]) -> bool:
    return all(node is column[0] for node in column)
