"""The layers that ARCHITECTURE.md draws, held by reading every import of the package."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import brancher

PACKAGE = Path(brancher.__file__).parent

# Each part may import itself and the rows above it.
LAYERS = (
    ("errors",),
    ("moved",),
    ("absent", "frames", "staging"),
    ("distributions",),
    ("params",),
    ("handlers",),
    ("poutine",),
    ("primitives",),
    ("nn", "optim"),
    ("infer",),
    ("ops", "pyro_names", "render"),
    ("symbolic",),
    ("plots", "decorators"),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
MAX_LINES = 400


class Import(NamedTuple):
    source: str
    target: str
    line: int
    on_load: bool  # runs when the module is loaded: neither in a function nor for type checkers only

    def __str__(self) -> str:
        return f"{self.source} line {self.line} imports {self.target}"


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(node: ast.AST, on_load: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    for child in ast.iter_child_nodes(node):
        inner = on_load and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.stmt):
            yield child, on_load
        yield from statements(child, inner and not is_for_type_checkers(child))


def imports_of(module: str) -> Iterator[Import]:
    for node, on_load in statements(ast.parse(FILES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from folder import name` loads the submodule `name` where there is one.
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else str(node.module) for name in below]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "brancher":
                yield Import(module, name, node.lineno, on_load)


IMPORTS = [entry for module in FILES for entry in imports_of(module)]


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return one circle of the graph, or an empty list."""
    done: set[str] = set()

    def walk(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        for after in sorted(edges.get(node, ())):
            if found := walk(after, [*trail, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(edges) if (found := walk(node, []))), [])


def test_imports_are_read() -> None:
    assert len(FILES) > 3
    assert any(entry.target == "brancher.errors" for entry in IMPORTS)


def test_every_part_has_a_layer() -> None:
    assert {part(module) for module in FILES} - {""} <= set(RANK)


def test_imports_go_down_only() -> None:
    upward = [
        str(entry)
        for entry in IMPORTS
        if part(entry.source) and part(entry.target) and part(entry.source) != part(entry.target)
        if RANK[part(entry.source)] <= RANK[part(entry.target)]
    ]
    assert not upward, "\n".join(upward)


def test_nothing_inside_imports_the_root() -> None:
    from_root = [str(entry) for entry in IMPORTS if entry.target == "brancher" and entry.source != "brancher"]
    assert not from_root, "\n".join(from_root)


def test_modules_import_in_no_circle() -> None:
    edges: dict[str, set[str]] = {}
    for entry in IMPORTS:
        if entry.on_load:
            edges.setdefault(entry.source, set()).add(entry.target)
    assert circle(edges) == []


def test_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize("module", sorted(FILES))
def test_file_is_short(module: str) -> None:
    lines = FILES[module].read_text("utf-8").count("\n")
    assert lines < MAX_LINES


@pytest.mark.parametrize("module", sorted(FILES))
def test_errors_do_not_hang_on_assert(module: str) -> None:
    tree = ast.parse(FILES[module].read_text("utf-8"))
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


def test_public_names_exist_and_are_documented() -> None:
    for name in brancher.__all__:
        assert inspect.getdoc(getattr(brancher, name)), name
