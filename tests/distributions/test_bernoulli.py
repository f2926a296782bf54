"""Bernoulli's density of zeros and ones by one log-sigmoid, and of everything else."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import logsigmoid

from brancher.distributions import Bernoulli

INF = float("inf")


def log_prob(logits, value):
    return Bernoulli(logits=logits, validate_args=False).log_prob(value)


def weighed(logits, value):
    return value * logsigmoid(logits) + (1.0 - value) * logsigmoid(-logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_zeros_and_ones_in_any_dtype(dtype):
    logits = torch.linspace(-60.0, 60.0, 7, dtype=torch.float64).requires_grad_()
    value = torch.tensor([0, 1, 0, 1, 0, 1, 0], dtype=dtype)
    got, exact = log_prob(logits, value), weighed(logits, value.double())
    torch.testing.assert_close(got, exact, rtol=1e-12, atol=0.0)
    slope = torch.autograd.grad(got.sum(), logits)[0]
    torch.testing.assert_close(slope, value.double() - torch.sigmoid(logits), rtol=1e-9, atol=1e-15)


def test_values_in_between_weigh_both_outcomes():
    logits, value = torch.tensor([-2.0, 0.5, 30.0]), torch.tensor([0.3, 1.0, 0.9])
    torch.testing.assert_close(log_prob(logits, value), weighed(logits, value))


def test_data_that_change_in_place_are_looked_at_again():
    logits, value = torch.tensor([-2.0, 0.5]), torch.tensor([0.0, 1.0])
    assert torch.equal(log_prob(logits, value), logsigmoid(torch.tensor([2.0, 0.5])))
    value.numpy()[:] = 0.25
    torch.testing.assert_close(log_prob(logits, value), weighed(logits, value))


def test_infinite_logits():
    logits = torch.tensor([INF, -INF, INF, -INF], requires_grad=True)
    got = log_prob(logits, torch.tensor([1.0, 0.0, 0.0, 1.0]))
    assert got.tolist() == [0.0, 0.0, -INF, -INF]
    assert torch.autograd.grad(got[:2].sum(), logits)[0].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_gradient_with_respect_to_the_value():
    logits, value = torch.tensor([1.5, -0.5]), torch.tensor([0.0, 1.0], requires_grad=True)
    assert torch.allclose(torch.autograd.grad(log_prob(logits, value).sum(), value)[0], logits)


@pytest.mark.parametrize("entries", [(0.0, 1.0), (0.2, 1.0)])
def test_vmap(entries):
    logits, value = torch.randn(3, 2), torch.tensor(entries).expand(3, 2)
    torch.testing.assert_close(torch.vmap(log_prob)(logits, value), weighed(logits, value))


def test_a_trace_does_not_fix_what_it_saw():
    from torch.fx.experimental.proxy_tensor import make_fx

    logits, value = torch.randn(4), torch.tensor([0.0, 1.0, 1.0, 0.0])
    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(log_prob, tracing_mode=mode)(logits, value)
        assert not any("equal" in str(node.target) for node in graph.graph.nodes)
        torch.testing.assert_close(graph(logits, value * 0.25), weighed(logits, value * 0.25))
