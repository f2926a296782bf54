"""Inference of a program's own: searches through discrete programs, one inside the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

import pytest
import torch
from brancher.infer.abstract_infer import TracePosterior

import brancher.distributions as dist
from brancher import factor, handlers, sample
from brancher.errors import InferenceError
from brancher.infer import EmpiricalMarginal


class Search(TracePosterior):
    def __init__(self, model: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model

    def _traces(self, *args: Any) -> Iterator[tuple[handlers.Trace, torch.Tensor]]:
        todo: Queue[handlers.Trace] = Queue()
        todo.put(handlers.Trace())
        run = handlers.trace(handlers.queue(self.model, queue=todo))
        while not todo.empty():
            record = run.get_trace(*args)
            yield record, record.log_prob_sum()


class Words(dist.Distribution):
    """A law over words, by their probabilities; it says nothing of a support."""

    has_enumerate_support = True

    def __init__(self, masses: dict[str, float]) -> None:
        super().__init__()
        self.masses = masses

    def sample(self, sample_shape: Any = ()) -> str:  # type: ignore[override]
        return next(iter(self.masses))

    def enumerate_support(self) -> list[str]:  # type: ignore[override]
        return list(self.masses)

    def log_prob(self, value: str) -> torch.Tensor:  # type: ignore[override]
        return torch.tensor(self.masses[value]).log()


def coins() -> torch.Tensor:
    first = sample("first", dist.Bernoulli(0.5))
    return first + sample("second", dist.Bernoulli(0.25))


def test_search_finds_every_execution_with_its_weight() -> None:
    found = Search(coins).run()
    assert len(found.exec_traces) == 4
    torch.testing.assert_close(torch.stack(found.log_weights).exp().sum(), torch.tensor(1.0))


def test_marginal_of_traces_is_that_of_the_return_value_or_of_sites() -> None:
    found = Search(coins).run()
    torch.testing.assert_close(
        EmpiricalMarginal(found).log_prob(torch.tensor([0.0, 1.0, 2.0])).exp(),
        torch.tensor([0.375, 0.5, 0.125]),
    )
    torch.testing.assert_close(EmpiricalMarginal(found, sites="second").mean, torch.tensor(0.25))
    both = EmpiricalMarginal(found, sites=["first", "second"])
    torch.testing.assert_close(both.mean, torch.tensor([0.5, 0.25]))


def test_inference_inside_a_model_is_hidden_from_it() -> None:
    def outer() -> torch.Tensor:
        inner = EmpiricalMarginal(Search(coins).run())
        heads = sample("heads", dist.Bernoulli(0.5))
        factor("agree", inner.log_prob(heads))
        return heads

    found = Search(outer).run()
    assert [record.stochastic_nodes for record in found.exec_traces] == [["heads"], ["heads"]]
    torch.testing.assert_close(EmpiricalMarginal(found).mean, torch.tensor(0.5 / 0.875))


def test_a_law_over_words_is_searched_and_observed() -> None:
    def model() -> torch.Tensor:
        state = sample("state", dist.Bernoulli(0.5))
        sample("said", Words({"some": 0.2, "all": 0.8} if state else {"some": 1.0, "all": 0.0}), obs="some")
        return state

    torch.testing.assert_close(EmpiricalMarginal(Search(model).run()).mean, torch.tensor(0.1 / 0.6))
    said = Search(lambda: sample("said", Words({"some": 0.2, "all": 0.8}))).run()
    assert [record.nodes["said"].value for record in said.exec_traces] == ["some", "all"]


def test_a_call_draws_a_trace_by_its_weight() -> None:
    sure = Search(lambda: sample("x", dist.Bernoulli(1.0)))
    assert float(sure()["x"].value) == 1.0


def test_no_trace_of_finite_weight_error() -> None:
    def never() -> None:
        factor("no", torch.tensor(-torch.inf))

    with pytest.raises(InferenceError, match="expected a trace of finite weight, got 1"):
        Search(never)()


def test_marginal_before_the_run_error() -> None:
    with pytest.raises(InferenceError, match="expected Search with traces, got none"):
        EmpiricalMarginal(Search(coins))


def test_several_chains_error() -> None:
    class Chains(Search):
        def __init__(self) -> None:
            TracePosterior.__init__(self, num_chains=2)

    with pytest.raises(InferenceError, match="num_chains=1, got 2"):
        Chains()
