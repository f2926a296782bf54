"""Handlers are local to their thread, task and generator, and nothing leaks."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch

from brancher import distributions as dist
from brancher import handlers, plate, sample
from brancher.handlers import stack


def draw(name="x"):
    return sample(name, dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyError, KeyboardInterrupt, SystemExit])
def test_exception_in_a_plate_leaves_a_clean_stack(kind):
    def failing():
        with plate("p", 3):
            draw()
            raise kind("boom")

    with pytest.raises(kind):
        handlers.trace(handlers.scale(failing, scale=2.0)).get_trace()
    assert stack.current() == ()
    with plate("q", 2):
        assert draw().shape == (2,)


def test_threads_do_not_see_each_others_handlers():
    seen = {}

    def other():
        seen["stack"] = stack.current()

    with handlers.trace(), plate("p", 3):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen["stack"] == ()


def test_two_threads_trace_at_once():
    traces, barrier = {}, threading.Barrier(2)

    def model(tag):
        for i in range(50):
            barrier.wait()
            draw(f"{tag}_{i}")

    def work(tag):
        traces[tag] = handlers.trace(model).get_trace(tag)

    threads = [threading.Thread(target=work, args=(tag,)) for tag in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert traces["a"].stochastic_nodes == [f"a_{i}" for i in range(50)]
    assert traces["b"].stochastic_nodes == [f"b_{i}" for i in range(50)]


def test_interleaved_tasks_keep_their_own_handlers():
    async def work(tag):
        with handlers.trace() as recorder, plate(f"plate_{tag}", 2):
            for i in range(5):
                draw(f"{tag}_{i}")
                await asyncio.sleep(0)
        return recorder.trace

    async def both():
        return await asyncio.gather(work("a"), work("b"))

    first, second = asyncio.run(both())
    assert first.stochastic_nodes == [f"a_{i}" for i in range(5)]
    assert second.stochastic_nodes == [f"b_{i}" for i in range(5)]
    assert second.nodes["b_0"]["frames"][0].dim == -1


def test_abandoned_generator_takes_its_handler_along():
    def generator():
        with handlers.scale(scale=5.0):
            yield 1

    running = generator()
    next(running)
    with plate("p", 2):
        del running
        assert draw().shape == (2,)
        assert len(stack.current()) == 1
    assert stack.current() == ()


def test_broken_off_plate_loop_closes_its_plate():
    for _ in plate("p", 3):
        break
    assert stack.current() == ()


def test_shared_handler_object_in_two_threads():
    recorder, results, barrier = handlers.trace(draw), {}, threading.Barrier(2)

    def work(tag):
        barrier.wait()
        results[tag] = recorder.get_trace(tag)

    threads = [threading.Thread(target=work, args=(tag,)) for tag in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results["a"].stochastic_nodes == ["a"] and results["b"].stochastic_nodes == ["b"]


def test_log_prob_is_computed_once():
    calls = []

    class Counting(dist.Normal):
        def log_prob(self, value):
            calls.append(1)
            return super().log_prob(value)

    trace = handlers.trace(lambda: sample("x", Counting(0.0, 1.0))).get_trace()
    trace.log_prob_sum()
    trace.compute_log_prob()
    assert len(calls) == 1 and torch.isfinite(trace.nodes["x"]["log_prob_sum"])
