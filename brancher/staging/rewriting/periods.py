"""Operations that repeat turn by turn: what is left of a Python loop whose turns wait for each other.

In the order in which they were recorded the operations of a loop come turn by turn, so that their kinds are a
word written many times in a row. Whether each turn also takes the same things from the same places, the turns
before it included, is then checked argument by argument.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from brancher.staging.rewriting.agenda import has_effect, value_of
from brancher.staging.rewriting.rows import row_of

#: So many turns are worth a loop. Fewer take the compiler a bearable time, their values stay in registers.
FEWEST_TURNS = 32
#: A turn has at most this many operations.
LONGEST_TURN = 1024
#: How many lengths of a turn are tried at one place.
TRIES = 12
#: Key of a node's meta: its place in the order in which the operations were recorded.
PLACE = "place"


class Before(NamedTuple):
    """An argument that one of a turn's operations, by its number, gave so many turns before (0: the same)."""

    operation: int
    turns: int


class Always(NamedTuple):
    """An argument that is the same in every turn."""

    node: Node


class Each(NamedTuple):
    """An argument that every turn has its own of, from outside."""

    nodes: tuple[Node, ...]


Source = Before | Always | Each


class Period(NamedTuple):
    """A loop.

    Attributes:
        turns: the operations of each turn, in order; alike at every index.
        sources: where the operation at each index takes its tensors from, in the order of its arguments.
    """

    turns: list[list[Node]]
    sources: list[list[Source]]


def arrange(nodes: Graph, draws_apart: bool) -> list[list[Node]]:
    """Bring a graph into an order that has loops in one piece; return the recorded operations, by level.

    A level ends where many operations are done at once, from what those before have given, and with
    ``draws_apart`` where something is done with what was drawn.
    """
    levels: dict[Node, int] = {}
    kinds = {node: _kind_of(node) for node in nodes.nodes if node.op == "call_function"}
    repeated = {kind for kind, count in Counter(kinds.values()).items() if count >= FEWEST_TURNS}
    recorded: dict[Node, bool] = {}
    drawn: Node | None = None
    for node in nodes.nodes:
        sources = list(node.all_input_nodes)
        if node.op == "call_function" and has_effect(node):
            sources += [drawn] if drawn is not None else []
            drawn = node
        is_row = _is_outer_row(node, kinds, repeated)
        recorded[node] = node.op == "call_function" and PLACE in node.meta and not is_row
        is_use = draws_apart and not has_effect(node)
        levels[node] = max(
            (
                levels[s] + (recorded[s] and (not recorded[node] or (is_use and has_effect(s))))
                for s in sources
            ),
            default=0,
        )
    last = max(levels.values(), default=0) + 1
    order: list[list[Node]] = [[] for _ in range(2 * last)]
    ends: list[Node] = []
    for node in nodes.nodes:
        is_end = node.op == "output" or (node.op == "call_function" and _writes(node))
        (ends if is_end else order[2 * levels[node] + recorded[node]]).append(node)
    for number in range(1, 2 * last, 2):
        order[number].sort(key=lambda node: node.meta[PLACE])
    for before, node in itertools.pairwise([*(node for group in order for node in group), *ends]):
        before.append(node)
    return [group for group in order[1::2] if group]


def periods(line: Sequence[Node]) -> Iterator[Period]:
    """The loops in one level's operations."""
    kinds: dict[Any, int] = {}
    word = np.array([kinds.setdefault(_kind_of(node), len(kinds)) for node in line], dtype=np.int64)
    pending = [(0, len(line))]
    while pending:
        start, stop = pending.pop()
        found = _first(line, word, start, stop)
        if found is None:
            continue
        period, first, last = found
        yield period
        pending += [(start, first), (last, stop)]


