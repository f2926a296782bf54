"""Tables of many short rows, laid out column by column.

A loop along a row of four entries fills no vector. Where columns lie in one piece, loops run along them, and
rows are added up in registers. Inductor lays out what it computes as it finds what it reads, so that it is
enough to lay out products of matrices and data (`ahead`).
"""

from __future__ import annotations

import torch
from torch.fx import Graph, GraphModule, Node

from brancher.staging.rewriting.agenda import value_of

Tensor = torch.Tensor
_aten = torch.ops.aten

#: Rows of so few entries are short; so many of them make a table.
SHORT, MANY = 16, 256


def is_table(node: Node) -> bool:
    """Whether a node is a matrix of numbers with many short rows, one behind the other."""
    value = value_of(node)
    if value is None or value.dim() != 2 or not value.is_floating_point() or not value.is_contiguous():
        return False
    return value.shape[0] >= MANY and 1 < value.shape[1] <= SHORT


def flipped(nodes: Graph, node: Node) -> Node:
    """The transpose of a matrix, as a view."""
    value = node.meta["val"]
    new = nodes.call_function(_aten.permute.default, (node, [1, 0]))
    new.meta["val"] = value.permute(1, 0)
    return new


def by_columns(nodes: Graph, node: Node) -> Node:
    """The transpose of a table, each column in one piece."""
    turned = flipped(nodes, node)
    size = list(turned.meta["val"].shape)
    new = nodes.call_function(torch.ops.prims.inductor_force_stride_order.default, (turned, [size[1], 1]))
    new.meta["val"] = turned.meta["val"].contiguous()
    return new


def turned_back(nodes: Graph, node: Node) -> Node:
    """A table whose transpose is given; marked as one by columns."""
    new = flipped(nodes, node)
    new.meta["by_columns"] = True
    return new


def lay_out_products(graph: GraphModule) -> None:
    """Let products of matrices give tables by columns, and take them so."""
    nodes = graph.graph
    for node in list(nodes.nodes):
        if node.target is not _aten.mm.default or node.kwargs:
            continue
        left, right = node.args
        if is_table(node):
            with nodes.inserting_before(node):
                product = nodes.call_function(_aten.mm.default, (flipped(nodes, right), flipped(nodes, left)))
                product.meta["val"] = node.meta["val"].new_empty(node.meta["val"].shape[::-1])
                new = turned_back(nodes, product)
            node.replace_all_uses_with(new)
            nodes.erase_node(node)
        elif is_table(right) and right.op != "placeholder":
            with nodes.inserting_before(node):
                node.args = (left, turned_back(nodes, by_columns(nodes, right)))
    graph.recompile()


def tables(nodes: Graph) -> set[Node]:
    """What Inductor will lay out by columns: tables computed entry by entry from ones that are."""
    found: set[Node] = set()
    for node in nodes.nodes:
        value = value_of(node)
        shapes = [each.meta["val"].shape for each in node.all_input_nodes if each in found]
        if node.meta.get("by_columns") or (value is not None and value.shape in shapes):
            found.add(node)
    return found
