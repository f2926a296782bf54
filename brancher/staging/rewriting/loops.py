"""Loops in a graph: one operation for all turns, which run in C++ (`loop_code`).

The operation takes tensors and a loop's number and gives every value that a later turn or something outside
needs, of all turns, in one tensor. Each of them is a table with a row a turn. Before the first row of a table
come as many rows as a turn looks back, with what was there before the loop.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.fx import GraphModule

Tensor = torch.Tensor


class Table(NamedTuple):
    """All that one operation of a turn gives.

    Attributes:
        shape: of one row.
        head: rows before the first turn's.
        start: where in the loop's result the table begins, in entries.
        length: how many rows it has. Where only the last turn's is needed in the end, as many as are read in
            one turn and one to write to; those are written over in turn.
    """

    shape: tuple[int, ...]
    head: int
    start: int
    length: int

    @property
    def size(self) -> int:
        """How many entries it has."""
        return self.length * math.prod(self.shape)

    def place(self, turn: int, back: int = 0) -> int:
        """The row that a turn writes, or that of some turns before."""
        return (self.head + turn - back) % self.length


class LoopCode(NamedTuple):
    """A loop as C++.

    Attributes:
        name: of a function that gets pointers to the loop's inputs and to its result.
        declaration: to stand before the graph's function.
        definition: to stand behind it, after Inductor's header for kernels.
        workspace: bytes that it needs behind the tables.
        constants: declarations of torch's constants that it uses, to stand before the graph's function once.
    """

    name: str
    declaration: str
    definition: str
    workspace: int = 0
    constants: tuple[str, ...] = ()


@dataclass(slots=True)
class Loop:
    """A loop whose turns are alike.

    Attributes:
        body: one turn. Its inputs are what is the same in every turn, then a row for each of ``columns``,
            then what ``carries`` tell; its results the new rows of ``tables``.
        turns: how many.
        columns: first row and step from turn to turn, of tensors whose rows are read.
        carries: table, and how many turns back.
        tables: what is kept.
        dtype: of all tables.
        always: how many of the loop's inputs are the same in every turn.
    """

    body: GraphModule
    turns: int
    columns: list[tuple[int, int]]
    carries: list[tuple[int, int]]
    tables: list[Table]
    dtype: torch.dtype
    always: int
    code: LoopCode | None = None

    @property
    def samples(self) -> list[Tensor]:
        """Stand-ins for the inputs of the body."""
        return [node.meta["val"] for node in self.body.graph.nodes if node.op == "placeholder"]

    @property
    def entries(self) -> int:
        """How many entries the tables have."""
        return sum(table.size for table in self.tables)

    @property
    def length(self) -> int:
        """How many entries the result has, with the room that the code works in."""
        spare = 0 if self.code is None else self.code.workspace
        return self.entries - (-spare // self.dtype.itemsize)

    def run(self, tensors: Sequence[Tensor]) -> Tensor:
        """Run the loop in Python."""
        result = torch.empty(self.length, dtype=self.dtype, device=tensors[0].device if tensors else None)
        tables = [
            result[table.start : table.start + table.size].view(table.length, *table.shape)
            for table in self.tables
        ]
        given = iter(tensors)
        always = list(itertools.islice(given, self.always))
        bases = list(itertools.islice(given, len(self.columns)))
        for view, table in zip(tables, self.tables, strict=True):
            for row in range(table.head):
                view[row] = next(given)
        for turn in range(self.turns):
            rows = [base[a + turn * b] for base, (a, b) in zip(bases, self.columns, strict=True)]
            before = [tables[i][self.tables[i].place(turn, back)].clone() for i, back in self.carries]
            new = self.body(*always, *rows, *before)
            for view, table, value in zip(tables, self.tables, new, strict=True):
                view[table.place(turn)] = value
        return result


_loops: dict[int, Loop] = {}
_numbers = itertools.count()
_library = torch.library.Library("brancher", "DEF")


def _define(name: str, *tags: torch.Tag) -> Any:
    _library.define(f"{name}(Tensor[] tensors, int number) -> Tensor", tags=tags)

    def run(tensors: list[Tensor], number: int) -> Tensor:
        return _loops[number].run(tensors)

    def fake(tensors: list[Tensor], number: int) -> Tensor:
        loop = _loops[number]
        return torch.empty(loop.length, dtype=loop.dtype, device="cpu")

    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"brancher::{name}", fake, lib=_library)
    return getattr(torch.ops.brancher, name).default


LOOP, DRAWS = _define("loop"), _define("loop_of_draws", torch.Tag.nondeterministic_seeded)


def register(loop: Loop) -> int:
    """Remember a loop until `forget`; return its number."""
    number = next(_numbers)
    _loops[number] = loop
    return number


def loop_of(number: int) -> Loop:
    """The loop of an operation's number."""
    return _loops[number]


def numbers_of(graph: GraphModule) -> list[int]:
    """The numbers of the loops in a graph."""
    return [node.args[1] for node in graph.graph.nodes if node.target in (LOOP, DRAWS)]


def forget(numbers: Sequence[int]) -> None:
    """Forget loops whose graph is not needed any more."""
    for number in numbers:
        _loops.pop(number, None)
