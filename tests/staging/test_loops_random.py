"""Random recurrences: the graph with its loops gives what the program gives, gradients included."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from brancher.staging.graph import record
from brancher.staging.rewriting.early import shorten
from brancher.staging.rewriting.loops import Loop, LoopCode, forget, loop_of, numbers_of

Tensor = torch.Tensor
pytestmark = pytest.mark.usefixtures("small_graphs_too")

ONE: list[Callable[[Tensor], Tensor]] = [
    torch.tanh,
    torch.sin,
    torch.sigmoid,
    lambda t: 0.7 * t,
    lambda t: t.abs().add(0.5).log(),
    lambda t: torch.where(t > 0, t, 0.2 * t),
    lambda t: t.clamp(-1.0, 1.0),
    lambda t: t.sum().expand(t.shape),
    lambda t: t.detach() * 0.5,
    lambda t: t.double().mul(0.3).to(t.dtype),
]
TWO: list[Callable[[Tensor, Tensor], Tensor]] = [
    torch.add,
    torch.sub,
    lambda a, b: a * b.tanh(),
    torch.maximum,
    lambda a, b: a / (1.0 + b**2),
    lambda a, b: torch.stack([a, b]).mean(0),
    lambda a, b: torch.cat([a.reshape(-1)[:1], b.reshape(-1)[1:]]).reshape(a.shape) if a.dim() else a,
]


def chain_of(seed: int) -> tuple[Callable[..., list[Tensor]], tuple[Tensor, ...], bool]:
    """A program with a recurrence, arguments for it, and whether its turns are all alike."""
    rng = random.Random(seed)
    length = rng.choice([20, 33, 45])
    shape: tuple[int, ...] = rng.choice([(), (3,), (2, 2)])
    lags, states = rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2])
    backwards, draws, last = rng.random() < 0.3, rng.random() < 0.3, rng.random() < 0.3
    odd = rng.choice([None, None, None, 0, 1, length // 2])
    steps: list[Any] = [
        (rng.choice(ONE + TWO), rng.random(), rng.random()) for _ in range(rng.randrange(1, 6))
    ]  # type: ignore[operator]

    def program(x: Tensor, y: Tensor, b: Tensor) -> list[Tensor]:
        history = [[x[i] * (i + 1) for i in range(lags)] for _ in range(states)]
        terms = []
        for turn in range(length):
            t = length - 1 - turn if backwards else turn
            for state in history:
                noise = 0.1 * torch.randn(shape, dtype=x.dtype) if draws else y[t]
                pool = [b.expand(shape), y[t], noise, *(s[-lag - 1] for s in history for lag in range(lags))]
                for step, p, q in steps:
                    some = [pool[int(share * len(pool))] for share in (p, q)]
                    pool.append(step(*some[: 2 if step in TWO else 1]).clamp(-5.0, 5.0))
                new = 0.5 * state[-1] + 0.3 * pool[-1] + 0.1 * state[-lags]
                state.append(new.cos() if turn == odd else new)
            terms.append((history[0][-1] - x[t]) ** 2)
        return [history[0][-1] if last else torch.stack(terms).sum(0), history[-1][-1]]

    generator = torch.Generator().manual_seed(seed)
    dtype = rng.choice([torch.float32, torch.float64])
    x, y = (torch.randn(length, *shape, generator=generator, dtype=dtype) for _ in range(2))
    return program, (x, y, torch.tensor(0.6, dtype=dtype)), odd is None


def with_gradients(program: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    def both(*args: Tensor) -> list[Tensor]:
        leaves = [arg.detach().requires_grad_() for arg in args]
        results = program(*leaves)
        total = sum(
            (result * torch.linspace(0.5, 1.0, result.numel()).reshape(result.shape)).sum()
            for result in results
        )
        grads = torch.autograd.grad(total, leaves, allow_unused=True)  # type: ignore[arg-type]
        return [*(r.detach() for r in results), *(grad for grad in grads if grad is not None)]

    return both


def check(seed: int) -> tuple[int, bool]:
    """Compare; return the most turns of a loop, and whether all turns of the program are alike."""
    program, args, alike = chain_of(seed)
    both = with_gradients(program)
    torch.manual_seed(1)
    expected = both(*args)
    graph = shorten(record(both, args, "p").graph, {0, 1, 2}, lambda loop: LoopCode("loop", "", ""))
    numbers = numbers_of(graph)
    turns = [loop_of(number).turns for number in numbers]
    torch.manual_seed(1)
    for got, want in zip(graph(*args), expected, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    forget(numbers)
    return max(turns, default=0), alike


@pytest.mark.parametrize("seed", range(12))
def test_random_chain(seed: int) -> None:
    turns, alike = check(seed)
    assert turns >= (12 if alike else 8)


def test_random_chains_compiled(
    compiler: str, loops: list[tuple[Loop, LoopCode | None]], agree: Callable[..., None]
) -> None:
    programs = [chain_of(seed)[:2] for seed in (2, 5, 7, 9)]

    def together(*args: Tensor) -> list[Tensor]:
        found, start = [], 0
        for program, given in programs:
            found += with_gradients(program)(*args[start : start + len(given)])
            start += len(given)
        return found

    agree(together, [arg for _, given in programs for arg in given], 1e-4)
    assert sum(code is not None for _, code in loops) >= 4


@pytest.mark.slow
def test_many_random_chains() -> None:
    for seed in range(12, 200):
        check(seed)
