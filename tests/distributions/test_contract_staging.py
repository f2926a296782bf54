"""Every registered family: recorded as a graph, it computes what it computes eagerly."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from brancher.distributions.validation import validation_enabled
from brancher.staging.graph import purify, record


def through_a_graph(function: Any, *tensors: torch.Tensor) -> Any:
    """Results of a function, by way of its recorded and simplified graph."""
    traced = record(function, tensors, "family")
    with torch.no_grad():
        inputs = [*tensors, *traced.captured]
        return list(purify(traced, inputs).graph(*inputs))[: len(traced.samples)]


@pytest.mark.contract("staging")
def test_density_and_its_gradient_are_the_eager_ones(member: Any) -> None:
    given = {name: value for name, value in member.tensors().items() if isinstance(value, torch.Tensor)}
    names = [name for name, value in given.items() if value.is_floating_point()]
    x = member.make().sample()

    def value_and_gradient(x: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [value.detach().requires_grad_() for value in values]
        with validation_enabled(False), torch.enable_grad():
            density = member.make(**dict(zip(names, leaves, strict=True))).log_prob(x)
            if not density.requires_grad:
                return (density,)
            grads = torch.autograd.grad(density.sum(), leaves, allow_unused=True)
        return density, *[grad for grad in grads if grad is not None]

    tensors = [x, *[given[name] for name in names]]
    expected = value_and_gradient(*tensors)
    got = through_a_graph(value_and_gradient, *tensors)
    # float64; decompositions add and multiply in another order.
    torch.testing.assert_close(got, list(expected), rtol=1e-8, atol=1e-10)


@pytest.mark.contract("staging")
def test_draws_are_the_eager_ones(member: Any) -> None:
    given = {name: value for name, value in member.tensors().items() if isinstance(value, torch.Tensor)}

    def draw(*values: torch.Tensor) -> torch.Tensor:
        with validation_enabled(False):
            return member.make(**dict(zip(given, values, strict=True))).sample()

    torch.manual_seed(1)
    expected = draw(*given.values())
    torch.manual_seed(1)
    (got,) = through_a_graph(draw, *given.values())
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)
