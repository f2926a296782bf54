"""What Inductor is given in place of its own rules."""

from __future__ import annotations

import pytest
import torch
from torch.fx import GraphModule

from brancher.staging import stage
from brancher.staging.graph import purify, record

Tensor = torch.Tensor
_aten = torch.ops.aten


def product_and_slope(matrix: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    vector = vector.detach().requires_grad_()
    product = (matrix @ vector.exp()).tanh()
    return product.detach(), torch.autograd.grad(product.sum(), vector)[0]


def products(matrix: Tensor, vector: Tensor) -> int:
    graph: GraphModule = purify(record(product_and_slope, (matrix, vector), "f"), [matrix, vector]).graph
    return sum(node.target is _aten.mm.default for node in graph.graph.nodes)


@pytest.mark.parametrize(
    ("shape", "rows_lie_together", "calls"),
    [
        ((1000, 10), True, 0),
        ((4096, 32), True, 2),
        ((4096, 32), False, 0),
        ((1000, 200), True, 0),
        ((20_000, 8), True, 0),
        ((2048, 2048), True, 2),
        ((2048, 2048), False, 2),
    ],
)
def test_library_is_called_where_it_is_faster(
    shape: tuple[int, int], rows_lie_together: bool, calls: int
) -> None:
    matrix = torch.randn(shape) if rows_lie_together else torch.randn(shape[::-1]).t()
    assert products(matrix, torch.randn(shape[1])) == calls


@pytest.mark.parametrize("shape", [(4096, 32), (300, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_right(shape: tuple[int, int], dtype: torch.dtype, transposed: bool) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape[::-1], dtype=dtype).t() if transposed else torch.randn(shape, dtype=dtype)
    vector = 0.1 * torch.randn(shape[1], dtype=dtype)
    staged = stage(product_and_slope, name="f")
    for got, exact in zip(staged(matrix, vector), product_and_slope(matrix, vector), strict=True):
        # Sums of up to 4096 terms, in another order.
        torch.testing.assert_close(got, exact, rtol=2e-5, atol=2e-4 if dtype == torch.float32 else 1e-12)
    assert staged.counters.compiles + staged.counters.loads == 1


def picked(table: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    table = table.detach().requires_grad_()
    chosen = table.log_softmax(-1).gather(-1, index)
    return chosen.detach(), torch.autograd.grad(chosen.sin().sum(), table)[0]


@pytest.mark.parametrize(("count", "scattered"), [(1, 0), (3, 1)])
def test_one_entry_in_a_row_is_added_by_comparison(count: int, scattered: int) -> None:
    torch.manual_seed(0)
    table, index = torch.randn(40, 7), torch.randint(7, (40, count))
    graph = purify(record(picked, (table, index), "f"), [table, index]).graph
    targets = [node.target for node in graph.graph.nodes]
    assert targets.count(_aten.scatter_add.default) == scattered
    staged = stage(picked, name="f")
    for got, exact in zip(staged(table, index), picked(table, index), strict=True):
        torch.testing.assert_close(got, exact)


def test_entries_that_are_added_to_less_than_all_rows() -> None:
    base, index, source = torch.randn(5, 4), torch.randint(4, (3, 1)), torch.randn(3, 1)
    staged = stage(lambda b, i, s: b.scatter_add(1, i, s), name="f")
    torch.testing.assert_close(staged(base, index, source), base.scatter_add(1, index, source))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 2e-14)])
def test_digamma_equals_eager(dtype: torch.dtype, tolerance: float) -> None:
    # Around poles the slope is the square of the value: a rounding of 1 - x is seen there.
    special = [0.0, -0.0, 1.0, 2.0, 10.0, -1.0, -2.0, torch.inf, -torch.inf, torch.nan, 1e38, 4.9999995]
    parts = [
        torch.logspace(-30, 30, 200),
        torch.linspace(0.01, 30.0, 1000),
        torch.linspace(1.4, 1.52, 100),  # about the root
        -torch.linspace(0.01, 10.3, 497),
        torch.tensor(special),
    ]
    x = torch.cat(parts).to(dtype)
    found, expected = stage(torch.digamma, name="f")(x), torch.digamma(x)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    zeros = slice(-12, -10)
    assert found[zeros].tolist() == [-torch.inf, torch.inf]
