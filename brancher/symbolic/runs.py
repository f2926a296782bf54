"""What one run of a program shares, and what variables without a law are in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from brancher.primitives import plate
from brancher.symbolic.batches import Value
from brancher.symbolic.data import DeterministicVariable, EmpiricalVariable, RandomIndices
from brancher.symbolic.observations import Observation
from brancher.symbolic.rows import Rows
from brancher.symbolic.variables import Variable


class Run(NamedTuple):
    """What one run of a program shares.

    Attributes:
        prefix: of the parameters.
        plates: those it opened.
        still: values in which nothing is learned, by place, where they differ.
        wraps: what to make of a variable's law before it is sampled, by name.
    """

    prefix: str
    plates: dict[Rows, plate]
    still: dict[int, Value]
    wraps: dict[str, Callable[[Any], Any]]

    def inside(self, rows: Rows | None) -> Any:
        return nullcontext() if rows is None else self.plate(rows)

    def plate(self, rows: Rows) -> plate:
        if rows not in self.plates:
            self.plates[rows] = rows.open()
        return self.plates[rows]


Step = Callable[[Run, Sequence[Value]], Value]


def value_of(node: Variable, rows: Rows | None) -> Callable[[Run, Sequence[Value]], Value]:
    """What gives the value of a variable without a law, from a run and the values of its parents."""
    if isinstance(node, RandomIndices):
        return lambda run, values: Value(run.plate(rows).indices, 0)  # type: ignore[arg-type]
    if isinstance(node, EmpiricalVariable):
        if not node.has_rows:
            return lambda run, values: node.draw()
        if rows is None or rows.owner is None:
            return lambda run, values: node.rows_at(None)
        return lambda run, values: node.rows_at(run.plate(rows).indices)
    if isinstance(node, DeterministicVariable) and node.rows is not None:
        return lambda run, values: node.row_value
    return lambda run, values: values[0]


def present(observation: Observation, rows: Rows | None, run: Run) -> torch.Tensor:
    """Data of the rows that are present."""
    if rows is None or rows.owner is None or observation.rows != rows.size:
        return observation.tensor
    return observation.tensor[run.plate(rows).indices]
