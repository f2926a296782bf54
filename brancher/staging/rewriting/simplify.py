"""Rewrites of a pure graph that leave its values as they are: fewer nodes, fewer loops to compile.

Code that keeps many small tensors in one flat buffer splits it and joins the pieces again, at every turn.
Inductor writes one loop for each piece of each join; most joins put together what was one tensor before.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from torch.fx import Graph, GraphModule, Node

from brancher.staging.rewriting.agenda import RESHAPES
from brancher.staging.rewriting.lanes import join_lanes
from brancher.staging.rewriting.repeats import compute_once

Tensor = torch.Tensor
_aten = torch.ops.aten
_UNIFORM_VIEWS = RESHAPES | {
    _aten.expand.default,
    _aten.select.int,
    _aten.slice.Tensor,
    _aten.permute.default,
}
_PRODUCTS = (_aten.mul.Tensor, _aten.mul.Scalar)
#: As many terms are added one by one; more are left to a reduction.
_MOST_TERMS = 512


class Piece(NamedTuple):
    """Entries ``start`` to ``stop`` of a tensor along one dimension."""

    base: Node
    dim: int
    start: int
    stop: int


def simplify(graph: GraphModule) -> None:
    """Rewrite a graph without mutations in place."""
    merge_equal(graph.graph)
    join_lanes(graph)
    for _ in range(2):  # what one round has made equal the next one can join
        merge_equal(graph.graph)
        _rewrite(graph.graph)
        graph.graph.eliminate_dead_code()


def _rewrite(nodes: Graph) -> None:
    joins: list[Node] = []
    for node in list(nodes.nodes):
        if node.op != "call_function" or _fill(nodes, node):
            continue
        if node.target is _aten.alias.default:
            _replace(node, node.args[0])
        elif node.target in RESHAPES:
            _simplify_view(nodes, node)
        elif compute_once(nodes, node):
            continue
        elif node.target in _PRODUCTS:
            _simplify_product(nodes, node)
        elif node.target is _aten.abs.default and _is_negation(node.args[0]):
            node.args = node.args[0].args[:1]
        elif node.target is _aten.cat.default:
            joined = _simplify_cat(nodes, node)
            if joined.target is _aten.cat.default:
                _use_earlier(joined, joins)
                joins.append(joined)
        elif node.target is _aten.sum.default or node.target is _aten.sum.dim_IntList:
            _simplify_sum(nodes, node)
        elif (piece := _piece(node)) is not None:
            _simplify_piece(node, piece)


def merge_equal(nodes: Graph) -> None:
    """Compute what is computed twice once; draws are no computations."""
    seen: dict[Hashable, Node] = {}
    for node in list(nodes.nodes):
        if node.op != "call_function" or _is_impure(node):
            continue
        key = (node.target, _frozen(node.args), _frozen(node.kwargs))
        try:
            first = seen.setdefault(key, node)
        except TypeError:  # an argument without a hash
            continue
        if first is not node:
            node.replace_all_uses_with(first)
            nodes.erase_node(node)


def _is_impure(node: Node) -> bool:
    tags = getattr(node.target, "tags", ())
    schema = getattr(node.target, "_schema", None)
    if torch.Tag.nondeterministic_seeded in tags or (schema is not None and schema.is_mutable):
        return True
    return isinstance(node.target, torch._ops.HigherOrderOperator) or "empty" in str(node.target)


def _frozen(value: Any) -> Hashable:
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, (bool, int, float, complex)):
        return type(value), repr(value)  # 1, 1.0 and True differ, and so do 0.0 and -0.0
    return value  # type: ignore[no-any-return]


def _value(node: Any) -> Tensor | None:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return value if isinstance(value, Tensor) else None


def _replace(node: Node, new: Node) -> None:
    node.replace_all_uses_with(new)


def _simplify_view(nodes: Graph, node: Node) -> None:
    """Skip views of views, and those that change nothing."""
    value, source = _value(node), _origin(node)
    first = _value(source)
    if value is None or first is None or not first.is_contiguous():
        return
    if first.shape == value.shape:
        _replace(node, source)
    else:
        with nodes.inserting_before(node):
            new = nodes.call_function(_aten.reshape.default, (source, list(value.shape)))
        new.meta = {"val": value}
        _replace(node, new)


def _simplify_product(nodes: Graph, node: Node) -> None:
    """Skip factors of one, and turn those of minus one into a sign."""
    value = _value(node)
    for factor, other in (node.args[::-1], node.args):
        number, rest = factor if isinstance(factor, (int, float)) else _uniform(factor), _value(other)
        if value is None or rest is None or (rest.shape, rest.dtype) != (value.shape, value.dtype):
            continue
        if number == 1:
            _replace(node, other)  # type: ignore[arg-type]
            return
        if number == -1:
            with nodes.inserting_before(node):
                new = nodes.call_function(_aten.neg.default, (other,))
            new.meta = {"val": value}
            _replace(node, new)
            return


def _is_negation(node: Any) -> bool:
    """Whether a node is minus another: log-odds of failure beside those of success, as Bernoulli has them."""
    return isinstance(node, Node) and node.target is _aten.neg.default


def _origin(node: Node) -> Node:
    """The tensor that a node is a mere view of, entry by entry in the same order."""
    while node.op == "call_function" and node.target in RESHAPES:
        value, source = _value(node), _value(node.args[0])
        if value is None or source is None or not source.is_contiguous() or not value.is_contiguous():
            break
        node = node.args[0]  # type: ignore[assignment]
    return node


def _piece(node: Node) -> Piece | None:
    """What part of another tensor a node is, if it is one."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], Node):
        return None
    arguments: tuple[Any, ...] = node.args
    source = arguments[0]
    value = _value(source)
    if str(node.target) == "<built-in function getitem>":
        return _piece_of_split(source, arguments[1])
    if value is None or node.kwargs:
        return None
    if node.target is _aten.select.int:
        dim = arguments[1] % value.dim()
        index = arguments[2] % value.shape[dim]
        return Piece(source, dim, index, index + 1)
    if node.target is _aten.slice.Tensor:
        given = [*arguments[1:], *(0, None, None, 1)[len(arguments) - 1 :]]
        dim, start, stop, step = given[0] % value.dim(), *given[1:]
        if step != 1:
            return None
        start, stop, _ = slice(start, stop).indices(value.shape[dim])
        return Piece(source, dim, start, stop)
    return None


