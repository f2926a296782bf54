"""A recorded graph that hardly mutates, written without mutations, so that loops can be joined at once.

Torch's own way to remove mutations records the whole graph again; a loop of a thousand moments is better made
small before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from brancher.staging import backend
from brancher.staging.rewriting.agenda import MANY_PARTS, has_effect
from brancher.staging.rewriting.draws import draw_together
from brancher.staging.rewriting.lanes import join_lanes
from brancher.staging.rewriting.loops import Loop, LoopCode, forget, numbers_of
from brancher.staging.rewriting.periods import PLACE
from brancher.staging.rewriting.roll import roll
from brancher.staging.rewriting.simplify import merge_equal
from brancher.staging.rewriting.standins import Shared

Tensor = torch.Tensor
_aten = torch.ops.aten

#: Smaller graphs stay as they are.
FEWEST_NODES = 500
#: A graph that still has so many operations is tried again, with fewer of them joined: what is joined within
#: one turn parts it from the next.
MOST_NODES = 1500
FEWEST_JOINED = (8, 64)

_FILLED = {_aten.ones_like.default: 1, _aten.zeros_like.default: 0}


def shorten(
    recorded: GraphModule, own: set[int], compile_loop: Callable[[Loop], LoopCode | None]
) -> GraphModule:
    """Return a recorded graph with its loops joined and rolled; itself where none wait for each other.

    So it does where the graph mutates more than its inputs at its end.

    Args:
        recorded: it stays as it is.
        own: positions of inputs whose memory no other input shares.
        compile_loop: gives a loop's code, or None where it has to stay unrolled.
    """
    if len(recorded.graph.nodes) < FEWEST_NODES:
        return recorded
    best = recorded
    for fewest in FEWEST_JOINED:
        graph = backend.empty_like(recorded)
        graph.graph.output(graph.graph.graph_copy(recorded.graph, {}))
        if not settle(graph, own):
            return recorded
        found = _shorten(graph, fewest, compile_loop)
        if found and len(graph.graph.nodes) < len(best.graph.nodes):
            forget(numbers_of(best))
            best = graph
        else:
            forget(numbers_of(graph))
        if len(graph.graph.nodes) - len(graph.graph.find_nodes(op="placeholder")) < MOST_NODES:
            break
    return best


def _shorten(graph: GraphModule, fewest: int, compile_loop: Callable[[Loop], LoopCode | None]) -> bool:
    """Join and roll, where at least so many operations are alike; false where no draws and no turns were."""
    for place, node in enumerate(graph.graph.nodes):
        node.meta[PLACE] = place
    infer = Shared()
    infer.settle(graph.graph)
    merge_equal(graph.graph)
    found = draw_together(graph, compile_loop, infer)
    join_lanes(graph, infer, fewest)
    while roll(graph, compile_loop, infer) or roll(graph, compile_loop, infer, draws_apart=False):
        found = True
        join_lanes(graph, infer, fewest)
    graph.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or has_effect(node))
    graph.recompile()
    return found


def settle(graph: GraphModule, own: set[int]) -> bool:
    """Write a recorded graph without mutations but copies into inputs at its end; false where it has others.

    Operations on a tensor that nothing else knows (draws fill an empty one) become such that give a new one.

    Args:
        graph: to be written anew, in place.
        own: positions of inputs whose memory no other input shares.
    """
    nodes = list(graph.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    if any(node.op == "get_attr" for node in nodes) or not backend.stand_in_for_all(inputs):
        return False
    mine = {inputs[i] for i in own}
    writes = [node for node in nodes if node.op == "call_function" and _mutates(node)]
    copies = [node for node in writes if node.target is _aten.copy_.default]
    if not all(node.args[0] in mine and not node.users for node in copies) or _reads_after(nodes, copies):
        return False
    changes = [(node, _functional(node)) for node in writes if node not in copies]
    if any(target is None for _, target in changes):
        return False
    for node, target in changes:
        node.target = target
    output = nodes[-1]
    for node in copies:
        output.prepend(node)
    _read_rows(graph.graph)
    for node in nodes:
        if node.op == "call_function" and (new := _plainly(graph.graph, node)) is not node:
            node.replace_all_uses_with(new)
            graph.graph.erase_node(node)
    return True


def _read_rows(graph: Graph) -> None:
    """Let what reads single columns of a tensor read rows of it: rows lie in one piece."""
    columns: dict[tuple[Node, int], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.target is _aten.select.int and (dim := node.args[1] % node.args[0].meta["val"].dim()):
            columns[node.args[0], dim].append(node)
    for (source, dim), nodes in columns.items():
        if len(nodes) < MANY_PARTS:
            continue
        value = source.meta["val"]
        order = [dim, *(other for other in range(value.dim()) if other != dim)]
        with graph.inserting_after(source):
            moved = graph.call_function(_aten.permute.default, (source, order))
        with graph.inserting_after(moved):
            rows = graph.call_function(
                _aten.clone.default, (moved,), {"memory_format": torch.contiguous_format}
            )
        moved.meta["val"] = value.permute(order)
        rows.meta["val"] = value.new_empty([value.shape[each] for each in order])
        for node in nodes:
            node.args = (rows, 0, node.args[2])


def _plainly(graph: Graph, node: Node) -> Node:
    """An operation by the name that joining knows it by."""
    target, arguments = node.target, node.args
    value: Any = node.meta.get("val")
    if target in (_aten.detach.default, _aten.alias.default):
        return arguments[0]  # type: ignore[return-value]
    if target is _aten.select.int and arguments[0].meta["val"].stride(arguments[1]) == 0:  # type: ignore[union-attr]
        node.args = (*arguments[:2], 0)  # every row of what is expanded is the same
        return node
    with graph.inserting_before(node):
        if target in _FILLED and len(arguments) == 1:
            options: Any = {"dtype": value.dtype, "device": value.device, "pin_memory": False}
            new = graph.call_function(_aten.full.default, (list(value.shape), _FILLED[target]), options)
        elif target is _aten.stack.default:
            parts: Any = arguments[0]
            dim: Any = arguments[1] if len(arguments) > 1 else 0
            dim %= value.dim()
            rows = []
            for part in parts:
                rows.append(graph.call_function(_aten.unsqueeze.default, (part, dim)))
                rows[-1].meta["val"] = part.meta["val"].unsqueeze(dim)
            new = graph.call_function(_aten.cat.default, (rows, dim))
        else:
            return node
    new.meta = {**node.meta}
    return new


def _mutates(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _reads_after(nodes: list[Node], copies: list[Node]) -> bool:
    """Whether anything reads an input after it was written, by whatever name."""
    written: set[Node] = set()
    copied = set(copies)
    roots: dict[Node, Node] = {}
    for node in nodes:
        if written and any(roots[source] in written for source in node.all_input_nodes):
            return True
        roots[node] = _root(node, roots)
        if node in copied:
            written.add(node.args[0])  # type: ignore[arg-type]
    return False


def _root(node: Node, roots: dict[Node, Node]) -> Node:
    """The node whose memory a node shares; itself where the memory is its own."""
    sources = node.all_input_nodes
    if not sources or (getattr(node.target, "_schema", None) is not None and not _is_view(node)):
        return node
    return roots[sources[0]]


def _functional(node: Node) -> Any:
    """The operation that gives what this one writes, where it writes into a tensor of its own; else None."""
    target: Any = node.target
    name, source = target._schema.name.split("::")[1], node.args[0] if node.args else None
    if not name.endswith("_") or not isinstance(source, Node) or node.kwargs.get("out") is not None:
        return None
    is_own = source.op == "call_function" and len(source.users) == 1 and not _is_view(source)
    if not is_own or len(target._schema.returns) != 1:
        return None
    if any(
        value.dtype != node.meta["val"].dtype
        for value in map(_value, node.all_input_nodes)
        if value is not None
    ):
        return None
    packet = getattr(_aten, "normal_functional" if name == "normal_" else name[:-1], None)
    for overload in (target._overloadname, "default", "p"):
        found = getattr(packet, overload, None)
        if found is not None and _takes_the_same(found, target):
            return found
    return None


def _takes_the_same(found: Any, target: Any) -> bool:
    mine, other = ([(a.name, str(a.type)) for a in each._schema.arguments] for each in (found, target))
    return mine == other and not found._schema.is_mutable


def _value(node: Node) -> Tensor | None:
    value = node.meta.get("val")
    return value if isinstance(value, Tensor) else None


def _is_view(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is None or any(argument.alias_info is not None for argument in schema.arguments)
