"""Loops whose turns wait for each other: one operation, with the values of the loop that was unrolled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from brancher.staging.graph import record
from brancher.staging.rewriting.early import shorten
from brancher.staging.rewriting.loops import Loop, LoopCode, forget, loop_of, numbers_of

Tensor = torch.Tensor
Program = Callable[..., Any]
_aten = torch.ops.aten
T = 40
pytestmark = pytest.mark.usefixtures("small_graphs_too")


def shortened(function: Program, *args: Tensor) -> torch.fx.GraphModule:
    """The graph with its loops, to be run in Python."""
    traced = record(function, args, "f")
    assert not traced.captured
    return shorten(traced.graph, set(range(len(args))), lambda loop: LoopCode("loop", "", ""))


def gradients(function: Program) -> Program:
    """A function with its gradients."""

    def both(*args: Tensor) -> list[Tensor]:
        leaves = [a.detach().requires_grad_(a.is_floating_point()) for a in args]
        value = function(*leaves)
        weights = torch.linspace(0.5, 1.0, value.numel(), dtype=value.dtype).reshape(value.shape)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        grads = torch.autograd.grad((value * weights).sum(), wanted, allow_unused=True)
        return [value.detach(), *(grad for grad in grads if grad is not None)]

    return both


def turns_of(graph: torch.fx.GraphModule) -> list[int]:
    return [loop_of(number).turns for number in numbers_of(graph)]


def check(function: Program, *args: Tensor, least: int = T - 8) -> torch.fx.GraphModule:
    """Compare, and look for a loop of most turns."""
    before = [arg.clone() for arg in args]
    torch.manual_seed(0)
    result = function(*args)
    expected = result if isinstance(result, list) else [result]
    graph = shortened(function, *before)
    turns = turns_of(graph)
    torch.manual_seed(0)
    for got, want in zip(graph(*before), expected, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        torch.testing.assert_close(got, want, rtol=2e-5, atol=1e-5)
    forget(numbers_of(graph))
    assert max(turns, default=0) >= least, turns
    return graph


def series(dtype: torch.dtype = torch.float32, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(T, *shape, generator=generator, dtype=dtype)
    y = torch.randn(T, *shape, generator=generator, dtype=dtype)
    return x, y, torch.tensor(0.6, dtype=dtype)


def first_order(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    state, terms = x[0], []
    for t in range(1, T):
        before, state = state, b * state + x[t]
        terms.append((y[t] - state) ** 2 + (state - before).cos())
    return torch.stack(terms).sum(0)


def second_order(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    states = [x[0], x[1]]
    for t in range(2, T):
        states.append(b * states[-1] - 0.3 * states[-2] + x[t])
    return torch.stack([(s - y[t]) ** 2 for t, s in enumerate(states)]).sum(0)


def garch(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    variance, total = torch.ones_like(x[0]), 0.0
    for t in range(1, T):
        variance = 0.1 + b * variance + 0.2 * x[t - 1] ** 2
        total = total - 0.5 * x[t] ** 2 / variance - 0.5 * variance.log()
    return total


def euler(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    state = torch.stack([x[0], y[0]])
    for _ in range(T):
        slope = torch.stack([state[1], -b * state[0].sin() - 0.1 * state[1]])
        state = state + 0.05 * slope
    return state


def noisy_euler(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    state = x[0]
    for _ in range(T):
        state = state + 0.1 * b * (1.0 - state) + 0.2 * torch.randn(state.shape, dtype=state.dtype)
    return state


def clamped(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    """Comparisons, whose results are no floats."""
    state = x[0]
    for t in range(1, T):
        state = torch.where(state > y[t], b * state, state + x[t]).clamp(-2.0, 2.0).relu()
    return state


def two_chains(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    """One chain on top of another."""
    low, high = x[0], y[0]
    for t in range(1, T):
        low = b * low + x[t]
        high = high.tanh() + low * y[t]
    return high


def matrices(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    """A vector of states, moved by a matrix."""
    turn = torch.stack([torch.stack([b, -0.2 * b]), torch.stack([0.2 + 0.0 * b, b])])
    state, total = torch.stack([x[0], y[0]]), 0.0
    for t in range(1, T):
        state = turn @ state * b + torch.stack([x[t], y[t]])
        total = total + (state**2).sum()
    return total


def gaps(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    """Some moments are seen, others are not."""
    state, total = x[0], 0.0
    for t in range(1, T):
        state = b * state + x[t]
        if t not in (7, 8, 21):
            total = total - (y[t] - state) ** 2
    return total


def mixed(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    """States of two dtypes."""
    state, wide = x[0], y[0].double()
    for t in range(1, T):
        wide = 0.5 * wide + state.double()
        state = b * state + x[t] + 0.1 * wide.to(x.dtype)
    return wide.to(x.dtype) + state


SCALARS = [
    first_order, second_order, garch, euler, noisy_euler, clamped, two_chains, mixed,
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("function", SCALARS, ids=lambda f: f.__name__)
def test_chain_of_scalars(function: Program, dtype: torch.dtype) -> None:
    check(function, *series(dtype))
    check(gradients(function), *series(dtype))


@pytest.mark.parametrize("function", SCALARS, ids=lambda f: f.__name__)
def test_chain_within_particles(function: Program) -> None:
    check(gradients(function), *series(torch.float32, 7))


def test_matrix_moves_a_state() -> None:
    check(matrices, *series())
    check(gradients(matrices), *series())


def test_gaps_end_a_loop_and_begin_another() -> None:
    graph = check(gradients(gaps), *series(), least=12)
    assert sum(node.target is _aten.mul.Tensor for node in graph.graph.nodes) < 40


def test_shortening_draws_nothing() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    shortened(noisy_euler, *series())
    shortened(noisy_euler, *series(torch.float32, 20))
    assert torch.equal(before, torch.get_rng_state())


def test_short_loops_stay_as_they_are() -> None:
    def short(x: Tensor) -> Tensor:
        state = x[0]
        for t in range(1, 6):
            state = state.tanh() + x[t]
        return state

    assert not turns_of(shortened(short, torch.rand(6)))


def test_turns_that_differ_stay_as_they_are() -> None:
    def different(x: Tensor) -> Tensor:
        state = x[0]
        for t in range(1, T):
            state = [torch.tanh, torch.sin, torch.cos, torch.neg, torch.exp][t * t * t % 5](state) + t * x[t]
        return state

    check(lambda x: [different(x)], torch.rand(T) / T, least=0)
    assert not turns_of(shortened(different, torch.rand(T)))


def test_loop_that_reads_what_comes_later_is_right() -> None:
    """Turn t reads the state of turn t // 2: alike in kind, not in place."""

    def irregular(x: Tensor) -> list[Tensor]:
        states = [x[0]]
        for t in range(1, T):
            states.append(0.5 * states[t // 2] + x[t].tanh())
        return [torch.stack(states)]

    check(irregular, torch.rand(T), least=0)


def test_inputs_written_in_the_loop_stay_as_they_are() -> None:
    def fill(x: Tensor, into: Tensor) -> Tensor:
        for t in range(1, T):
            into[t] = 0.5 * into[t - 1] + x[t]
        return into.sum()

    traced = record(fill, (torch.rand(T), torch.zeros(T)), "fill")
    assert shorten(traced.graph, {0, 1}, lambda loop: LoopCode("loop", "", "")) is traced.graph


def test_inputs_written_at_the_end_are_written() -> None:
    def update(x: Tensor, state: Tensor) -> Tensor:
        new = state
        for t in range(T):
            new = 0.5 * new + x[t]
        state.copy_(new)
        return (new**2).sum()

    x, state, expected = torch.rand(T, 3), torch.ones(3), torch.ones(3)
    graph = shortened(update, x, state.clone())
    (got,) = graph(x, state)
    torch.testing.assert_close(got, update(x, expected))
    torch.testing.assert_close(state, expected)
    assert max(turns_of(graph)) > T - 4
    # Two inputs in one memory: what is written to one would be read from the other.
    traced = record(update, (x, state), "update")
    assert shorten(traced.graph, {0}, lambda loop: LoopCode("loop", "", "")) is traced.graph


def test_refused_loop_stays_unrolled() -> None:
    x, y, b = series()
    traced = record(first_order, (x, y, b), "f")
    graph = shorten(traced.graph, {0, 1, 2}, lambda loop: None)
    assert not numbers_of(graph)
    torch.testing.assert_close(graph(x, y, b)[0], first_order(x, y, b))


def test_loop_reads_tensors_from_outside() -> None:
    rates, b = torch.linspace(0.1, 0.9, T), torch.tensor(0.5)

    def outside(x: Tensor) -> Tensor:
        state = x[0]
        for t in range(1, T):
            state = rates[t] * state + b * x[t] + torch.tensor([0.5, 0.25]).sum()
        return state

    x = torch.rand(T)
    traced = record(outside, (x,), "outside")
    graph = shorten(traced.graph, set(range(1 + len(traced.captured))), lambda loop: LoopCode("loop", "", ""))
    assert max(turns_of(graph)) >= T - 8
    torch.testing.assert_close(graph(x, *traced.captured)[0], outside(x))


def test_only_the_last_state_takes_no_room_for_the_others() -> None:
    def last(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
        state = x[0]
        for t in range(1, T):
            state = b * state + x[t]
        return state

    graph = shortened(last, *series())
    assert [loop_of(number).entries for number in numbers_of(graph)] == [2]


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(torch.float32, ()), (torch.float64, (3,)), (torch.float32, (40,))],
    ids=["scalars", "rows of three", "particles"],
)
def test_every_chain_compiled(
    dtype: torch.dtype,
    shape: tuple[int, ...],
    compiler: str,
    loops: list[tuple[Loop, LoopCode | None]],
    agree: Callable[..., None],
) -> None:
    functions = [*SCALARS, gaps, *([] if shape else [matrices])]

    def together(*args: Tensor) -> list[Tensor]:
        return [value for function in functions for value in gradients(function)(*args)]

    agree(together, list(series(dtype, *shape)), 2e-5)
    assert sum(loop.turns > 30 for loop, _ in loops) >= 12
    assert all(code is not None for _, code in loops)
