"""Loops made of what `periods` finds in a graph: one operation in the place of all turns (`loops`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from brancher.staging.rewriting.agenda import has_effect
from brancher.staging.rewriting.loops import DRAWS, LOOP, Loop, LoopCode, Table, register
from brancher.staging.rewriting.periods import Always, Before, Each, Period, arrange, periods, tensors_of
from brancher.staging.rewriting.rows import row_of
from brancher.staging.rewriting.standins import Infer, values

_aten = torch.ops.aten

_WIDTHS = {torch.bool: 0, torch.bfloat16: 1, torch.float16: 1, torch.float32: 2, torch.float64: 3}


def roll(
    graph: GraphModule, compile: Callable[[Loop], LoopCode | None], infer: Infer, draws_apart: bool = True
) -> bool:
    """Make loops of what repeats, in place; false where nothing does.

    Args:
        graph: a functional graph whose recorded operations know their place (``meta``).
        compile: gives a loop's code, or None where it has to stay as it is.
        infer: gives what an operation gives for stand-ins.
        draws_apart: look for loops of draws alone.
    """
    found = False
    for line in arrange(graph.graph, draws_apart):
        for period in periods(line):
            found |= _Roller(graph.graph, _settled(period), infer).roll(compile)
    graph.recompile()
    return found


class _Roller:
    """Puts a loop in the place of its turns.

    Args:
        nodes: the graph.
        period: what the turns are.
        infer: gives what an operation gives for stand-ins.
    """

    def __init__(self, nodes: Graph, period: Period, infer: Infer) -> None:
        self.nodes, self.period, self.infer = nodes, period, infer
        self.first = period.turns[0]
        self.places = {node: (t, i) for t, turn in enumerate(period.turns) for i, node in enumerate(turn)}

    def roll(self, compile: Callable[[Loop], LoopCode | None]) -> bool:
        """Replace the turns; false where they have to stay."""
        heads, kept, whole = self._kept()
        dtypes = {self.first[index].meta["val"].dtype for index in kept}
        if not kept or not dtypes <= set(_WIDTHS) or {torch.bfloat16, torch.float16} <= dtypes:
            return False
        dtype = max(dtypes - {torch.bool}, key=_WIDTHS.__getitem__, default=torch.float32)
        self.dtype = dtype
        tables: list[Table] = []
        for index in kept:
            shape = tuple(self.first[index].meta["val"].shape)
            start = tables[-1].start + tables[-1].size if tables else 0
            rows = heads[index] + (len(self.period.turns) if index in whole else 1)
            tables.append(Table(shape, heads[index], start, rows))
        body, always, columns, carries = self._body(kept)
        places = [_evenly(column) for column in columns]
        steps = [(0, 1) if place is None else place[1:] for place in places]
        loop = Loop(body, len(self.period.turns), steps, carries, tables, dtype, len(always))
        loop.code = compile(loop)
        if loop.code is None:
            return False
        number = register(loop)
        with self.nodes.inserting_before(self.first[0]):
            bases = [self._stacked(c) if p is None else p[0] for c, p in zip(columns, places, strict=True)]
            initial = [self._cast(node) for index in kept for node in self._initial(index, heads[index])]
            effect = any(has_effect(node) for node in self.first)
            result = self.nodes.call_function(
                DRAWS if effect else LOOP, ([*always, *bases, *initial], number)
            )
            result.meta["val"] = self.first[kept[0]].meta["val"].new_empty(loop.length, dtype=dtype)
            self._distribute(result, kept, tables)
        for turn in reversed(self.period.turns):
            for node in reversed(turn):
                self.nodes.erase_node(node)
        return True

    def _kept(self) -> tuple[dict[int, int], list[int], set[int]]:
        """How far back the values of each index are read, which indices are kept, and which of all turns."""
        heads = dict.fromkeys(range(len(self.first)), 0)
        for sources in self.period.sources:
            for source in sources:
                if isinstance(source, Before):
                    heads[source.operation] = max(heads[source.operation], source.turns)
        last = len(self.period.turns) - 1
        outside = {
            place for node, place in self.places.items() if any(u not in self.places for u in node.users)
        }
        indices = {index for _, index in outside}
        whole = {index for turn, index in outside if turn != last}
        return heads, [index for index, head in heads.items() if head or index in indices], whole

    def _body(
        self, kept: list[int]
    ) -> tuple[GraphModule, list[Node], list[tuple[Node, ...]], list[tuple[int, int]]]:
        """One turn as a graph, and where its inputs come from."""
        flat = [source for sources in self.period.sources for source in sources]
        always = list(dict.fromkeys(s.node for s in flat if isinstance(s, Always)))
        columns = list(dict.fromkeys(s.nodes for s in flat if isinstance(s, Each)))
        carried = list(dict.fromkeys(s for s in flat if isinstance(s, Before) and s.turns))
        body = Graph()
        inputs: dict[Any, Node] = {}
        for key, like in [
            *((node, node) for node in always),
            *((nodes, nodes[0]) for nodes in columns),
            *((source, self.first[source.operation]) for source in carried),
        ]:
            inputs[key] = body.placeholder(f"input_{len(inputs)}")
            inputs[key].meta["val"] = like.meta["val"]
        for source in carried:  # a row of a table, whose dtype it has
            value = inputs[source].meta["val"]
            inputs[source].meta["val"] = value.new_empty(value.shape, dtype=self.dtype)
            inputs[source] = self._restored(body, inputs[source], self.first[source.operation])
        made: list[Node] = []
        for node, sources in zip(self.first, self.period.sources, strict=True):
            given = iter(sources)

            def take(_: Node, given: Any = given) -> Node:
                source = next(given)
                if isinstance(source, Before) and not source.turns:
                    return made[source.operation]
                return inputs[
                    source.node
                    if isinstance(source, Always)
                    else source.nodes
                    if isinstance(source, Each)
                    else source
                ]

            args, kwargs = map_arg((node.args, node.kwargs), take)
            made.append(body.call_function(node.target, args, kwargs))  # type: ignore[arg-type]
            made[-1].meta["val"] = node.meta["val"]
        results = [self._packed(body, made[index]) for index in kept]
        body.output(results)
        carries = [(kept.index(source.operation), source.turns) for source in carried]
        return GraphModule({}, body), always, columns, carries

    def _packed(self, body: Graph, node: Node) -> Node:
        """A result as a table's row: contiguous, of the tables' dtype."""
        return body.call_function(
            _aten._to_copy.default,
            (node,),
            {"dtype": self.dtype, "memory_format": torch.contiguous_format},
        )

    def _restored(self, body: Graph, node: Node, like: Node) -> Node:
        dtype = like.meta["val"].dtype
        if dtype == self.dtype:
            return node
        return body.call_function(_aten._to_copy.default, (node,), {"dtype": dtype})

    def _initial(self, index: int, head: int) -> list[Node]:
        """The values that the first turns read from before the loop, the earliest first."""
        found: list[Node | None] = [None] * head
        for number, sources in enumerate(self.period.sources):
            for slot, source in enumerate(sources):
                if not isinstance(source, Before) or source.operation != index:
                    continue
                for turn in range(min(source.turns, len(self.period.turns))):
                    node = tensors_of(self.period.turns[turn][number])[slot]
                    place = head - source.turns + turn
                    found[place] = node
        return [node for node in found if node is not None]

    def _call(self, target: Any, *args: Any, **options: Any) -> Node:
        node = self.nodes.call_function(target, args, options)
        node.meta["val"] = self.infer(target, *values(args), **options)
        return node

    def _cast(self, node: Node) -> Node:
        if node.meta["val"].dtype == self.dtype:
            return node
        return self._call(_aten._to_copy.default, node, dtype=self.dtype)

    def _stacked(self, column: tuple[Node, ...]) -> Node:
        """Tensors of one shape as rows of one."""
        shape = list(column[0].meta["val"].shape)
        rows = [self._call(_aten.reshape.default, node, [1, *shape]) for node in column]
        return self._call(_aten.cat.default, rows, 0)

    def _distribute(self, result: Node, kept: list[int], tables: list[Table]) -> None:
        """Let what is outside read from the loop's result."""
        for index, table in zip(kept, tables, strict=True):
            turns = [turn[index] for turn in self.period.turns]
            if not any(user not in self.places for node in turns for user in node.users):
                continue
            whole = self._call(_aten.slice.Tensor, result, 0, table.start, table.start + table.size)
            rows = self._call(_aten.reshape.default, whole, [table.length, *table.shape])
            if turns[0].meta["val"].dtype != self.dtype:
                rows = self._call(_aten._to_copy.default, rows, dtype=turns[0].meta["val"].dtype)
            for number, node in enumerate(turns):
                users = [user for user in node.users if user not in self.places]
                if users:
                    row = self._call(_aten.select.int, rows, 0, table.place(number))
                    node.replace_all_uses_with(row, lambda user: user not in self.places)


