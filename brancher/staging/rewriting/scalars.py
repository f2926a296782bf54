"""Single numbers that loops read: computed beforehand, where Inductor would compute them in every turn."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from brancher.staging.rewriting.agenda import value_of

_aten = torch.ops.aten

_library = torch.library.Library("brancher", "FRAGMENT")
_library.define("kept(Tensor number) -> Tensor")
_library.impl("kept", torch.clone, "CompositeExplicitAutograd")
torch.library.register_fake("brancher::kept", torch.empty_like, lib=_library)
#: Gives what it is given, from memory (`inductor`).
KEPT = torch.ops.brancher.kept.default

#: Operations that take longer than reading their result.
_COSTLY = frozenset(
    [
        "exp",
        "exp2",
        "expm1",
        "log",
        "log1p",
        "log2",
        "pow",
        "sqrt",
        "rsqrt",
        "sigmoid",
        "tanh",
        "sin",
        "cos",
        "tan",
        "erf",
        "erfc",
        "lgamma",
        "digamma",
        "div",
        "reciprocal",
        "softplus",
    ]
)
#: A loop over fewer entries has one turn.
_FEWEST = 17


def compute_beforehand(graph: GraphModule) -> None:
    """Keep single numbers in memory that take long to compute and are read by loops."""
    nodes = graph.graph
    costly: dict[Node, None] = {}
    for node in list(nodes.nodes):
        value = value_of(node)
        if node.op != "call_function" or value is None or value.numel() != 1 or not value.is_floating_point():
            continue
        if torch.Tag.pointwise not in getattr(node.target, "tags", ()):
            continue
        if getattr(node.target, "_opname", "") in _COSTLY or any(
            each in costly for each in node.all_input_nodes
        ):
            costly[node] = None
    for node in costly:
        readers = [user for user in node.users if _is_loop(user)]
        if not readers:
            continue
        with nodes.inserting_after(node):
            kept = nodes.call_function(KEPT, (node,))
        kept.meta["val"] = node.meta["val"]
        for user in readers:
            user.replace_input_with(node, kept)
    graph.recompile()


def _is_loop(node: Node) -> bool:
    value = value_of(node)
    return value is not None and value.numel() >= _FEWEST
