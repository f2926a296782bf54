"""Tables of short rows by columns: which are, and that what is computed from them is the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.fx import GraphModule

from brancher.staging import stage
from brancher.staging.graph import purify, record
from brancher.staging.rewriting.columns import lay_out_products, tables

Tensor = torch.Tensor
_aten = torch.ops.aten


def loss_and_slopes(x: Tensor, weights: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax regression."""
    weights = weights.detach().requires_grad_()
    loss = (x @ weights).log_softmax(-1).gather(-1, index).sum()
    return loss.detach(), torch.autograd.grad(loss, weights)[0]


def reshaped(x: Tensor, weights: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Views that need rows in one piece."""
    product = x @ weights
    flat = product.reshape(-1)[: index.numel()]
    return flat.cumsum(0), (product.t() @ x).exp().flatten()


def changed_in_place(x: Tensor, weights: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """A product that is written to through a view."""
    product = x @ weights
    product.view(-1)[: index.numel()] += 1.0
    return product.sum(-1), (x.t() @ product.cos())[:, 0]


def rows_and_columns(x: Tensor, weights: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Results that are tables themselves."""
    product = x @ weights
    return product, product.softmax(-1)


@pytest.mark.parametrize("function", [loss_and_slopes, reshaped, changed_in_place, rows_and_columns])
@pytest.mark.parametrize(("rows", "columns"), [(300, 4), (1000, 16), (256, 2), (300, 1), (10, 4), (300, 40)])
def test_products_equal_eager(
    agree: Callable[..., None],
    function: Callable[..., tuple[Tensor, ...]],
    rows: int,
    columns: int,
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    weights = 0.3 * torch.randn(6, columns, generator=generator, dtype=torch.float64)
    index = torch.randint(columns, (rows, 1), generator=generator)
    agree(function, [x, weights, index], 1e-10)


@pytest.mark.parametrize(
    ("rows", "columns", "laid"), [(300, 4, True), (10, 4, False), (300, 1, False), (300, 17, False)]
)
def test_products_with_many_short_rows_are_laid_out_by_columns(rows: int, columns: int, laid: bool) -> None:
    x, weights = torch.randn(rows, 6), torch.randn(6, columns)
    index = torch.randint(columns, (rows, 1))
    graph: GraphModule = purify(record(loss_and_slopes, (x, weights, index), "f"), [x, weights, index]).graph
    lay_out_products(graph)
    products = [node for node in graph.graph.nodes if node.target is _aten.mm.default]
    shapes = [tuple(node.meta["val"].shape) for node in products]
    assert shapes == [(columns, rows) if laid else (rows, columns), (6, columns)]
    assert bool(tables(graph.graph)) == laid


def test_picking_from_short_rows_compares_places(agree: Callable[..., None]) -> None:
    def function(table: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        return (table.gather(-1, index),)

    table = torch.randn(300, 5)
    table[:, 2] = -torch.inf
    table[0, 1] = torch.nan
    index = torch.arange(300).remainder(4).unsqueeze(-1)  # never the place of the nan
    index[0] = 3
    graph = purify(record(function, (table, index), "f"), [table, index]).graph
    assert not [node for node in graph.graph.nodes if node.target is _aten.gather.default]
    agree(function, [table, index], 0.0)


def test_picking_from_no_place_gives_nan() -> None:
    staged = stage(lambda table, index: table.gather(-1, index), name="f")
    assert staged(torch.zeros(3, 2), torch.tensor([[0], [2], [-1]])).isnan().flatten().tolist() == [
        False,
        True,
        True,
    ]


def test_picking_from_long_rows_stays(agree: Callable[..., None]) -> None:
    def function(table: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        return (table.gather(-1, index),)

    table, index = torch.randn(30, 50), torch.randint(50, (30, 1))
    graph = purify(record(function, (table, index), "f"), [table, index]).graph
    assert [node for node in graph.graph.nodes if node.target is _aten.gather.default]
    agree(function, [table, index], 0.0)
