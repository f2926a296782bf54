"""What a step computes from its data alone: logarithms of counts, say, are the same at every step.

A graph that writes into its inputs is a step that is taken many times. What costs something and depends on no
input that is written is cut off as a graph of its own, to be run once before many steps (`native`). It is run
again with every call, so that data may change in between.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.fx import Graph, GraphModule, Node

from brancher.staging import backend
from brancher.staging.graph import Pure, unshared
from brancher.staging.rewriting.agenda import REDUCTIONS, has_effect, value_of
from brancher.staging.rewriting.columns import by_columns, is_table, turned_back
from brancher.staging.rewriting.loops import DRAWS, LOOP

Tensor = torch.Tensor
_aten = torch.ops.aten

#: Fewer entries of costly operations than this do not repay two graphs.
FEWEST = 256
#: Larger tables of data stay as they are: single steps would copy them every time.
LARGEST = 1 << 17

_VIEWS = {
    operator.getitem,
    *(_aten.reshape.default, _aten.view.default, _aten._unsafe_view.default, _aten.unsqueeze.default),
    *(
        _aten.squeeze.dim,
        _aten.squeeze.dims,
        _aten.expand.default,
        _aten.permute.default,
        _aten.alias.default,
    ),
    *(_aten.select.int, _aten.slice.Tensor, _aten.split_with_sizes.default),
}
_MAKERS = {_aten.full.default, _aten.scalar_tensor.default, _aten.arange.default, _aten.arange.start_step}
#: Operations that cost no more than reading their result would.
_CHEAP = (
    _VIEWS
    | _MAKERS
    | {
        *(_aten.add.Tensor, _aten.add.Scalar, _aten.sub.Tensor, _aten.sub.Scalar, _aten.rsub.Scalar),
        *(_aten.mul.Tensor, _aten.mul.Scalar, _aten.neg.default, _aten.abs.default, _aten.addcmul.default),
        *(_aten.where.self, _aten.clone.default, _aten.cat.default, _aten.copy.default, _aten.clamp.default),
        *(_aten.clamp_min.default, _aten.clamp_max.default, _aten.minimum.default, _aten.maximum.default),
        *(
            _aten.eq.Tensor,
            _aten.ne.Tensor,
            _aten.lt.Tensor,
            _aten.le.Tensor,
            _aten.gt.Tensor,
            _aten.ge.Tensor,
        ),
        *(
            _aten.eq.Scalar,
            _aten.ne.Scalar,
            _aten.lt.Scalar,
            _aten.le.Scalar,
            _aten.gt.Scalar,
            _aten.ge.Scalar,
        ),
        *(_aten.logical_and.default, _aten.logical_or.default, _aten.logical_not.default),
        *(_aten.bitwise_and.Tensor, _aten.bitwise_or.Tensor, _aten.bitwise_not.default),
        *(_aten._to_copy.default, torch.ops.prims.convert_element_type.default),
        *(_aten.isnan.default, _aten.isinf.default, _aten.floor.default),
    }
)


class Ahead(NamedTuple):
    """The part of a step that is computed before it; see `split`.

    Attributes:
        graph: its results are the last inputs of what is left of the step.
        fakes: stand-ins of its inputs.
        reads: which inputs of the step those are.
        inputs: how many inputs the step has.
        results: how many results there are.
    """

    graph: GraphModule
    fakes: list[Tensor]
    reads: list[int]
    inputs: int
    results: int


def split(pure: Pure, tensors: Sequence[Tensor]) -> Ahead | None:
    """Cut off what a step computes from its data alone; None where that is too little.

    Args:
        pure: the step, which is changed: it gets the results as further inputs.
        tensors: its inputs.
    """
    nodes = pure.graph.graph
    inputs = [node for node in nodes.nodes if node.op == "placeholder"]
    written = {node.args[0] for node in nodes.nodes if node.target is _aten.copy_.default}
    if not written & set(inputs):
        return None
    alone = unshared(tensors)
    given = [node for i, node in enumerate(inputs) if i in alone and node not in written]
    fixed = _fixed(nodes, given)
    ends = {_whole(node): None for node in fixed if not all(user in fixed for user in node.users)}
    behind = {node: _behind(node) for node in ends}
    costs = {node: _cost(node) for node in fixed}
    results = [node for node in ends if sum(costs.get(each, 0) for each in behind[node]) >= FEWEST]
    for node in given:
        if is_table(node) and node.meta["val"].numel() <= LARGEST and any(map(_is_entrywise, node.users)):
            results.append(node)
            behind[node] = {node}
    if not results:
        return None
    needed = {each for node in results for each in behind[node]}
    reads = [i for i, node in enumerate(inputs) if node in needed]
    graph = backend.empty_like(pure.graph)
    copies: dict[Node, Node] = {}
    for node in nodes.nodes:
        if node in needed:
            copies[node] = graph.graph.node_copy(node, copies.__getitem__)
    made = [by_columns(graph.graph, copies[node]) if is_table(node) else copies[node] for node in results]
    graph.graph.output(made)
    output = next(iter(reversed(graph.graph.nodes)))
    output.meta["user_visible_output_idxs"] = list(range(len(results)))
    graph.recompile()
    _take(nodes, inputs[-1], results, pure.fakes)
    pure.graph.recompile()
    return Ahead(graph, [pure.fakes[i] for i in reads], reads, len(inputs), len(results))


def _take(nodes: Graph, last: Node, results: list[Node], fakes: list[Tensor]) -> None:
    """Let further inputs stand for nodes."""
    for number, node in enumerate(results):
        value = node.meta["val"]
        with nodes.inserting_after(last):
            last = nodes.placeholder(f"ahead_{number}")
        new = last
        if is_table(node):
            last.meta["val"] = value.t().contiguous()
            with nodes.inserting_after(last):
                new = turned_back(nodes, last)
        else:
            last.meta["val"] = value
        users = [user for user in node.users if node.op != "placeholder" or _is_entrywise(user)]
        for user in users:
            user.replace_input_with(node, new)
        fakes.append(last.meta["val"])
    nodes.eliminate_dead_code()


def _is_entrywise(node: Node) -> bool:
    """Whether a loop reads the tensors that a node is given."""
    return torch.Tag.pointwise in getattr(node.target, "tags", ()) or node.target in REDUCTIONS


def _fixed(nodes: Graph, given: list[Node]) -> dict[Node, None]:
    """What depends on given inputs, and on nothing else but numbers of the graph, in its order."""
    found = dict.fromkeys(given)
    numbers: set[Node] = set()
    for node in nodes.nodes:
        if node.op != "call_function" or has_effect(node) or node.target in (LOOP, DRAWS):
            continue
        sources = node.all_input_nodes
        if node.target in _MAKERS or (sources and all(each in numbers for each in sources)):
            numbers.add(node)
        elif sources and all(each in found or each in numbers for each in sources):
            found[node] = None
    return found


def _cost(node: Node) -> int:
    """Entries that a costly operation computes or reads."""
    # Inductor's own operations are known by name: they are registered with it.
    if node.op != "call_function" or node.target in _CHEAP or "force_stride_order" in str(node.target):
        return 0
    values: list[Any] = [value_of(each) for each in (node, *node.all_input_nodes)]
    return max((value.numel() for value in values if value is not None), default=0)


def _whole(node: Node) -> Node:
    """What a node is a view of, up to an input."""
    while node.target in _VIEWS:
        source = node.all_input_nodes[0]
        if source.target is _aten.split_with_sizes.default:
            source = source.all_input_nodes[0]
        if source.op == "placeholder" or value_of(source) is None:
            break
        node = source
    return node


def _behind(node: Node) -> set[Node]:
    """A node and all that it is computed from."""
    found, pending = {node}, [node]
    while pending:
        for source in pending.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                pending.append(source)
    return found
