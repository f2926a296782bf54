from __future__ import annotations

import pytest
import torch

from brancher.staging import StagingError, stage_loop, staged_loop

Tensor = torch.Tensor
pytestmark = pytest.mark.usefixtures("compiler")


def _walk(carry: dict[str, Tensor], drift: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    place = carry["place"] + drift + torch.randn(3)
    return {"place": place, "count": carry["count"] + 1}, {"far": place.abs().max(), "at": place}


def _start() -> dict[str, Tensor]:
    return {"place": torch.zeros(3), "count": torch.tensor(0)}


def test_loop_equals_steps_taken_one_by_one() -> None:
    loop = stage_loop(_walk)
    drift = torch.tensor([0.1, 0.2, 0.3])
    torch.manual_seed(0)
    result = loop(_start(), 5, drift)
    torch.manual_seed(0)
    carry, outputs = _start(), []
    for _ in range(5):
        carry, out = _walk(carry, drift)
        outputs.append(out)
    torch.testing.assert_close(result.carry, carry, rtol=1e-6, atol=1e-6)
    stacked = {k: torch.stack([out[k] for out in outputs]) for k in outputs[0]}
    torch.testing.assert_close(result.outputs, stacked, rtol=1e-6, atol=1e-6)
    assert result.steps == 5


def test_loop_and_step_share_one_trace() -> None:
    loop = stage_loop(_walk)
    drift = torch.tensor([0.1, 0.2, 0.3])
    carry, _ = loop.step(_start(), drift)
    loop(carry, 2, drift)
    loop(carry, 7, drift)
    assert (loop.counters.traces, loop.counters.compiles + loop.counters.loads) == (1, 1)


def test_loop_leaves_its_arguments_alone() -> None:
    start = _start()
    stage_loop(_walk)(start, 3, torch.zeros(3))
    assert torch.equal(start["place"], torch.zeros(3))
    assert int(start["count"]) == 0


def test_until_ends_the_loop() -> None:
    loop = stage_loop(lambda n: (n + 1, n), until=lambda carry, outputs: carry >= 4)
    for mode in (True, False):
        loop.staged.mode = mode
        loop.staged._last = None
        result = loop(torch.tensor(0), 100)
        assert result.steps == 4
        assert result.outputs.tolist() == [0, 1, 2, 3]
        assert int(result.carry) == 4


def test_loop_in_python_gives_the_same() -> None:
    drift = torch.tensor([0.1, 0.2, 0.3])
    results = []
    for mode in (True, False):
        torch.manual_seed(3)
        results.append(stage_loop(_walk, mode=mode)(_start(), 4, drift))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)


def test_buffers_changed_in_place_go_round_and_are_written_back() -> None:
    total = torch.zeros(1)

    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        total.add_(x)
        return x + 1, total

    result = stage_loop(step)(torch.ones(1), 3)
    assert result.outputs.flatten().tolist() == [1.0, 3.0, 6.0]
    assert float(total) == 6.0


def test_changed_carry_error() -> None:
    with pytest.raises(StagingError, match=r"expected carried tensor 0 as \(2,\) torch\.float32, got \(1,\)"):
        stage_loop(lambda x: (x[:1], ()), mode=False)(torch.zeros(2), 2)


def test_no_steps_error() -> None:
    with pytest.raises(ValueError, match="expected steps >= 1, got 0"):
        staged_loop(lambda x: (x, ()), torch.zeros(1), 0)