def _settled(period: Period) -> Period:
    """The period without its first turns where those disagree about what was before them."""
    initial: dict[tuple[int, int], Node] = {}
    agree = True
    for number, sources in enumerate(period.sources):
        for slot, source in enumerate(sources):
            if isinstance(source, Before):
                for turn in range(min(source.turns, len(period.turns))):
                    node = tensors_of(period.turns[turn][number])[slot]
                    agree &= initial.setdefault((source.operation, turn - source.turns), node) is node
    if agree:
        return period
    back = max(s.turns for sources in period.sources for s in sources if isinstance(s, Before))
    later = [
        [Each(s.nodes[back:]) if isinstance(s, Each) else s for s in sources] for sources in period.sources
    ]
    return Period(period.turns[back:], later)


def _evenly(column: tuple[Node, ...]) -> tuple[Node, int, int] | None:
    """The tensor whose evenly spaced rows a column is, the first row and the step."""
    rows = [row_of(node) for node in column]
    first, second = rows[0], rows[1]
    if first is None or second is None or any(row is None or row[0] is not first[0] for row in rows):
        return None
    base, value = first[0].meta["val"], column[0].meta["val"]
    step = second[1] - first[1]
    even = all(row[1] == first[1] + i * step for i, row in enumerate(rows))  # type: ignore[index]
    if not even or not base.is_contiguous() or base.numel() != base.shape[0] * value.numel():
        return None
    return first[0], first[1], step
