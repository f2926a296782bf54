"""What a step computes from its data alone is computed once a call, and gives what it gave without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from brancher.staging import compiled as compiling
from brancher.staging import stage_loop

Tensor = torch.Tensor
ROWS = 400


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What was cut off, graph by graph; nothing is on the disk yet."""
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    seen = []
    split = compiling.split

    def watched(*args: Any) -> Any:
        seen.append(split(*args))
        return seen[-1]

    monkeypatch.setattr(compiling, "split", watched)
    return seen


def descent(state: Tensor, counts: Tensor) -> tuple[tuple[()], Tensor]:
    """Write a step of a descent into its state, and return the loss."""
    loss = (torch.lgamma(counts + 1.0) + (counts - state[0]) ** 2).mean()
    slope = 2.0 * (state[0] - counts).mean()
    state[0] -= 0.1 * slope
    return (), loss


def eager_losses(state: Tensor, counts: Tensor, steps: int) -> Tensor:
    return torch.stack([descent(state, counts)[1] for _ in range(steps)])


def test_part_of_data_alone_is_computed_once(cuts: list[Any]) -> None:
    loop = stage_loop(lambda _, state, counts: descent(state, counts))
    state, expected, counts = torch.zeros(2), torch.zeros(2), torch.arange(float(ROWS))
    losses = loop((), 5, state, counts).outputs
    assert torch.allclose(losses, eager_losses(expected, counts, 5))
    assert torch.allclose(state, expected)
    assert cuts[0].reads == [1] and cuts[0].results == 1


def test_changed_data_is_seen_by_the_next_call(cuts: list[Any]) -> None:
    loop = stage_loop(lambda _, state, counts: descent(state, counts))
    state, expected, counts = torch.zeros(2), torch.zeros(2), torch.arange(float(ROWS))
    loop((), 2, state, counts)
    eager_losses(expected, counts, 2)
    counts += 7.0
    losses = loop((), 3, state, counts).outputs
    assert torch.allclose(losses, eager_losses(expected, counts, 3))
    counts.mul_(2.0)
    _, single = loop.step((), state, counts)
    assert torch.allclose(single, eager_losses(expected, counts, 1)[0])
    assert cuts[0] is not None and loop.counters.compiles + loop.counters.loads == 1


def test_part_of_a_carried_tensor_is_computed_at_every_step(cuts: list[Any]) -> None:
    def step(carry: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state += 1.0
        return carry + 1.0, torch.lgamma(carry).sum() + state[0]

    state, carry = torch.zeros(2), torch.linspace(1.0, 2.0, ROWS)
    found = stage_loop(step)(carry, 3, state).outputs
    expected = torch.stack([torch.lgamma(carry + k).sum() + k + 1.0 for k in range(3)])
    assert torch.allclose(found, expected)
    assert cuts[0].reads == [0]


def test_part_of_a_written_tensor_stays_in_the_step(cuts: list[Any]) -> None:
    def step(carry: tuple[()], state: Tensor) -> tuple[tuple[()], Tensor]:
        loss = torch.lgamma(state).sum()
        state += 1.0
        return (), loss

    state = torch.linspace(1.0, 2.0, ROWS)
    expected = torch.stack([torch.lgamma(state + k).sum() for k in range(3)])
    assert torch.allclose(stage_loop(step)((), 3, state).outputs, expected)
    assert cuts == [None]


def test_part_of_memory_that_is_written_elsewhere_stays_in_the_step(cuts: list[Any]) -> None:
    def step(carry: tuple[()], state: Tensor, view: Tensor) -> tuple[tuple[()], Tensor]:
        loss = torch.lgamma(view).sum()
        state += 1.0
        return (), loss

    whole = torch.linspace(1.0, 2.0, ROWS)
    _, loss = stage_loop(step).step((), whole, whole[:300])
    assert torch.allclose(loss, torch.lgamma(whole[:300] - 1.0).sum())
    assert cuts == [None]


def test_draws_stay_in_the_step(cuts: list[Any]) -> None:
    def step(carry: tuple[()], state: Tensor, counts: Tensor) -> tuple[tuple[()], Tensor]:
        state += 1.0
        return (), (torch.randn(ROWS) * torch.lgamma(counts + 1.0)).sum()

    state, counts = torch.zeros(2), torch.arange(float(ROWS))
    torch.manual_seed(3)
    found = stage_loop(step)((), 3, state, counts).outputs
    torch.manual_seed(3)
    expected = torch.stack([(torch.randn(ROWS) * torch.lgamma(counts + 1.0)).sum() for _ in range(3)])
    assert torch.allclose(found, expected, rtol=1e-4)
    assert cuts[0].reads == [1]


def test_little_work_and_numbers_of_the_graph_stay_in_the_step(cuts: list[Any]) -> None:
    def step(carry: tuple[()], state: Tensor, few: Tensor) -> tuple[tuple[()], Tensor]:
        state += 1.0
        return (), few.exp().sum() + torch.full((ROWS,), 2.0).exp().sum() + state[0]

    found = stage_loop(step)((), 1, torch.zeros(2), torch.zeros(4)).outputs
    assert torch.allclose(found, torch.tensor([4.0 + ROWS * 7.3890561 + 1.0]))
    assert cuts == [None]


@pytest.mark.parametrize("columns", [2, 5, 16])
def test_parts_with_views_and_several_results_equal_eager(cuts: list[Any], columns: int) -> None:
    def step(carry: tuple[()], state: Tensor, x: Tensor) -> tuple[tuple[()], Tensor]:
        logs = (x + 1.0).log()
        centred = logs - logs.mean(0)
        loss = (centred[:, 0] * state[0] + centred[:, 1:].sum(1)).exp().sum()
        loss = loss + (logs.t() @ x).sum() * state[1] + (x * state[:1]).sum()
        state -= 0.01
        return (), loss

    x = torch.rand(ROWS, columns, generator=torch.Generator().manual_seed(0))
    state, expected = torch.full((2,), 0.3), torch.full((2,), 0.3)
    found = stage_loop(step)((), 3, state, x).outputs
    assert torch.allclose(found, torch.stack([step((), expected, x)[1] for _ in range(3)]), rtol=1e-4)
    assert cuts[0].reads == [1]
