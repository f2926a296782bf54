"""Leaving runs early, going through all executions, and sharing values between sites."""

from __future__ import annotations

from queue import LifoQueue

import pytest
import torch

from brancher import distributions as dist
from brancher import handlers, param, sample
from brancher.errors import HandlerError, HandlerTypeError
from brancher.handlers import stack


def coins():
    x = sample("x", dist.Bernoulli(0.3))
    return x, sample("y", dist.Bernoulli(torch.tensor([0.2, 0.9])[x.long()]))


def test_escape_carries_the_site_and_leaves_a_clean_stack():
    with pytest.raises(handlers.NonlocalExit) as caught:
        handlers.escape(coins, escape_fn=lambda site: site["name"] == "y")()
    assert caught.value.site.name == "y"
    assert stack.current() == ()


def test_escape_takes_the_sites_of_a_run_that_ended_out_of_the_traces_around():
    def tried_twice():
        try:
            return handlers.escape(coins, escape_fn=lambda site: site["name"] == "y")()
        except handlers.NonlocalExit as exit:
            exit.reset_stack()
            return coins()

    record = handlers.trace(tried_twice).get_trace()
    assert record.stochastic_nodes == ["x", "y"] and "_INPUT" in record

    def hidden():
        sample("before", dist.Normal(0.0, 1.0))
        with handlers.block():
            return tried_twice()

    assert handlers.trace(hidden).get_trace().stochastic_nodes == ["before"]


def test_escape_without_function_error():
    with pytest.raises(HandlerTypeError, match="escape_fn"):
        handlers.escape(coins)


def all_runs(fn, **options):
    todo = LifoQueue()
    todo.put(handlers.Trace())
    recorder = handlers.trace(handlers.queue(fn, queue=todo, **options))
    runs = []
    while not todo.empty():
        runs.append(recorder.get_trace())
    return runs


def test_queue_goes_through_all_executions_whose_probabilities_sum_to_one():
    runs = all_runs(coins)
    values = {tuple(float(v) for v in run.nodes["_RETURN"].value) for run in runs}
    assert values == {(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)}
    assert torch.isclose(sum(run.log_prob_sum().exp() for run in runs), torch.tensor(1.0))


def test_queue_follows_a_branch_that_depends_on_a_draw():
    def branching():
        return sample("y", dist.Bernoulli(0.5)) if sample("x", dist.Bernoulli(0.5)) else None

    assert sorted(len(run.stochastic_nodes) for run in all_runs(branching)) == [1, 2, 2]


def test_queue_too_many_tries_error():
    with pytest.raises(HandlerError, match="max_tries=1"):
        all_runs(coins, max_tries=1)


def pair():
    return sample("a", dist.Normal(0.0, 1.0)), sample("b", dist.Normal(5.0, 1.0))


def test_equalize_gives_later_sites_the_first_value_at_no_density():
    trace = handlers.trace(handlers.equalize(pair, "[ab]")).get_trace()
    a, b = trace.nodes["_RETURN"].value
    assert a is b
    assert trace.nodes["b"].type == "deterministic"
    assert torch.isclose(trace.log_prob_sum(), dist.Normal(0.0, 1.0).log_prob(a))


def test_equalize_may_keep_the_densities():
    trace = handlers.trace(handlers.equalize(pair, ["a", "b"], keep_dist=True)).get_trace()
    a = trace.nodes["a"].value
    expected = dist.Normal(0.0, 1.0).log_prob(a) + dist.Normal(5.0, 1.0).log_prob(a)
    assert torch.isclose(trace.log_prob_sum(), expected)


def test_equalize_takes_parameters_and_forgets_them_after_a_run():
    def params():
        return param("p", torch.tensor(1.0)), param("q", torch.tensor(2.0))

    tied = handlers.equalize(params, ["p", "q"], type="param")
    assert [v.item() for v in tied()] == [1.0, 1.0]
    assert tied._value is None


def test_get_mask_joins_the_masks_in_force():
    assert handlers.get_mask() is None
    with (
        handlers.mask(mask=torch.tensor([True, False, True])),
        handlers.mask(mask=torch.tensor([True, True, False])),
    ):
        assert handlers.get_mask().tolist() == [True, False, False]


def test_block_function_decides_alone():
    blocked = handlers.block(pair, hide_fn=lambda site: site["name"] == "a", expose=["a"])
    assert handlers.trace(blocked).get_trace().names() == ["b"]


def test_trace_block_gives_a_copy_of_its_record():
    with handlers.trace() as recorder:
        pair()
    copy = recorder.get_trace()
    copy.remove_node("a")
    assert "a" in recorder.trace


def test_trace_takes_a_node_by_its_fields():
    record = handlers.Trace()
    record.add_node("x", name="x", type="sample", value=torch.tensor(1.0), is_observed=False)
    assert record.stochastic_nodes == ["x"]
