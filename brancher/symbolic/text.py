"""How expressions are written: as Python and as mathematics.

Written without recursion, and cut short: a long chain must be shown too, and a shared part that
stands in many places would otherwise be written again at each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from brancher.symbolic.expressions import Constant, Expression, Given, Item, Operation, Product

_STRENGTH = {"==": 0, "!=": 0, "<": 0, "<=": 0, ">": 0, ">=": 0, "|": 1, "^": 2, "&": 3}
_STRENGTH |= {"+": 4, "-": 4, "*": 5, "/": 5, "//": 5, "%": 5, "@": 5, "neg": 6, "~": 6, "**": 7}
_ATOM = 9
_MOST_NODES = 60
_SIGNS = {
    "*": r" \, ",
    "<=": r" \le ",
    ">=": r" \ge ",
    "!=": r" \ne ",
    "==": " = ",
    "@": r" \, ",
    "%": r" \bmod ",
}
_GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "phi",
    "chi",
    "psi",
    "omega",
]

#: A piece of text and how strongly it binds.
Piece = tuple[str, int]
Writer = Callable[[Expression, list[Piece]], Piece]


def plain(expression: Expression) -> str:
    """An expression as Python would have it."""
    return _written(expression, _plain_node)


def latex(expression: Expression) -> str:
    """An expression as a formula."""
    return _written(expression, _latex_node)


def is_leaf(node: Expression) -> bool:
    """Whether a node is written by its name."""
    return hasattr(node, "name") or isinstance(node, (Constant, Given))


def _written(root: Expression, write: Writer) -> str:
    done: dict[int, Piece] = {}
    budget = _MOST_NODES
    todo = [root]
    while todo:
        node = todo[-1]
        operands = [] if is_leaf(node) else [p for p in node.parents if id(p) not in done]
        if operands and budget > 0:
            budget -= len(operands)
            todo.extend(reversed(operands))
            continue
        todo.pop()
        pieces = [done.get(id(p), ("...", _ATOM)) for p in node.parents]
        text, strength = write(node, pieces)
        done[id(node)] = (text if len(text) < 2000 else "...", strength)
    return done[id(root)][0]


def _plain_node(node: Expression, parents: list[Piece]) -> Piece:
    if is_leaf(node):
        return _leaf(node)
    if isinstance(node, Operation):
        pieces, symbol = _operands(node, parents), node.symbol
        if symbol == "abs":
            return f"abs({pieces[0][0]})", _ATOM
        if len(pieces) == 1:
            return f"{'-' if symbol == 'neg' else symbol}{_in(pieces[0], 6)}", 6
        return _binary(symbol, pieces)
    if isinstance(node, Product):
        return _binary("@", parents)
    if isinstance(node, Item):
        return f"{_in(parents[0], _ATOM)}[{_key(node, parents[1:])}]", _ATOM
    return f"{getattr(node, 'label', type(node).__name__)}({', '.join(text for text, _ in parents)})", _ATOM


def _binary(symbol: str, pieces: list[Piece]) -> Piece:
    strength = _STRENGTH[symbol]
    power = symbol == "**"
    left, right = _in(pieces[0], strength + power), _in(pieces[1], strength + (not power))
    return f"{left}{symbol if power else f' {symbol} '}{right}", strength


def _latex_node(node: Expression, parents: list[Piece]) -> Piece:
    if is_leaf(node):
        text, strength = _leaf(node)
        return (latex_name(text), strength) if hasattr(node, "name") else (text, strength)
    if isinstance(node, Operation):
        return _latex_operation(node.symbol, _operands(node, parents))
    if isinstance(node, Product):
        return f"{_in(parents[0], 5)} \\, {_in(parents[1], 6)}", 5
    if isinstance(node, Item):
        return f"{{{_in(parents[0], _ATOM)}}}_{{{_key(node, parents[1:])}}}", _ATOM
    name = getattr(node, "label", type(node).__name__)
    if name == "exp":
        return f"e^{{{parents[0][0]}}}", 7
    if name == "sqrt":
        return f"\\sqrt{{{parents[0][0]}}}", _ATOM
    shown = (
        f"\\{name}" if name in ("sin", "cos", "tan", "log", "tanh", "max", "min") else f"\\mathrm{{{name}}}"
    )
    return f"{shown}\\left({', '.join(text for text, _ in parents)}\\right)", _ATOM


def _latex_operation(symbol: str, pieces: list[Piece]) -> Piece:
    if symbol == "abs":
        return f"\\left|{pieces[0][0]}\\right|", _ATOM
    if len(pieces) == 1:
        return f"{'-' if symbol == 'neg' else symbol}{_in(pieces[0], 6)}", 6
    left, right = pieces
    if symbol == "/":
        return f"\\frac{{{left[0]}}}{{{right[0]}}}", 8
    if symbol == "**":
        return f"{{{_in(left, 8)}}}^{{{right[0]}}}", 7
    strength = _STRENGTH[symbol]
    return f"{_in(left, strength)}{_SIGNS.get(symbol, f' {symbol} ')}{_in(right, strength + 1)}", strength


def latex_name(name: str) -> str:
    """A name as a symbol: Greek letters by their names, what follows a letter or ``_`` as an index."""
    head, _, tail = name.partition("_")
    stem = head.rstrip("0123456789")
    index = ",".join(part for part in (head[len(stem) :], tail.replace("_", r"\_")) if part)
    if stem.lower() in _GREEK:
        shown = f"\\{stem}"
    else:
        shown = stem if len(stem) == 1 else f"\\mathrm{{{stem}}}"
    return f"{shown}_{{{index}}}" if index else shown


def _leaf(node: Any) -> Piece:
    if hasattr(node, "name"):
        return str(node.name), _ATOM
    if isinstance(node, Given):
        return node.label, _ATOM
    return number(node.shown), _ATOM if not str(node.shown).startswith("-") else 6


def number(value: Any) -> str:
    """A number or small array as text; a large array by its shape."""
    if not isinstance(value, torch.Tensor):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if value.numel() <= 6 and not value.is_meta:
        return _nested(value.tolist())
    return f"array{list(value.shape)}"


def _nested(value: Any) -> str:
    return f"[{', '.join(map(_nested, value))}]" if isinstance(value, list) else number(value)


def _operands(node: Operation, parents: list[Piece]) -> list[Piece]:
    rest = iter(parents)
    return [
        next(rest) if isinstance(o, Expression) else (number(o), _ATOM if o >= 0 else 6)
        for o in node.operands
    ]


def _in(piece: Piece, strength: int) -> str:
    return piece[0] if piece[1] >= strength else f"({piece[0]})"


def _key(node: Item, parents: list[Piece]) -> str:
    rest = iter(parents)
    keys = node.key if isinstance(node.key, tuple) else (node.key,)
    return ", ".join(next(rest)[0] if isinstance(k, Expression) else _index(k) for k in keys)


def _index(key: Any) -> str:
    if not isinstance(key, slice):
        return "..." if key is Ellipsis else repr(key)
    ends = ["" if end is None else str(end) for end in (key.start, key.stop)]
    return ":".join(ends) + (f":{key.step}" if key.step is not None else "")