def _first(
    line: Sequence[Node], word: np.ndarray[Any, Any], start: int, stop: int
) -> tuple[Period, int, int] | None:
    """The loop that covers most between two positions, and its positions."""
    candidates: list[tuple[int, int, int]] = []
    for length in range(1, min(LONGEST_TURN, (stop - start) // FEWEST_TURNS) + 1):
        same = word[start + length : stop] == word[start : stop - length]
        edges = np.flatnonzero(np.diff(np.concatenate(([0], same.astype(np.int8), [0]))))
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            if end - first >= length * (FEWEST_TURNS - 1):
                candidates.append((int(end - first) + length, length, start + int(first)))
    candidates.sort(key=lambda each: (-(each[0] - each[0] % each[1]), each[1]))
    best: tuple[int, Period, int, int] | None = None
    for covered, length, first in candidates[:TRIES]:
        if best is not None and covered <= best[0]:
            break
        turns = [list(line[i : i + length]) for i in range(first, first + covered - length + 1, length)]
        checked = _checked(turns)
        if checked is None:
            continue
        period, skipped = checked
        size = len(period.turns) * length
        if best is None or size > best[0]:
            best = size, period, first + skipped * length, first + skipped * length + size
    return None if best is None else best[1:]


def _checked(turns: list[list[Node]]) -> tuple[Period, int] | None:
    """Turns that take their tensors alike, and how many come before them."""
    found, half = _around_middle(turns), len(turns) // 2
    if found is not None or half < FEWEST_TURNS:
        return found
    for start, part in ((0, turns[:half]), (half, turns[half:])):
        found = _checked(part)
        if found is not None:
            return found[0], start + found[1]
    return None


def _around_middle(turns: list[list[Node]]) -> tuple[Period, int] | None:
    """The turns that take their tensors as the middle one does, and how many come before them."""
    where = {node: (turn, index) for turn, nodes in enumerate(turns) for index, node in enumerate(nodes)}
    slots = [[tensors_of(nodes[index]) for nodes in turns] for index in range(len(turns[0]))]
    middle = len(turns) // 2
    first, last = 0, len(turns) - 1
    sources = [[_source(each, slot, middle, where) for slot in range(len(each[middle]))] for each in slots]
    before = None
    while before != (first, last):
        before = first, last
        for each, row in zip(slots, sources, strict=True):
            for slot, source in enumerate(row):
                first, last = _narrowed(each, slot, source, where, first, last, middle)
                if not first <= middle <= last or last - first + 1 < FEWEST_TURNS:
                    return None
    for each, row in zip(slots, sources, strict=True):
        for slot, source in enumerate(row):
            if isinstance(source, Each):
                row[slot] = Each(tuple(each[turn][slot] for turn in range(first, last + 1)))
    return Period(turns[first : last + 1], sources), first


def _source(each: list[list[Node]], slot: int, turn: int, where: dict[Node, tuple[int, int]]) -> Source:
    """What an argument is in the middle of the loop."""
    node, following = each[turn][slot], each[turn + 1][slot]
    if node is following:
        return Always(node)
    if node in where and following in where:
        return Before(where[node][1], turn - where[node][0])
    return Each(())


def _narrowed(
    each: list[list[Node]],
    slot: int,
    source: Source,
    where: dict[Node, tuple[int, int]],
    first: int,
    last: int,
    middle: int,
) -> tuple[int, int]:
    """The turns, of those from ``first`` to ``last``, for which an argument is what it is in the middle."""
    for turn in range(middle, first - 1, -1):
        if turn < first:
            break
        first = max(first, _earliest(each[turn][slot], source, where, turn))
    for turn in range(middle, last + 1):
        if _earliest(each[turn][slot], source, where, turn) > first:
            return first, turn - 1
    return first, last


def _earliest(node: Node, source: Source, where: dict[Node, tuple[int, int]], turn: int) -> int:
    """The first turn from which on a loop may start that has this node as the argument in this turn."""
    made = where.get(node)
    if isinstance(source, Always) and node is not source.node:
        return turn + 1
    if isinstance(source, Before):
        if made == (turn - source.turns, source.operation):
            return 0
        if not source.turns:
            return turn + 1
        # From outside: the value before the first turn.
        return max(turn - source.turns + 1, 0 if made is None else made[0] + 1)
    return 0 if made is None else made[0] + 1


def tensors_of(node: Node) -> list[Node]:
    """The nodes among a node's arguments, those in lists included, in order, as often as they are there."""
    found: list[Node] = []

    def take(each: Node) -> Node:
        found.append(each)
        return each

    map_arg((node.args, node.kwargs), take)
    return found


def _is_outer_row(node: Node, kinds: dict[Node, Any], repeated: set[Any]) -> bool:
    """Whether a node is a row of a tensor that no loop makes."""
    row = row_of(node)
    if row is None:
        return False
    base = row[0]
    return base.op != "call_function" or PLACE not in base.meta or kinds[base] not in repeated


def _writes(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _kind_of(node: Node) -> Any:
    """Equal for operations that differ in nothing but where their tensors come from."""
    shown = _shown((node.args, node.kwargs))
    value = value_of(node)
    made = None if value is None else (tuple(value.shape), value.stride(), value.dtype)
    return node.target, shown, made


def _shown(argument: Any) -> Any:
    if isinstance(argument, Node):
        value = value_of(argument)
        return "tensor", None if value is None else (tuple(value.shape), value.dtype)
    if isinstance(argument, (list, tuple)):
        return tuple(_shown(each) for each in argument)
    if isinstance(argument, dict):
        return tuple((key, _shown(each)) for key, each in argument.items())
    return type(argument), repr(argument)
