"""Data points: which variables have one value for each, and under which plate they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch

from brancher.errors import SiteError
from brancher.handlers import Message
from brancher.primitives import plate
from brancher.symbolic.data import DeterministicVariable, EmpiricalVariable, RandomIndices
from brancher.symbolic.expressions import Expression
from brancher.symbolic.inputs import Input
from brancher.symbolic.observations import Observation
from brancher.symbolic.variables import Variable


class Rows(NamedTuple):
    """A set of data points.

    Attributes:
        name: of the plate.
        size: how many there are in all.
        present: how many a run sees.
        owner: the variable that draws them; None where all are present.
    """

    name: str
    size: int
    present: int
    owner: Variable | None = None

    def open(self) -> plate:
        """The plate, its rows drawn."""
        weights = getattr(self.owner, "weights", None)
        if weights is not None:
            return _WeightedPlate(self.name, self.size, self.present, weights)
        return plate(self.name, self.size, None if self.present == self.size else self.present, dim=-1)


class _WeightedPlate(plate):
    """A plate whose rows are drawn with weights, with replacement."""

    def __init__(self, name: str, size: int, present: int, weights: torch.Tensor) -> None:
        self.weights, self.count = weights, present
        # A size that differs from the plate's makes it draw even where all rows fit.
        super().__init__(name, size, subsample_size=present, dim=-1)

    def _draw(self, message: Message) -> torch.Tensor:
        return torch.multinomial(self.weights, self.count, replacement=True)


class PlateNames:
    """Names of the plates of data points that nobody named, the same in a model and its posterior."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def of(self, size: int, taken: Mapping[str, Any]) -> str:
        """The name for a number of data points."""
        if size not in self._names:
            name = "data" if not self._names else f"data_{size}"
            while name in taken:
                name += "_plate"
            self._names[size] = name
        return self._names[size]


def find_rows(
    nodes: Iterable[Expression],
    parents_of: Any,
    observations: Mapping[int, Observation],
    known: Mapping[str, Rows],
    names: PlateNames,
    taken: Mapping[str, Any],
    input_of: Callable[[Expression], Input | None],
) -> dict[int, Rows]:
    """Find the data points of every node that has some: by its own data, or by its parents'.

    Args:
        nodes: parents first.
        parents_of: what a node depends on.
        observations: data by node.
        known: rows by the names of variables that have them for another reason.
        names: of plates.
        taken: names that plates can not have.
        input_of: what a node is given from outside.

    Raises:
        SiteError: two numbers of data points meet, naming the variable.
    """
    found: dict[int, Rows] = {}
    for node in nodes:
        given = input_of(node)
        rows = _own(node, names, taken) if given is None else _given(given, names, taken)
        for parent in parents_of(node):
            rows = _joint(node, rows, found.get(id(parent)))
        if isinstance(node, Variable) and node.name in known:
            rows = _joint(node, rows, known[node.name])
        count = observations[id(node)].rows if id(node) in observations else None
        if count is not None:
            if rows is None:
                rows = Rows(names.of(count, taken), count, count)
            elif count not in (rows.size, rows.present):
                raise SiteError(
                    f"variable '{getattr(node, 'name', node)}': expected {rows.size} data points as in "
                    f"'{rows.name}', got data with {count}"
                )
        if rows is not None:
            found[id(node)] = rows
    return found


def _own(node: Expression, names: PlateNames, taken: Mapping[str, Any]) -> Rows | None:
    if isinstance(node, DeterministicVariable) and node.rows is not None:
        return Rows(names.of(node.rows, taken), node.rows, node.rows)
    if isinstance(node, RandomIndices):
        return Rows(node.name, node.dataset_size, node.batch_size, node)
    if isinstance(node, EmpiricalVariable) and node.has_rows and node.indices is None:
        count = node.dataset.shape[0]
        size = node.batch_size or count
        if size == count and node.weights is None:
            return Rows(names.of(count, taken), count, count)
        return Rows(f"{node.name}_rows", count, size, node)
    return None


def _given(given: Input, names: PlateNames, taken: Mapping[str, Any]) -> Rows | None:
    return None if given.rows is None else Rows(names.of(given.rows, taken), given.rows, given.rows)


def _joint(node: Expression, a: Rows | None, b: Rows | None) -> Rows | None:
    if a is None or b is None or a == b:
        return a or b
    if a.name == b.name and a.size == b.size and a.present == b.present:
        return a
    raise SiteError(
        f"variable '{getattr(node, 'name', node)}': expected one set of data points, got {a.size} "
        f"of '{a.name}' and "
        f"{b.size} of '{b.name}'; give its parents data of one length, or one RandomIndices"
    )
