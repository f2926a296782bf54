"""Entries that a tensor repeats: computed once, and the result repeated.

A distribution broadcasts its parameters with each other first; the logarithm of a single scale would be taken
once for every row of data.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from brancher.staging.rewriting.agenda import has_effect, value_of

_aten = torch.ops.aten
_SUMS = (_aten.sum.default, _aten.sum.dim_IntList)


def compute_once(nodes: Graph, node: Node) -> bool:
    """Let an entrywise operation work on the entries before they are repeated; false where it can not."""
    value, target = value_of(node), node.target
    given = [value_of(argument) for argument in node.args if isinstance(argument, Node)]
    # Numbers fit every shape.
    arguments = [a for a in node.args if isinstance(a, Node) and ((v := value_of(a)) is None or v.dim())]
    is_pointwise = torch.Tag.pointwise in getattr(target, "tags", ()) and not has_effect(node)
    if value is None or not arguments or not is_pointwise or not callable(target):
        return False
    if any(isinstance(option, Node) for option in node.kwargs.values()):
        return False
    if not all(_broadcasts(user) for user in node.users):  # a view or a result needs entries of its own
        return False
    if any(argument.target is not _aten.expand.default for argument in arguments):
        return False
    sources: dict[Any, Any] = {argument: argument.args[0] for argument in arguments}
    few = [value_of(source) for source in sources.values()]
    shapes = {None if each is None else each.shape for each in few}
    dtypes = {None if each is None else each.dtype for each in given} - {torch.bool}
    first = few[0]
    if first is None or len(shapes) > 1 or len(dtypes) > 1 or first.numel() == value.numel():
        return False
    if any(argument.meta["val"].shape != value.shape for argument in arguments):
        return False
    with nodes.inserting_before(node):
        inner = nodes.call_function(
            target, tuple(sources.get(a, a) if isinstance(a, Node) else a for a in node.args), node.kwargs
        )
        inner.meta["val"] = first.new_empty(first.shape, dtype=value.dtype)
        outer = nodes.call_function(_aten.expand.default, (inner, list(value.shape)))
        outer.meta["val"] = inner.meta["val"].expand(value.shape)
    node.replace_all_uses_with(outer)
    return True


def _broadcasts(node: Node) -> bool:
    """Whether a node reads repeated entries as well as ones of their own."""
    if has_effect(node):
        return False
    return torch.Tag.pointwise in getattr(node.target, "tags", ()) or node.target in _SUMS
