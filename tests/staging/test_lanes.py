"""Loops that were unrolled: fewer operations, the same values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from brancher.staging.graph import purify, record

Tensor = torch.Tensor
_aten = torch.ops.aten
N = 40


def graph_of(function: Callable[..., object], *args: Tensor) -> torch.fx.GraphModule:
    return purify(record(function, args, "f"), list(args)).graph


def run(function: Callable[..., object], *args: Tensor) -> list[Tensor]:
    torch.manual_seed(0)
    return list(graph_of(function, *args)(*args))


def expected(function: Callable[..., object], *args: Tensor) -> list[Tensor]:
    torch.manual_seed(0)
    result = function(*args)
    return list(result) if isinstance(result, (tuple, list)) else [result]


def count(function: Callable[..., object], *args: Tensor, target: object = None) -> int:
    nodes = graph_of(function, *args).graph.nodes
    return sum(node.op == "call_function" and target in (None, node.target) for node in nodes)


def scalars(x: Tensor, y: Tensor) -> Tensor:
    """Log-densities of separate scalars, each with its own mean and spread."""
    total = x.new_zeros(())
    for i in range(N):
        total = total - 0.5 * ((y[i] - x[i]) / y[i].exp()) ** 2 - y[i].exp().log()
    return total


def gradients(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    x = x.detach().requires_grad_()
    y = y.detach().requires_grad_()
    return torch.autograd.grad(scalars(x, y), [x, y])


def chain(x: Tensor, y: Tensor) -> Tensor:
    """A state that goes on from moment to moment, and terms that hang off it."""
    state, terms = x[0], []
    for i in range(N):
        terms.append((y[i] - state) ** 2 / (1.0 + x[i] ** 2))
        state = 0.9 * state + y[i].tanh()
    return torch.stack(terms).sum()


def chain_gradient(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    return torch.autograd.grad(chain(x, y), [x, y])


def rows(x: Tensor, y: Tensor) -> Tensor:
    """Reductions, views and broadcasting inside the loop."""
    outer = x[:, None] * y[None, :5]
    parts = [outer[i].view(1, 5).expand(3, 5) for i in range(N)]
    scaled = [(part * y[i]).permute(1, 0).sum(0) + part.amax(-1) for i, part in enumerate(parts)]
    return torch.cat(scaled)


def vectors(x: Tensor, y: Tensor) -> Tensor:
    """Vectors longer than a few entries."""
    wide = x[:, None] + torch.linspace(0.0, 1.0, 100)
    return torch.stack([(wide[i] * y[i]).exp().mean() + wide[i, 3:7].sum() for i in range(N)])


def backwards(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x[N - 1 - i] * y[i] for i in range(N)])


def every_third(x: Tensor, y: Tensor) -> Tensor:
    doubled = [2.0 * x[i] for i in range(N)]
    return torch.stack([doubled[i] + y[i] for i in range(0, N, 3)] + [doubled[5], doubled[5]])


def draws(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x[i] + y[i].exp() * torch.randn(()) for i in range(N)])


def dtypes(x: Tensor, y: Tensor) -> Tensor:
    double = y.double()
    return torch.stack([x[i] * double[i] + (x[i] > 0).to(torch.int64) for i in range(N)])


def branches(x: Tensor, y: Tensor) -> Tensor:
    """Two interleaved kinds of terms, and one that is different."""
    terms = [torch.where(x[i] > 0, x[i].log1p(), y[i]) if i % 2 else x[i] - y[i].sigmoid() for i in range(N)]
    return torch.stack([*terms, x[0].cos()]).cumsum(0)


LOOPS = [
    scalars, gradients, chain, chain_gradient, rows, vectors, backwards, every_third, draws, dtypes, branches,
]  # fmt: skip


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(N, generator=generator) + 0.1, torch.randn(N, generator=generator)


@pytest.mark.parametrize("function", LOOPS, ids=lambda f: f.__name__)
def test_loop_gives_what_it_gave(function: Callable[..., object]) -> None:
    args = inputs()
    for got, want in zip(run(function, *args), expected(function, *args), strict=True):
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "function", [scalars, gradients, rows, vectors, backwards, every_third, dtypes], ids=lambda f: f.__name__
)
def test_independent_terms_become_few_operations(function: Callable[..., object]) -> None:
    assert count(function, *inputs()) < 60


def test_chain_keeps_its_own_operations_alone() -> None:
    # Two a moment are needed for the state; those of the terms are done at once.
    assert count(chain, *inputs(), target=_aten.tanh.default) == 1
    assert count(chain, *inputs(), target=_aten.pow.Tensor_Scalar) <= 3
    assert count(chain, *inputs(), target=_aten.mul.Tensor) >= N - 1


def test_draws_stay_single_and_in_order() -> None:
    assert count(draws, *inputs(), target=_aten.randn.default) == N
    assert count(draws, *inputs(), target=_aten.exp.default) == 1


def test_short_loops_stay_as_they_are() -> None:
    def short(x: Tensor) -> Tensor:
        return torch.stack([x[i].exp() for i in range(5)])

    assert count(short, torch.rand(5), target=_aten.exp.default) == 5


def test_buffers_written_in_a_loop() -> None:
    def fill(x: Tensor, into: Tensor) -> Tensor:
        for i in range(N):
            into[i] = x[i].exp() + i
        return into.sum()

    x, into = torch.rand(N), torch.zeros(N)
    traced = record(fill, (x, into), "fill")
    pure = purify(traced, [x, into])
    results = pure.graph(x, into)
    want = torch.zeros(N)
    total = fill(x, want)
    torch.testing.assert_close(results[0], total)
    torch.testing.assert_close(results[pure.writes[0][0]], want)


def test_tensors_too_large_to_stack_stay_single() -> None:
    def wide(x: Tensor) -> Tensor:
        return torch.stack([(x * i).exp().sum() for i in range(N)])

    assert count(wide, torch.zeros(100_000), target=_aten.exp.default) == N
