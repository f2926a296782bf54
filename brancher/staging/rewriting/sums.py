"""Long sums as one operation: additions one by one make a graph as deep as the loop was long.

So do the gradients of ``x[i]``: each is a tensor of zeros with one entry, and they are added up.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch.fx import Graph, Node

from brancher.staging.rewriting.agenda import value_of
from brancher.staging.rewriting.standins import Infer, perform, values

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


def is_enough(node: Node, count: int, fewest: int = FEWEST) -> bool:
    """Whether so many operations like this one, and at least ``fewest``, are worth to be one."""
    value = value_of(node)
    if value is None or value.numel() * count > MOST_ENTRIES:
        return False
    return count >= max(fewest, FEWEST if value.numel() <= SMALL else MANY)


def join_sums(nodes: Graph, infer: Infer = perform, fewest: int = FEWEST) -> None:
    """Write long chains of additions as one sum: it does not grow deeper with every term."""
    for node in reversed(list(nodes.nodes)):
        if not _is_addition(node) or any(_goes_on(user, node) for user in node.users):
            continue
        terms = _terms(node)
        if len(terms) < fewest or not (is_enough(node, len(terms)) or _are_entries(node, terms)):
            continue
        with nodes.inserting_before(node):
            total = _Sum(nodes, node.meta["val"], infer).of(terms)
        node.replace_all_uses_with(total)
    nodes.eliminate_dead_code()


class _Sum:
    """Makes one sum of many terms of one shape.

    Args:
        nodes: the graph.
        value: stand-in of a term.
        infer: gives what an operation gives for stand-ins.
    """

    def __init__(self, nodes: Graph, value: Tensor, infer: Infer) -> None:
        self._nodes, self._value, self._infer = nodes, value, infer

    def of(self, terms: list[tuple[Node, bool]]) -> Node:
        """The sum, the terms marked true subtracted."""
        entries: dict[tuple[int, int], list[Node]] = defaultdict(list)
        whole: list[Node] = []
        for term, is_negative in terms:
            entry = None if is_negative else _entry(term, self._value)
            if entry is None:
                whole.append(self._call(_aten.neg.default, term) if is_negative else term)
            else:
                entries[entry[:2]].append(entry[2])
        for dim in sorted({dim for dim, _ in entries}):
            here = {index: each for (d, index), each in entries.items() if d == dim}
            for layer in range(max(map(len, here.values()))):
                whole.append(self._scattered(dim, {i: e[layer] for i, e in here.items() if len(e) > layer}))
        return self._total(whole)

    def _call(self, target: Any, *args: Any) -> Node:
        node = self._nodes.call_function(target, args)
        node.meta["val"] = self._infer(target, *values(args))
        return node

    def _total(self, terms: list[Node]) -> Node:
        if len(terms) * self._value.numel() > MOST_ENTRIES:
            total = terms[0]
            for term in terms[1:]:
                total = self._call(_aten.add.Tensor, total, term)
            return total
        if len(terms) == 1:
            return terms[0]
        rows = [self._call(_aten.reshape.default, term, [1, *self._value.shape]) for term in terms]
        return self._call(_aten.sum.dim_IntList, self._call(_aten.cat.default, rows, 0), [0])

    def _scattered(self, dim: int, entries: dict[int, Node]) -> Node:
        """The tensor with these entries along a dimension, and zeros elsewhere."""
        row = self._value.select(dim, 0)
        shape = [*row.shape[:dim], 1, *row.shape[dim:]]
        options: dict[str, Any] = {"dtype": row.dtype, "device": row.device, "pin_memory": False}
        zeros = self._nodes.call_function(_aten.full.default, (shape, 0.0), options)
        zeros.meta["val"] = row.new_empty(shape)
        rows = [
            self._call(_aten.reshape.default, entries[i], shape) if i in entries else zeros
            for i in range(self._value.shape[dim])
        ]
        return self._call(_aten.cat.default, rows, dim)


def _are_entries(node: Node, terms: list[tuple[Node, bool]]) -> bool:
    """Whether most of many terms are single rows, which take no more room together than one of them."""
    value = node.meta["val"]
    rows = sum(not is_negative and _entry(term, value) is not None for term, is_negative in terms)
    return rows >= FEWEST and (len(terms) - rows + 1) * value.numel() <= MOST_ENTRIES


def _entry(term: Node, value: Tensor) -> tuple[int, int, Node] | None:
    """Along which dimension, and where, a tensor of zeros has been given what: gradients of ``x[i]``."""
    if term.kwargs or not value.dim():
        return None
    if term.target is _aten.select_backward.default:
        source, _, dim, index = term.args
    elif term.target is _aten.select_scatter.default:
        base, source, dim, index = term.args
        if not (isinstance(base, Node) and base.target is _aten.full.default and base.args[1] == 0):
            return None
    else:
        return None
    place: Any = dim, index
    along = place[0] % value.dim()
    if not isinstance(source, Node) or not 0 < value.shape[along] <= MOST_ROWS:
        return None
    return along, place[1] % value.shape[along], source


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
