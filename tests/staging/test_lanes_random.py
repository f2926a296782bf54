"""Random programs with loops: the joined graph gives what the program gives, gradients included."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from brancher.staging.graph import purify, record

Tensor = torch.Tensor
Program = Callable[[Tensor, Tensor, Tensor], list[Tensor]]

ONE = [
    torch.exp,
    torch.tanh,
    torch.sigmoid,
    torch.neg,
    torch.abs,
    lambda t: t * 0.5,
    lambda t: t**2,
    lambda t: t.abs().log1p(),
    lambda t: t.reshape(1, *t.shape).expand(2, *t.shape).sum(0),
    lambda t: t.sum().expand(t.shape),
    lambda t: t.flip(0) if t.dim() else t,
    lambda t: (2.0 * t.double()).float(),
    lambda t: t.detach(),
]
TWO = [
    torch.add,
    torch.sub,
    torch.mul,
    torch.maximum,
    lambda a, b: a / (1.0 + b.abs()),
    lambda a, b: torch.where(a > b, a, b),
]
ENDS: list[Callable[[list[Tensor]], Tensor]] = [
    torch.stack,
    lambda parts: torch.stack(parts).sum(0),
    lambda parts: torch.cat([part.reshape(-1) for part in parts]),
    lambda parts: sum(parts[1:], parts[0]),
    lambda parts: parts[0] - parts[1] + sum(parts[2:], parts[1]),
]


def loop_of(seed: int) -> tuple[Program, tuple[Tensor, Tensor, Tensor]]:
    """A program with a loop over scalars or rows, and arguments for it."""
    rng = random.Random(seed)
    length, is_chain, draws = rng.choice([8, 12, 33, 40]), rng.random() < 0.5, rng.random() < 0.2
    is_scalar, offset, end = rng.random() < 0.5, rng.choice([0, 1, 2]), rng.choice(ENDS)
    turns = list(range(0, length - 2, rng.choice([1, 1, 2])))[:: rng.choice([1, 1, -1])]
    steps: list[Any] = [
        (rng.choice(ONE + TWO), rng.random(), rng.random()) for _ in range(rng.randrange(3, 9))
    ]

    def program(x: Tensor, rows: Tensor, z: Tensor) -> list[Tensor]:
        source = x if is_scalar else rows
        state, parts = source[0], []
        for i in turns:
            first = source[i] + 0.1 * torch.randn(source[i].shape) if draws else source[i]
            pool = [first, source[i + offset], z.expand(first.shape), state]
            for step, p, q in steps:
                some = [pool[int(share * len(pool))] for share in (p, q)]
                pool.append(step(*some[: 2 if step in TWO else 1]).clamp(-5.0, 5.0))
            parts.append(pool[-1].cos() if i == 3 else pool[-1])
            state = 0.5 * state + 0.1 * pool[-1] if is_chain else state
        return [end(parts)]

    generator = torch.Generator().manual_seed(seed)
    shapes: list[tuple[int, ...]] = [(length,), (length, 4), ()]
    x, rows, z = (torch.randn(shape, generator=generator) for shape in shapes)
    return program, (x, rows, z)


def with_gradients(program: Program) -> Program:
    def both(*args: Tensor) -> list[Tensor]:
        leaves = [arg.detach().requires_grad_() for arg in args]
        (result,) = program(*leaves)
        if not result.requires_grad:
            return [result]
        weights = torch.linspace(0.5, 1.0, result.numel()).reshape(result.shape)
        grads = torch.autograd.grad((result * weights).sum(), leaves, allow_unused=True)
        return [result.detach(), *(grad for grad in grads if grad is not None)]

    return both


def check(seed: int) -> None:
    program, args = loop_of(seed)
    both = with_gradients(program)
    torch.manual_seed(1)
    expected = both(*args)
    graph = purify(record(both, args, "program"), list(args)).graph
    torch.manual_seed(1)
    for got, want in zip(graph(*args), expected, strict=False):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("seed", range(5))
def test_random_loop(seed: int) -> None:
    check(seed)


@pytest.mark.slow
def test_many_random_loops() -> None:
    for seed in range(5, 150):
        check(seed)
