"""Single numbers are computed once beside the loops that read them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.fx import GraphModule

from brancher.staging.graph import purify, record
from brancher.staging.rewriting.scalars import KEPT, compute_beforehand

Tensor = torch.Tensor


def scaled(x: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Entries beside a power, and a number that no loop reads."""
    rate = 1.0 - 0.9 ** number.double()
    return x / rate.to(x.dtype) + number.exp() * x.sin(), number.exp()


def of_one_entry(x: Tensor, number: Tensor) -> tuple[Tensor, ...]:
    """Numbers of shape (1,), and one expanded."""
    scale = number.reshape(1).exp()
    return (x * scale + scale.log().expand(len(x)),)


def cheap(x: Tensor, number: Tensor) -> tuple[Tensor, ...]:
    """A number that a loop computes as fast as it reads it."""
    return (x * (number + 1.0),)


def kept(function: Callable[..., object], *args: Tensor) -> int:
    graph: GraphModule = purify(record(function, args, "f"), list(args)).graph
    compute_beforehand(graph)
    return sum(node.target is KEPT for node in graph.graph.nodes)


@pytest.mark.parametrize(("function", "count"), [(scaled, 2), (of_one_entry, 2), (cheap, 0)])
def test_costly_numbers_are_kept_for_loops(function: Callable[..., object], count: int) -> None:
    assert kept(function, torch.linspace(0.0, 1.0, 100), torch.tensor(3.0)) == count
    assert kept(function, torch.linspace(0.0, 1.0, 16), torch.tensor(3.0)) == 0


@pytest.mark.parametrize("function", [scaled, of_one_entry, cheap])
def test_kept_numbers_equal_eager(
    agree: Callable[..., None], function: Callable[..., tuple[Tensor, ...]]
) -> None:
    agree(function, [torch.linspace(0.0, 1.0, 100), torch.tensor(3.0)], 1e-6)
