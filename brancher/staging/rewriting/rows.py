"""Rows of tensors: where they come from, and in which order they stand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.fx import Node

from brancher.staging.rewriting.agenda import value_of

_aten = torch.ops.aten

#: At most so many tensors give rows in turn.
WIDEST = 64
#: So many rows of each are worth to be woven.
FEWEST_WOVEN = 4
#: What stands there more often in a row is repeated; less often, it stays one by one, to be woven later.
FEWEST_REPEATED = 8


class Lane(NamedTuple):
    """Row ``row`` of a stacked tensor of the new graph."""

    base: Node
    row: int


#: Evenly spaced rows of one tensor, or what repeats.
Strand = list[Lane | Node]


def runs(places: Sequence[Lane | Node]) -> list[list[Strand]]:
    """What stands side by side in as few pieces as can be; each piece is strands that take turns."""
    found: list[list[Strand]] = []
    start = 0
    while start < len(places):
        best = _strands(places, start, 1)
        if isinstance(places[start], Node) and len(best[0]) < FEWEST_REPEATED:
            best = [[places[start]]]
        for width in range(2, min(WIDEST, (len(places) - start) // FEWEST_WOVEN) + 1):
            if not _is_even(places[start : start + width * FEWEST_WOVEN : width]):
                continue
            woven = _strands(places, start, width)
            if len(woven[0]) >= FEWEST_WOVEN and width * len(woven[0]) > len(best) * len(best[0]):
                best = woven
        found.append(best)
        start += len(best) * len(best[0])
    return found


def _strands(places: Sequence[Lane | Node], start: int, width: int) -> list[Strand]:
    """The longest piece of so many strands that begins at a position."""
    strands: list[Strand] = [[place] for place in places[start : start + width]]
    steps: list[int] = []
    for position in range(start, start + width):
        step = _step(places[position], places[position + width]) if position + width < len(places) else None
        if step is None:
            return strands
        steps.append(step)
    for turn in range(start + width, len(places) - width + 1, width):
        row = places[turn : turn + width]
        last = places[turn - width : turn]
        if any(_step(one, other) != step for one, other, step in zip(last, row, steps, strict=True)):
            break
        for strand, place in zip(strands, row, strict=True):
            strand.append(place)
    return strands


def _step(one: Lane | Node, other: Lane | Node) -> int | None:
    """How many rows of their tensor lie between two places; None where they have none in common."""
    if isinstance(one, Node) or isinstance(other, Node):
        return 0 if one is other else None
    return other.row - one.row if one.base is other.base else None


def _is_even(places: Sequence[Lane | Node]) -> bool:
    steps = {_step(one, other) for one, other in itertools.pairwise(places)}
    return len(steps) == 1 and None not in steps


def row_of(node: Node) -> tuple[Node, int] | None:
    """The tensor whose single row along the first dimension a node is."""
    arguments: tuple[Any, ...] = node.args
    if node.op != "call_function" or not arguments or not isinstance(arguments[0], Node):
        return None
    source = arguments[0]
    value = value_of(source)
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
        given: list[Any] = [*arguments[1:], *(0, None, None, 1)[len(arguments) - 1 :]]
        dim, (start, stop, step) = given[0], slice(*given[1:]).indices(value.shape[given[0]])
        if dim % value.dim() == 0 and step == 1 and stop - start == 1:
            return source, start
    return None
