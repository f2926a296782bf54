"""Long sums as one operation: additions one by one make a graph as deep as the loop was long.

So do the gradients of ``x[i]``: each is a tensor of zeros with one entry, and they are added up.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch.fx import Graph, Node

from brancher.staging.agenda import value_of

Tensor = torch.Tensor
_aten = torch.ops.aten

#: Operations on tensors of at most ``SMALL`` entries are joined where there are ``FEWEST``; others, which run
#: well where they are single, where there are so ``MANY`` that the compiler would take too long.
SMALL, FEWEST, MANY = 64, 8, 32
#: More entries than this are not stacked: copies would cost more than the compiler.
MOST_ENTRIES = 1 << 20
#: Gradients of single rows of a tensor with more rows than this are added up as they are.
MOST_ROWS = 4096

_ADDITIONS = (_aten.add.Tensor, _aten.sub.Tensor)


def is_enough(node: Node, count: int) -> bool:
    """Whether so many operations like this one are worth to be one."""
    value = value_of(node)
    if value is None or value.numel() * count > MOST_ENTRIES:
        return False
    return count >= (FEWEST if value.numel() <= SMALL else MANY)


def join_sums(nodes: Graph) -> None:
    """Write long chains of additions as one sum: it does not grow deeper with every term."""
    for node in reversed(list(nodes.nodes)):
        if not _is_addition(node) or any(_goes_on(user, node) for user in node.users):
            continue
        terms = _terms(node)
        if not is_enough(node, len(terms)):
            continue
        with nodes.inserting_before(node):
            total = _Sum(nodes, node.meta["val"]).of(terms)
        node.replace_all_uses_with(total)
    nodes.eliminate_dead_code()


class _Sum:
    """Makes one sum of many terms of one shape.

    Args:
        nodes: the graph.
        value: stand-in of a term.
    """

    def __init__(self, nodes: Graph, value: Tensor) -> None:
        self._nodes, self._value = nodes, value

    def of(self, terms: list[tuple[Node, bool]]) -> Node:
        """The sum, the terms marked true subtracted."""
        entries: dict[int, list[Node]] = defaultdict(list)
        whole: list[Node] = []
        for term, is_negative in terms:
            entry = None if is_negative else _entry(term, self._value)
            if entry is None:
                whole.append(self._call(_aten.neg.default, term) if is_negative else term)
            else:
                entries[entry[0]].append(entry[1])
        for layer in range(max(map(len, entries.values()), default=0)):
            whole.append(self._scattered({i: e[layer] for i, e in entries.items() if len(e) > layer}))
        return self._total(whole)

    def _call(self, target: Any, *args: Any) -> Node:
        node = self._nodes.call_function(target, args)
        values = torch.fx.node.map_arg(args, lambda each: each.meta["val"])
        node.meta["val"] = target(*values)
        return node

    def _total(self, terms: list[Node]) -> Node:
        if len(terms) == 1:
            return terms[0]
        rows = [self._call(_aten.reshape.default, term, [1, *self._value.shape]) for term in terms]
        return self._call(_aten.sum.dim_IntList, self._call(_aten.cat.default, rows, 0), [0])

    def _scattered(self, entries: dict[int, Node]) -> Node:
        """The tensor with these entries along its first dimension, and zeros elsewhere."""
        row = self._value[0]
        options: dict[str, Any] = {"dtype": row.dtype, "device": row.device, "pin_memory": False}
        zeros = self._nodes.call_function(_aten.full.default, ([1, *row.shape], 0.0), options)
        zeros.meta["val"] = row.new_empty([1, *row.shape])
        rows = [
            self._call(_aten.reshape.default, entries[i], [1, *row.shape]) if i in entries else zeros
            for i in range(self._value.shape[0])
        ]
        return self._call(_aten.cat.default, rows, 0)


def _entry(term: Node, value: Tensor) -> tuple[int, Node] | None:
    """Where along its first dimension a tensor of zeros has been given what: gradients of ``x[i]``."""
    if term.target is not _aten.select_scatter.default or term.kwargs or not 0 < value.shape[0] <= MOST_ROWS:
        return None
    base, source, dim, index = term.args
    is_zero = isinstance(base, Node) and base.target is _aten.full.default and base.args[1] == 0
    if not is_zero or dim % value.dim() or not isinstance(source, Node):  # type: ignore[operator]
        return None
    return index % value.shape[0], source  # type: ignore[operator, return-value]


def _is_addition(node: Any) -> bool:
    """Whether a node adds or subtracts two tensors of its own shape and dtype."""
    if not isinstance(node, Node) or node.target not in _ADDITIONS or node.kwargs:
        return False
    value = value_of(node)
    sides = [value_of(argument) for argument in node.args]
    return value is not None and all(
        s is not None and (s.shape, s.dtype) == (value.shape, value.dtype) for s in sides
    )


def _goes_on(user: Node, node: Node) -> bool:
    return len(node.users) == 1 and _is_addition(user)


def _terms(node: Node) -> list[tuple[Node, bool]]:
    """What a tree of additions adds, and whether it subtracts it; its inner sums are used nowhere else."""
    found: list[tuple[Node, bool]] = []
    pending: list[tuple[Any, bool]] = [(node, False)]
    while pending:
        each, is_negative = pending.pop()
        if each is node or (_is_addition(each) and len(each.users) == 1):
            left, right = each.args
            pending.append((right, is_negative != (each.target is _aten.sub.Tensor)))
            pending.append((left, is_negative))
        else:
            found.append((each, is_negative))
    return found