def _piece_of_split(split: Node, index: Any) -> Piece | None:
    if split.target is not _aten.split_with_sizes.default or not isinstance(index, int):
        return None
    arguments: tuple[Any, ...] = split.args
    source, sizes = arguments[0], arguments[1]
    value = _value(source)
    if value is None:
        return None
    dim: Any = arguments[2] if len(arguments) > 2 else split.kwargs.get("dim", 0)
    start = sum(sizes[:index])
    return Piece(source, dim % value.dim(), start, start + sizes[index])


def _simplify_piece(node: Node, piece: Piece) -> None:
    """A part of a join that is one of the joined, or all of a tensor."""
    value, base = _value(node), _value(piece.base)
    if value is None or base is None:
        return
    if value.shape == base.shape and node.target is not _aten.select.int:
        _replace(node, piece.base)
        return
    if piece.base.target is not _aten.cat.default or node.target is _aten.select.int:
        return
    start = 0
    for part in piece.base.args[0]:  # type: ignore[union-attr]
        size = _size(part, piece.dim)
        if (start, start + size) == (piece.start, piece.stop) and _cat_dim(piece.base) == piece.dim:
            _replace(node, part)  # type: ignore[arg-type]
            return
        start += size


def _size(node: Any, dim: int) -> int:
    value = _value(node)
    return -1 if value is None or value.dim() <= dim else value.shape[dim]


def _cat_dim(node: Node) -> int:
    value = _value(node)
    dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return -1 if value is None else int(dim) % value.dim()


def _simplify_cat(nodes: Graph, node: Node) -> Node:
    """Join neighbouring pieces of one tensor, and uniform parts; return what stands for the join."""
    dim, whole = _cat_dim(node), _value(node)
    values = [_value(part) for part in node.args[0]]  # type: ignore[union-attr]
    if whole is None or any(v is None or v.dim() != whole.dim() or v.dtype != whole.dtype for v in values):
        return node
    constant = {_uniform(part) for part in node.args[0]}  # type: ignore[union-attr]
    if len(constant) == 1 and None not in constant:
        (number,) = constant
        full = _full(nodes, node, whole, number)
        _replace(node, full)
        return full
    parts: list[Node | Piece] = []
    for part in node.args[0]:  # type: ignore[union-attr]
        found = _aligned(part, dim)  # type: ignore[arg-type]
        last = parts[-1] if parts else None
        if isinstance(found, Piece) and isinstance(last, Piece) and _follows(last, found):
            parts[-1] = last._replace(stop=found.stop)
        else:
            parts.append(found)
    if len(parts) == len(node.args[0]):  # type: ignore[arg-type]
        return node
    with nodes.inserting_before(node):
        joined = [part if isinstance(part, Node) else _narrow(nodes, part) for part in parts]
        if len(joined) > 1:
            new = nodes.call_function(_aten.cat.default, (joined, dim))
            new.meta = {"val": whole}
            joined = [new]
    _replace(node, joined[0])
    return joined[0]


