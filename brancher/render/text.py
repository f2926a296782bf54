"""A model's graph in the languages of graphviz and mermaid."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brancher.render.graph import ModelGraph, Node

_DOT_STYLE = {
    "latent": "shape=ellipse",
    "observed": 'shape=ellipse, style=filled, fillcolor="#d0d0d0"',
    "deterministic": "shape=ellipse, style=dashed",
    "factor": 'shape=box, style=filled, fillcolor="#d0d0d0", width=0.3, height=0.3',
    "param": "shape=plain",
}
_MERMAID_SHAPE = {
    "latent": ('(["', '"])'),
    "observed": ('(["', '"])'),
    "deterministic": ('(["', '"])'),
    "factor": ('["', '"]'),
    "param": ('["', '"]'),
}
_MERMAID_STYLE = {
    "latent": "fill:#ffffff,stroke:#333333,color:#000000",
    "observed": "fill:#d0d0d0,stroke:#333333,color:#000000",
    "deterministic": "fill:#ffffff,stroke:#333333,stroke-dasharray:4,color:#000000",
    "factor": "fill:#d0d0d0,stroke:#333333,color:#000000",
    "param": "fill:none,stroke:none",
}


@dataclass
class Box:
    """A plate with what is inside; the outermost one stands for the whole picture."""

    plate: str = ""
    nodes: list[Node] = field(default_factory=list)
    boxes: dict[str, Box] = field(default_factory=dict)


def boxes_of(graph: ModelGraph) -> Box:
    """Nest the plates: the one with more sites outside.

    Plates that cross can not be drawn as nested boxes; one of them is drawn twice then.
    """
    members = Counter(plate for node in graph.nodes.values() for plate in node.plates)
    order = {plate: (-members[plate], i) for i, plate in enumerate(graph.plates)}
    root = Box()
    for node in graph.nodes.values():
        box = root
        for plate in sorted(node.plates, key=order.__getitem__):
            box = box.boxes.setdefault(plate, Box(plate))
        box.nodes.append(node)
    return root


def to_dot(graph: ModelGraph) -> str:
    """Write a graph in graphviz' language."""
    lines = ["digraph {", "  node [fontname=Helvetica]", "  graph [fontname=Helvetica, fontsize=11]"]
    counter = iter(range(len(graph.nodes) * (len(graph.plates) + 1)))

    def write(box: Box, indent: str) -> None:
        for node in box.nodes:
            label = _label(graph, node, "\\n")
            lines.append(f'{indent}"{_quoted(node.name)}" [label="{label}", {_DOT_STYLE[node.kind]}]')
        for inner in box.boxes.values():
            lines.append(f'{indent}subgraph "cluster_{next(counter)}" {{')
            lines.append(f'{indent}  label="{_quoted(graph.plates[inner.plate])}"; labeljust=r; labelloc=b')
            lines.append(f'{indent}  style=rounded; color="#808080"')
            write(inner, indent + "  ")
            lines.append(f"{indent}}}")

    write(boxes_of(graph), "  ")
    lines += [f'  "{_quoted(parent)}" -> "{_quoted(child)}"' for parent, child in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def to_mermaid(graph: ModelGraph) -> str:
    """Write a graph as a mermaid flowchart."""
    lines = ["flowchart TD"]
    ids = {name: f"n{i}" for i, name in enumerate(graph.nodes)}
    counter = iter(range(len(graph.nodes) * (len(graph.plates) + 1)))

    def write(box: Box, indent: str) -> None:
        for node in box.nodes:
            left, right = _MERMAID_SHAPE[node.kind]
            label = _label(graph, node, "<br/>").replace('\\"', "#quot;")
            lines.append(f"{indent}{ids[node.name]}{left}{label}{right}:::{node.kind}")
        for inner in box.boxes.values():
            label = graph.plates[inner.plate].replace('"', "#quot;")
            lines.append(f'{indent}subgraph p{next(counter)}["{label}"]')
            write(inner, indent + "  ")
            lines.append(f"{indent}end")

    write(boxes_of(graph), "  ")
    lines += [f"  {ids[parent]} --> {ids[child]}" for parent, child in graph.edges]
    kinds = dict.fromkeys(node.kind for node in graph.nodes.values())
    lines += [f"  classDef {kind} {_MERMAID_STYLE[kind]}" for kind in kinds]
    return "\n".join(lines) + "\n"


def _label(graph: ModelGraph, node: Node, line_break: str) -> str:
    name = _quoted(node.name)
    return f"{name}{line_break}~ {node.family}" if graph.show_families and node.family else name


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
