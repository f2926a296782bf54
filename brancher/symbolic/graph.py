"""The graph behind some variables: what they depend on, in an order that can be run."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence

from brancher.errors import SiteError
from brancher.symbolic.expressions import Expression
from brancher.symbolic.variables import Variable

ParentsOf = Callable[[Expression], Sequence[Expression]]


def closure(roots: Iterable[Expression], parents_of: ParentsOf) -> list[Expression]:
    """All nodes that the roots depend on, themselves included, parents first.

    Among nodes that could come next, the one declared first does: the order depends on the program
    alone, never on hashes.

    Raises:
        SiteError: a variable depends on itself, through an observation.
    """
    found: dict[int, Expression] = {}
    todo = list(roots)
    while todo:
        node = todo.pop()
        if id(node) not in found:
            found[id(node)] = node
            todo.extend(parents_of(node))
    nodes = sorted(found.values(), key=_serial)
    if all(parent.serial < node.serial for node in nodes for parent in parents_of(node)):
        return nodes
    return _sorted(nodes, parents_of)


def _serial(node: Expression) -> int:
    return node.serial


def _sorted(nodes: list[Expression], parents_of: ParentsOf) -> list[Expression]:
    """Kahn's algorithm, for graphs in which data were declared after what they are data of."""
    children: dict[int, list[Expression]] = {id(node): [] for node in nodes}
    missing: dict[int, int] = {}
    for node in nodes:
        parents = parents_of(node)
        missing[id(node)] = len(parents)
        for parent in parents:
            children[id(parent)].append(node)
    # The count decides between nodes of one number, as copies from another process may have.
    count = itertools.count()
    ready = [(node.serial, next(count), node) for node in nodes if not missing[id(node)]]
    heapq.heapify(ready)
    order: list[Expression] = []
    while ready:
        node = heapq.heappop(ready)[2]
        order.append(node)
        for child in children[id(node)]:
            missing[id(child)] -= 1
            if not missing[id(child)]:
                heapq.heappush(ready, (child.serial, next(count), child))
    if len(order) < len(nodes):
        names = [node.name for node in nodes if isinstance(node, Variable) and missing[id(node)]]
        raise SiteError(
            f"model: expected variables that do not depend on themselves, got {names} in a circle"
        )
    return order


def check_names(variables: Iterable[Variable]) -> None:
    """Refuse two variables of one name.

    Raises:
        SiteError: naming both.
    """
    first: dict[str, Variable] = {}
    for variable in variables:
        other = first.setdefault(variable.name, variable)
        if other is not variable:
            raise SiteError(
                f"variable '{variable.name}': expected one variable of this name in the model, got two: "
                f"{other.describe()} and {variable.describe()}; rename one"
            )