def _use_earlier(node: Node, joins: list[Node]) -> None:
    """Where neighbouring parts have been joined before, take that."""
    parts: list[Any] = list(node.args[0])  # type: ignore[arg-type]
    for earlier in joins:
        run: list[Any] = list(earlier.args[0])  # type: ignore[arg-type]
        if _cat_dim(earlier) != _cat_dim(node) or _value(earlier) is None or len(run) < 2:
            continue
        for start in range(len(parts) - len(run) + 1):
            if parts[start : start + len(run)] == run and len(parts) > len(run):
                parts[start : start + len(run)] = [earlier]
                node.args = (parts, *node.args[1:])
                break


def _follows(last: Piece, found: Piece) -> bool:
    return (last.base, last.dim, last.stop) == (found.base, found.dim, found.start)


def _aligned(part: Node, dim: int) -> Node | Piece:
    """A part as a piece of another tensor along the same dimension, where it is one."""
    value, source = _value(part), _origin(part)
    piece = _piece(source)
    base = None if piece is None else _value(piece.base)
    if piece is None or base is None or value is None or piece.dim != dim or base.dim() != value.dim():
        return part
    shape = list(base.shape)
    shape[dim] = piece.stop - piece.start
    return piece if shape == list(value.shape) else part


def _narrow(nodes: Graph, piece: Piece) -> Node:
    base = _value(piece.base)
    if base is not None and (piece.start, piece.stop) == (0, base.shape[piece.dim]):
        return piece.base
    new = nodes.call_function(_aten.slice.Tensor, (piece.base, piece.dim, piece.start, piece.stop))
    new.meta = {
        "val": None if base is None else base.narrow(piece.dim, piece.start, piece.stop - piece.start)
    }
    return new


def _uniform(node: Any) -> Any:
    """The number that fills a tensor, or None."""
    sign = 1
    while isinstance(node, Node) and node.op == "call_function":
        if node.target is _aten.full.default and isinstance(node.args[1], (int, float)):
            return sign * node.args[1]
        if node.target is _aten.neg.default:
            sign = -sign
        elif node.target not in _UNIFORM_VIEWS:
            return None
        node = node.args[0]
    return None


def _fill(nodes: Graph, node: Node) -> bool:
    """Write a view of a uniform tensor as one that is filled anew."""
    value = _value(node)
    if value is None or node.target not in (_UNIFORM_VIEWS | {_aten.neg.default}):
        return False
    number = _uniform(node)
    if number is None:
        return False
    _replace(node, _full(nodes, node, value, number))
    return True


def _full(nodes: Graph, node: Node, value: Tensor, number: Any) -> Node:
    options: dict[str, Any] = {"dtype": value.dtype, "device": value.device, "pin_memory": False}
    with nodes.inserting_before(node):
        new = nodes.call_function(_aten.full.default, (list(value.shape), number), options)
    new.meta = {"val": value}
    return new


def _simplify_sum(nodes: Graph, node: Node) -> None:
    """Add joined scalars one by one: a reduction needs them in memory first."""
    source, value = node.args[0], _value(node)
    joined = _value(source)
    if not isinstance(source, Node) or source.target is not _aten.cat.default or value is None:
        return
    parts: list[Node] = source.args[0]  # type: ignore[assignment]
    scalars = all(_size(part, 0) == 1 for part in parts) and len(parts) <= _MOST_TERMS
    if joined is None or joined.dim() != 1 or value.dim() != 0 or not scalars or joined.dtype != value.dtype:
        return
    with nodes.inserting_before(node):
        total: Node | None = None
        for part in parts:
            source = _origin(part)
            shape = _value(source)
            if shape is None or shape.dim():
                source = nodes.call_function(_aten.reshape.default, (part, []))
                source.meta = {"val": value}
            if total is not None:
                source = nodes.call_function(_aten.add.Tensor, (total, source))
                source.meta = {"val": value}
            total = source
    if total is not None:
        _replace(node, total)
